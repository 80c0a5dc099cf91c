"""Members that are locked out of a key get back in by themselves: wrong boxes that only they can see (B9), N3, B16."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from forger import Forger
from hostile_mesh import Mesh
from nacl import bindings
from node_stories import alike, log_texts
from world import Host, World, full_mesh

from meshnode.core import codec, epochs, rollcall
from meshnode.core import prekeys as prekey_room
from meshnode.core.acts import ASKED_KEYS_MAX, Role, add_act, ask_act
from meshnode.core.ids import DeviceId, IncidentId, KeyId
from meshnode.core.prekeys import Prekey
from meshnode.core.replica import Replica
from meshnode.core.reseal import ASK_AFTER_S, ASK_INTERVAL_S
from meshnode.storage.memory import MemoryLogStore

KEY = b"h" * 32
KEY_ID = epochs.key_id(KEY)


def prekeys(forger: Forger, *hosts: Host) -> list[Prekey]:
    found = [forger.host.node.rollcall.roster.get(host.identity.device) for host in hosts]
    return [enrolled.prekey for enrolled in found if enrolled is not None]


def without_box(forger: Forger, others: list[Prekey], victim: Prekey) -> bytes:
    return epochs.make_package(others, KEY, forger.incident, forger.world.rng.randbytes)


def with_another_key(forger: Forger, others: list[Prekey], victim: Prekey) -> bytes:
    return _with_box(forger, others, victim, b"another key".ljust(32))


def with_garbage(forger: Forger, others: list[Prekey], victim: Prekey) -> bytes:
    return _with_box(forger, others, victim, None)


def _with_box(forger: Forger, others: list[Prekey], victim: Prekey, key: bytes | None) -> bytes:
    """A package with boxes for all, of which that of the victim is made wrong."""
    info = b"meshnode/1 epoch box" + forger.incident + KEY_ID
    ephemeral = forger.world.rng.randbytes(32)
    rows = []
    for prekey in [*others, victim]:
        shared = bindings.crypto_scalarmult(ephemeral, prekey.x25519)
        tag = epochs.derive_key("mn-box-tag", shared, forger.incident, KEY_ID)[:16]
        sealed = epochs.HPKE_SEALER.seal(prekey.mlkem, prekey.x25519, info, KEY)
        if prekey is victim:
            wrong = bytes(len(sealed)) if key is None else None
            sealed = wrong or epochs.HPKE_SEALER.seal(prekey.mlkem, prekey.x25519, info, key or b"")
        rows.append([tag, sealed])
    rows.append([forger.world.rng.randbytes(16), forger.world.rng.randbytes(epochs.BOX_BYTES)])
    return codec.encode([1, bindings.crypto_scalarmult_base(ephemeral), sorted(rows)])


Package = Callable[[Forger, list[Prekey], Prekey], bytes]


def lock_out(forger: Forger, victim: Host, others: list[Host], package: Package = without_box, *via: Host) -> None:
    """An epoch that everybody finds valid and that the victim cannot open."""
    everybody = prekeys(forger, *others, victim)
    parents = [forger.replica.keys[key_id] for key_id in forger.replica.group.parent_keys()]
    body = epochs.EpochBody.make(everybody, parents).to_plain()
    made = package(forger, everybody[:-1], everybody[-1])
    forger.write(forger.content(epoch=body), package=made, key_id=KEY_ID, epoch_key=KEY)
    forger.hand(forger.run(), *(via or [host for host in others if host is not forger.host]))


def replica(host: Host, incident: IncidentId) -> Replica:
    return host.node.incidents.replicas[incident]


def reseals(host: Host, incident: IncidentId, to: Host) -> int:
    return len(replica(host, incident).group.reseals_to(to.identity.device))


def said(host: Host, code: str) -> int:
    return host.node.outbox.counts.get(code, 0)


@pytest.mark.parametrize("package", [without_box, with_another_key, with_garbage], ids=lambda one: one.__name__)
def test_a_member_that_an_epoch_locks_out_asks_and_one_member_lets_it_in_again(package: Package) -> None:
    mesh = Mesh(2)
    lock_out(mesh.forger, mesh.de, [mesh.be, mesh.nl], package)
    mesh.world.run(1.0)
    assert replica(mesh.be, mesh.incident).group.write_key() == KEY_ID
    mesh.world.log(mesh.be, mesh.incident, "under the new key")
    mesh.world.run(1.0)
    assert log_texts(mesh.de, mesh.incident) == ["before"]
    assert ("package-wrong-key" in mesh.de.codes) == (package is not without_box)
    mesh.world.run(3 * ASK_AFTER_S)
    alike(mesh.everybody, mesh.incident)
    assert "under the new key" in log_texts(mesh.de, mesh.incident)
    assert [reseals(host, mesh.incident, mesh.de) for host in mesh.everybody] == [1, 1, 1]
    # It stands in the logs of the one who was locked out, of who let it in, and of all others, with who began it.
    assert said(mesh.de, "key-missing") == 1
    assert said(mesh.be, "key-resealed") + said(mesh.nl, "key-resealed") == 1
    (report,) = [report for report in mesh.be.reports if report.code == "key-asked"]
    assert "DE/1 cannot open a key" in report.reason
    assert "NL/1 started it" in report.reason
    mesh.check_serving()
    mesh.world.run(300.0)
    assert reseals(mesh.be, mesh.incident, mesh.de) == 1
    assert said(mesh.de, "key-missing") == 1


def test_it_gets_in_behind_a_hub_that_is_no_member_and_the_hub_learns_nothing_but_a_package() -> None:
    world = World(3)
    hub = world.add("EU")
    be, de, nl = (world.add(noc, peers=("EU:1",)) for noc in ("BE", "DE", "NL"))
    world.run(3.0)
    incident = world.open(be, share=("DE", "NL"))
    world.run(2.0)
    world.log(be, incident, "before")
    world.run(2.0)
    forger = Forger(world, nl, incident)
    lock_out(forger, de, [be, nl], without_box, hub)
    world.run(2.0)
    world.log(be, incident, "under the new key")
    world.run(60.0)
    alike([be, de, nl], incident)
    assert "under the new key" in log_texts(de, incident)
    assert not replica(hub, incident).keys


def test_it_gets_in_when_the_only_member_that_can_let_it_in_comes_back_later() -> None:
    mesh = Mesh(4)
    lock_out(mesh.forger, mesh.de, [mesh.be, mesh.nl])
    mesh.world.run(1.0)
    mesh.world.log(mesh.be, mesh.incident, "under the new key")
    mesh.world.run(1.0)
    mesh.world.crash(mesh.be)
    mesh.world.crash(mesh.nl)
    mesh.world.run(600.0)
    mesh.world.crash(mesh.de)
    mesh.world.restart(mesh.de)
    mesh.world.run(600.0)
    mesh.world.restart(mesh.be)
    mesh.world.run(120.0)
    alike(mesh.honest, mesh.incident)
    assert "under the new key" in log_texts(mesh.de, mesh.incident)


def test_a_member_that_answers_with_junk_costs_the_victim_one_attempt() -> None:
    mesh = Mesh(5)
    lock_out(mesh.forger, mesh.de, [mesh.be, mesh.nl])
    mesh.world.run(1.0)
    mesh.world.log(mesh.be, mesh.incident, "under the new key")
    mesh.be.node.incidents.reseals._rng.random = lambda: 4.0  # type: ignore[method-assign] - slower than the hostile
    answered = 0
    for _ in range(600):
        mesh.world.run(0.2)
        asked = said(mesh.be, "key-asked")
        if asked == 1 and not answered:
            answered = asked
            package = epochs.make_package(prekeys(mesh.forger, mesh.nl), KEY, mesh.incident, mesh.world.rng.randbytes)
            body = epochs.EpochBody.make(prekeys(mesh.forger, mesh.de), []).to_plain()
            mesh.forger.write(mesh.forger.content(epoch=body), package=package, key_id=KEY_ID, epoch_key=KEY)
            mesh.forger.hand(mesh.forger.run(mesh.forger.entries[-1:]), mesh.be)
            mesh.nl.node.incidents.reseals._owed.clear()
    assert answered
    alike(mesh.everybody, mesh.incident)
    assert "under the new key" in log_texts(mesh.de, mesh.incident)
    assert said(mesh.de, "key-missing") == 2
    assert reseals(mesh.be, mesh.incident, mesh.de) == 3  # the junk, and two for the second attempt


def test_a_member_away_for_longer_than_its_prekeys_live_gets_back_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """N3: what was sealed to it meanwhile opens with nothing that it still holds. A day takes ten seconds here."""
    monkeypatch.setattr(prekey_room, "ROTATION_MS", 10_000)
    monkeypatch.setattr(prekey_room, "KEPT_AFTER_REPLACED_MS", 140_000)
    monkeypatch.setattr(rollcall, "CHECK_INTERVAL_S", 5.0)
    world = World(6)
    be, nl, de = full_mesh(world, "BE", "NL", "DE")
    fr = world.add("FR", peers=("BE:1", "NL:1"))
    world.run(3.0)
    incident = world.open(be, share=("NL", "DE"))
    world.run(2.0)
    world.partition("DE")
    world.run(20.0)
    world.share(be, incident, "FR")
    world.log(be, incident, "while DE was away")
    sealed_to = de.node.rollcall.ring.secrets()
    world.run(300.0)
    assert not set(sealed_to) & set(de.node.rollcall.ring.secrets())
    world.heal()
    world.run(120.0)
    alike([be, nl, fr, de], incident)
    assert "while DE was away" in log_texts(de, incident)
    assert reseals(be, incident, de) == 1
    world.log(de, incident, "back")
    world.run(5.0)
    assert "back" in log_texts(fr, incident)


# --- false requests: B16 --------------------------------------------------------------------------------------------


def test_entries_under_keys_that_nobody_started_are_asked_for_seldom_and_answered_by_nobody() -> None:
    mesh = Mesh(7)
    mesh.forger.say("good")
    for number in range(2 * ASKED_KEYS_MAX):
        key = bytes([number]) * 32
        package = epochs.make_package(prekeys(mesh.forger, mesh.nl), key, mesh.incident, mesh.world.rng.randbytes)
        log = mesh.forger if not number else Forger(mesh.world, mesh.nl, mesh.incident, f"log {number}")
        if number:
            log.say("good")
        log.write(log.content(), package=package, key_id=epochs.key_id(key), epoch_key=key)
        log.hand(log.run(), *mesh.honest)
    mesh.world.run(3600.0)
    for host in mesh.honest:
        assert 1 <= said(host, "key-missing") <= 7  # after 1, 2, 4, ... minutes
        assert reseals(host, mesh.incident, mesh.be) == reseals(host, mesh.incident, mesh.de) == 0
    for host in mesh.honest:
        mesh.world.log(host, mesh.incident, f"{host.name} goes on")
    mesh.world.run(20.0)
    assert len({host.reading.digest(mesh.incident) for host in mesh.honest}) == 1


@pytest.mark.parametrize(("junk_logs", "before_s"), [(0, 1.0), (2 * ASKED_KEYS_MAX, 1.0), (1, 7_500.0)])
def test_junk_keys_neither_crowd_out_nor_slow_down_the_ask_for_a_key_that_others_write_under(
    junk_logs: int, before_s: float
) -> None:
    """Junk has the lowest ids, and is asked for again and again long before the lock-out."""
    mesh = Mesh(2)
    for number in range(junk_logs):
        log = Forger(mesh.world, mesh.nl, mesh.incident, f"junk {number}")
        log.say("nothing wrong")
        log.write(log.content(), key_id=KeyId(bytes(31) + bytes([number])), epoch_key=b"?" * 32)
        log.hand(log.run(), *mesh.honest)
    mesh.world.run(before_s)
    lock_out(mesh.forger, mesh.de, [mesh.be, mesh.nl])
    mesh.world.run(1.0)
    mesh.world.log(mesh.be, mesh.incident, "under the new key")
    mesh.world.run(2 * ASK_AFTER_S + 5.0)
    assert "under the new key" in log_texts(mesh.de, mesh.incident)


def test_a_member_device_that_nobody_has_keeps_nobody_from_writing_sharing_and_asking() -> None:
    """The opener turns hostile: it adds a device that does not exist, and gives the key of now away."""
    mesh = Mesh(6)
    boss = Forger(mesh.world, mesh.be, mesh.incident, "boss")
    boss.write(boss.content(acts=(add_act([(DeviceId(b"\x42" * 32), "XX", Role.READER)]),)))
    body = [1, [[b"\x01" * 32, 1]], []]
    package = epochs.make_package(prekeys(boss, mesh.be), boss.epoch_key, mesh.incident, mesh.world.rng.randbytes)
    boss.write(boss.content(epoch=body), package=package)
    boss.hand(boss.run(), mesh.de, mesh.nl)
    mesh.world.run(1.0)
    for text in ("at once", "an hour later"):
        mesh.world.log(mesh.de, mesh.incident, text)
        mesh.world.run(3600.0)
    mesh.world.crash(mesh.de)
    mesh.world.restart(mesh.de)
    mesh.world.log(mesh.de, mesh.incident, "after a restart")
    fr = mesh.world.add("FR", peers=("BE:1", "DE:1"))
    mesh.world.run(5.0)
    mesh.world.share(mesh.be, mesh.incident, "FR")
    mesh.world.run(60.0)
    alike([*mesh.everybody, fr], mesh.incident)
    assert {"at once", "an hour later", "after a restart"} < set(log_texts(fr, mesh.incident))
    assert sum(said(host, "key-not-sealed") for host in mesh.everybody) <= 4
    assert said(mesh.de, "epoch-not-renewed") == 0


def test_a_member_that_asks_all_the_time_is_answered_once_a_minute_by_each_and_not_when_it_shows_to_read() -> None:
    mesh = Mesh(8)
    held = replica(mesh.be, mesh.incident).group.write_key()
    assert held is not None
    quiet = Forger(mesh.world, mesh.nl, mesh.incident, "quiet")
    quiet.key_id = held
    lock_out(mesh.forger, mesh.de, [mesh.be, mesh.nl])
    mesh.nl.node.incidents.reseals._owed.clear()
    mesh.world.run(1.0)
    old_heads = [quiet.replica.hash_at(*quiet.replica.group.epoch_starts(held)[0])]
    for number in range(120):
        parents = () if number else tuple(old_heads)
        quiet.write(quiet.content(acts=(ask_act(8, [KEY_ID]),), parents=parents))
        quiet.hand(quiet.run(quiet.entries[-1:]), *mesh.honest)
        mesh.world.run(5.0)
    mesh.world.run(ASK_INTERVAL_S)
    by_be = [who for who, _ in replica(mesh.be, mesh.incident).group.reseals_to(mesh.nl.identity.device)]
    assert 1 <= by_be.count(mesh.be.identity.device) <= 12  # 600 s and one more
    # Who has shown to read the key is not answered.
    before = len(by_be)
    mesh.world.run(600.0)
    asker = Forger(mesh.world, mesh.nl, mesh.incident, "asker")
    asker.write(asker.content(acts=(ask_act(1, [KEY_ID]),)))
    asker.hand(asker.run(), *mesh.honest)
    mesh.world.run(120.0)
    assert reseals(mesh.be, mesh.incident, mesh.nl) == before


def test_a_device_that_is_no_member_asks_in_vain() -> None:
    mesh = Mesh(9)
    held = replica(mesh.be, mesh.incident).group.write_key()
    assert held is not None
    fr = mesh.world.add("FR", peers=("BE:1",))
    mesh.world.run(3.0)
    stranger = Forger(mesh.world, mesh.nl, mesh.incident, "stranger")
    opening = stranger.opening(fr.identity)
    stranger.write(stranger.content(acts=(ask_act(1, [KeyId(held)]),), opening=opening))
    stranger.hand(stranger.run(), *mesh.honest)
    mesh.world.run(60.0)
    for host in mesh.honest:
        assert "log-of-stranger" in host.codes
        assert reseals(host, mesh.incident, fr) == 0
    mesh.check_serving()


# --- a lost store ---------------------------------------------------------------------------------------------------


def lost_store(seed: int) -> tuple[World, Host, Host, Host, IncidentId]:
    """NL kept its keys and lost its disk: store, prekeys and epoch keys. It is no relay, as NOCs usually are none."""
    world = World(seed)
    be = world.add("BE", relay=False)
    de = world.add("DE", peers=("BE:1",), relay=False)
    nl = world.add("NL", peers=("BE:1", "DE:1"), relay=False)
    world.run(3.0)
    incident = world.open(be, share=("DE", "NL"))
    world.run(2.0)
    world.log(nl, incident, "by NL")
    world.log(be, incident, "by BE")
    world.run(5.0)
    world.crash(nl)
    nl.store = MemoryLogStore()
    return world, be, de, nl, incident


def test_a_member_that_lost_its_store_is_let_in_by_a_neighbour_that_reads_the_record() -> None:
    world, be, de, nl, incident = lost_store(21)
    world.run(60.0)
    world.restart(nl)
    world.run(60.0)
    alike([be, de, nl], incident)
    assert sorted(log_texts(nl, incident)) == ["by BE", "by NL"]
    assert reseals(be, incident, nl) == 1
    assert said(be, "key-resealed") + said(de, "key-resealed") == 1
    world.log(nl, incident, "back")
    world.run(2000.0)
    assert "back" in log_texts(de, incident)
    assert reseals(be, incident, nl) == 1


def test_a_neighbour_that_answers_a_lost_store_with_junk_costs_an_attempt() -> None:
    world, be, de, nl, incident = lost_store(22)
    answered = 0
    honest = be.node.incidents._package

    def junk(replica: Replica, recipients: list[Prekey], key: bytes) -> bytes:
        nonlocal answered
        answered += 1
        stranger = be.node.rollcall.roster.get(de.identity.device)
        assert stranger is not None
        return honest(replica, [stranger.prekey], key)

    be.node.incidents._package = junk  # type: ignore[method-assign] - a hostile member
    world.restart(nl)
    world.run(1500.0)
    assert answered >= 1
    alike([be, de, nl], incident)


def test_who_is_no_member_is_shown_packages_and_sealed_nothing() -> None:
    world, be, _, _, incident = lost_store(23)
    fr = world.add("FR", peers=("BE:1",), relay=False)
    world.run(2000.0)
    assert reseals(be, incident, fr) == 0
    assert not fr.node.incidents.is_member(incident)
    assert said(be, "key-resealed") == 0
    world.share(be, incident, "FR")  # its own epoch lets it in
    world.run(60.0)
    alike([be, fr], incident)
    assert reseals(be, incident, fr) == 0
