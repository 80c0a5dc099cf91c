"""When to ask for a key and whose turn it is to answer, step by step; and what a replica misses."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from forger import Forger
from hostile_mesh import Mesh
from test_node_reseal import KEY, KEY_ID, lock_out, prekeys, replica, reseals, said

from meshnode.core import epochs
from meshnode.core.acts import ASKED_KEYS_MAX, ask_act
from meshnode.core.ids import DeviceId, EntryHash, KeyId, LogId
from meshnode.core.prekeys import PRIVATE_BYTES, PrekeySecret, public_halves
from meshnode.core.replica import BARRED_STEPS_MAX, Waiting
from meshnode.core.reseal import (
    ANSWER_INTERVAL_S,
    ASK_AFTER_S,
    ASK_INTERVAL_MAX_S,
    ASK_INTERVAL_S,
    KEYLESS_INTERVAL_S,
    AskFor,
    SealAgain,
    _Need,
)


@pytest.fixture
def mesh() -> Mesh:
    """DE is locked out, BE has written under the new key."""
    mesh = Mesh(11)
    lock_out(mesh.forger, mesh.de, [mesh.be, mesh.nl])
    mesh.world.run(1.0)
    mesh.world.log(mesh.be, mesh.incident, "under the new key")
    mesh.world.run(1.0)
    return mesh


def test_what_is_missing_is_asked_for_after_two_looks_and_then_ever_more_seldom(mesh: Mesh) -> None:
    de = replica(mesh.de, mesh.incident)
    machine = mesh.de.node.incidents.reseals
    replicas = mesh.de.node.incidents.replicas
    assert de.held_up
    assert machine.next_deadline() is not None
    now_s = 1000.0
    assert machine.due(replicas, now_s) == []  # seen once
    asked_at = []
    for _ in range(2000):
        now_s += ASK_AFTER_S
        for due in machine.due(replicas, now_s):
            assert isinstance(due, AskFor)
            assert due.keys == (KEY_ID,)
            assert due.attempt == min(len(asked_at) + 1, 8)
            machine.on_done(due, now_s)
            asked_at.append(now_s)
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses[:3] == [ASK_INTERVAL_S, 2 * ASK_INTERVAL_S, 4 * ASK_INTERVAL_S]
    assert max(pauses) == ASK_INTERVAL_MAX_S


def test_an_ask_that_could_not_be_written_is_due_again(mesh: Mesh) -> None:
    machine = mesh.de.node.incidents.reseals
    replicas = mesh.de.node.incidents.replicas
    machine.due(replicas, 1000.0)
    for now_s in (1010.0, 1020.0):
        (due,) = machine.due(replicas, now_s)
        assert isinstance(due, AskFor)
        assert due.attempt == 1


def test_when_nothing_is_missing_any_more_the_count_of_attempts_starts_again(mesh: Mesh) -> None:
    machine = mesh.de.node.incidents.reseals
    replicas = mesh.de.node.incidents.replicas
    de = replicas[mesh.incident]
    machine.due(replicas, 1000.0)
    machine.on_done(machine.due(replicas, 1010.0)[0], 1010.0)
    (waiting,) = [log for log in de._logs.values() if log.waiting is not None and log.writer is not None]
    (first,) = [log for log in de._logs.values() if log.waiting is not None and log.writer is None]
    kept, first.waiting, waiting.waiting = first.waiting, None, Waiting(parent=EntryHash(bytes(32)))
    assert machine.due(replicas, 1020.0) == []  # held up, by what nobody has sent
    assert machine._needs[mesh.incident].asked == machine._needs[mesh.incident].paces == {}
    waiting.waiting = kept
    machine.due(replicas, 1080.0)
    assert [due.attempt for due in machine.due(replicas, 1090.0) if isinstance(due, AskFor)] == [1]
    waiting.waiting = None
    assert machine.due(replicas, 1100.0) == []
    assert machine.next_deadline() is None  # nothing holds anybody up


def test_parents_are_followed_to_the_key_that_bars_the_way_and_not_for_ever(mesh: Mesh) -> None:
    de = replica(mesh.de, mesh.incident)
    assert de.missing_keys(mesh.de.identity.device) == {KEY_ID: {mesh.be.identity.device}}
    assert de.missing_keys(mesh.be.identity.device) == {}  # its own log is nobody else's
    logs = {log: de._log(LogId(bytes([number]) * 32)) for number, log in enumerate(range(BARRED_STEPS_MAX + 2))}
    hashes = {number: EntryHash(bytes([number]) * 32) for number in logs}
    de._store.find = lambda incident, parent: (LogId(parent), 1)  # type: ignore[method-assign] - every parent is stored
    for number, log in logs.items():
        log.waiting = Waiting(parent=hashes.get(number + 1))
    logs[BARRED_STEPS_MAX + 1].waiting = Waiting(key_id=KEY_ID)
    assert de._barred_by(logs[1].waiting) == {KEY_ID}
    assert de._barred_by(logs[0].waiting) == set()
    logs[2].waiting = None
    assert de._barred_by(logs[1].waiting) == set()  # that log goes on


def test_an_answer_that_cannot_be_made_is_told_and_the_node_goes_on(mesh: Mesh) -> None:
    for host in (mesh.be, mesh.nl):
        del host.node.rollcall.roster._devices[mesh.de.identity.device]
        mesh.world.partition(host.name)
    asker = Forger(mesh.world, mesh.de, mesh.incident, "asker")
    asker.write(asker.content(acts=(ask_act(1, [KEY_ID]),)))
    be = mesh.be.node.incidents
    fresh = be._holdings.take_untrusted(asker.run())
    assert fresh.seal is not None
    be.accept(fresh.entries, fresh.seal, mesh.world.time_of(0))
    mesh.world.run(20.0)
    assert said(mesh.be, "no-prekey") == 1
    assert said(mesh.be, "key-resealed") == 0


def test_a_neighbour_without_a_key_counts_once_in_five_minutes_and_not_when_it_reads_after_all(mesh: Mesh) -> None:
    machine, be = mesh.be.node.incidents.reseals, replica(mesh.be, mesh.incident)
    de, key = mesh.de.identity.device, (mesh.incident, mesh.de.identity.device)
    for now_s in (1000.0, 1001.0, 1000.0 + KEYLESS_INTERVAL_S):
        machine.on_keyless(be, de, now_s)
    assert machine._keyless[key].attempt == 2
    machine.on_reads(mesh.incident, de)
    assert machine.next_deadline() is None
    machine.on_keyless(be, de, 1299.0 + KEYLESS_INTERVAL_S)
    assert machine.next_deadline() is None  # it said so a moment ago, and then that it reads
    machine.on_done(SealAgain(mesh.incident, de, ()), 1295.0 + KEYLESS_INTERVAL_S)
    machine.on_keyless(be, de, 1300.0 + KEYLESS_INTERVAL_S)
    assert machine._keyless[key].attempt == 1
    assert machine.next_deadline() == 1295.0 + KEYLESS_INTERVAL_S + ANSWER_INTERVAL_S
    machine.on_reads(mesh.incident, mesh.be.identity.device)
    machine.on_keyless(be, DeviceId(bytes(32)), 5000.0)
    assert list(machine._keyless) == [key]  # the others are no members, or never said so


def test_without_a_usable_key_nothing_is_asked_or_answered(mesh: Mesh) -> None:
    be = mesh.be.node.incidents
    be.replicas[mesh.incident].group.write_key = lambda: None  # type: ignore[method-assign] - members are changing
    be._get_back_in(AskFor(mesh.incident, 1, (KEY_ID,)), mesh.world.time_of(0))
    assert said(mesh.be, "key-missing") == 0


def test_a_re_seal_alone_leads_back_to_the_beginning(mesh: Mesh) -> None:
    """Also where the entry that starts its epoch is not stored yet."""
    mesh.world.run(60.0)
    assert reseals(mesh.be, mesh.incident, mesh.de) == 1
    be, de = replica(mesh.be, mesh.incident), replica(mesh.de, mesh.incident)
    ((_, made),) = be.group.reseals_to(mesh.de.identity.device)
    (entry,) = be._store.read(mesh.incident, *made.position[:1], made.position[1], made.position[1])
    known = dict(de.keys)
    de.keys.clear()
    de._packages.clear()
    assert de.discover(entry, mesh.de.node.rollcall.ring.secrets())
    assert de.keys == known


@pytest.mark.parametrize(
    ("boxes", "code"), [(2, "package-boxes-missing"), (40, "package-boxes-missing"), (0, "malformed")]
)
def test_a_package_without_the_right_number_of_boxes_breaks_its_log_at_every_member(boxes: int, code: str) -> None:
    """Five recipients need eight boxes; what everybody can see is judged alike by who can open it and by who cannot."""
    mesh = Mesh(12)
    others = [mesh.world.add(noc, peers=("BE:1",)) for noc in ("FR", "LU")]
    mesh.world.run(3.0)
    mesh.world.share(mesh.be, mesh.incident, "FR", "LU")
    mesh.world.run(2.0)
    forger = Forger(mesh.world, mesh.nl, mesh.incident, "short")
    everybody = prekeys(forger, *mesh.everybody, *others)
    parents = [forger.replica.keys[key_id] for key_id in forger.replica.group.parent_keys()]
    body = epochs.EpochBody.make(everybody, parents).to_plain()
    source = random.Random(1)
    strangers = [public_halves(PrekeySecret(0, 0, source.randbytes(PRIVATE_BYTES))) for _ in range(boxes)]
    sealed_to = [replace(everybody[0], x25519=x25519, mlkem=mlkem) for x25519, mlkem in strangers]
    package = epochs.make_package(sealed_to, KEY, mesh.incident, source.randbytes) if boxes else b"\x83\x01\x40\x80"
    forger.write(forger.content(epoch=body), package=package, key_id=KEY_ID, epoch_key=KEY)
    forger.hand(forger.run(), *mesh.honest)
    for host in (*mesh.everybody, *others):
        replica(host, mesh.incident).learn_key(KEY_ID, KEY)  # whoever comes by the key judges alike
    mesh.world.run(30.0)
    for host in mesh.everybody:
        assert [broken.endswith(code) for _, broken in mesh.broken(host)] == [True]
    mesh.check_serving()


def test_an_ask_takes_keys_from_each_device_in_turn_whatever_ids_they_have() -> None:
    """A floods with the lowest ids; B and C wait for one key each."""
    a, b, c = (DeviceId(name * 32) for name in (b"a", b"b", b"c"))
    junk = [KeyId(bytes(31) + bytes([number])) for number in range(4 * ASKED_KEYS_MAX)]
    of_b, of_both = KeyId(b"y" * 32), KeyId(b"z" * 32)
    need = _Need(0.0)
    missing = {**dict.fromkeys(junk, frozenset({a})), of_b: frozenset({b}), of_both: frozenset({a, c})}
    need.look(missing, 0.0)
    first = need.choose(missing, 0.0)
    assert len(first) == ASKED_KEYS_MAX
    assert {of_b, of_both} < set(first)
    need.on_asked(first, 0.0)
    assert need.choose(missing, ASK_INTERVAL_S - 1.0) == []
    # One that was asked for in vain has its turn after the others of its device, and comes back to it.
    for number in range(1, 4):
        now_s = number * ASK_INTERVAL_MAX_S
        later = need.choose(missing, now_s)
        assert {of_b, of_both} < set(later)
        need.on_asked(later, now_s)
    assert set(need.asked) > set(junk[: 3 * ASKED_KEYS_MAX])


def test_what_is_asked_for_one_device_s_sake_in_vain_slows_no_other_down_and_ends_when_a_key_comes() -> None:
    a, b = DeviceId(b"a" * 32), DeviceId(b"b" * 32)
    junk, real, more = (KeyId(bytes([number]) * 32) for number in range(3))
    need = _Need(0.0)
    now_s = 0.0
    need.look({junk: frozenset({a})}, now_s)
    for pause_s in (60.0, 120.0, 240.0):
        need.on_asked(need.choose([junk], now_s), now_s)
        assert need.choose([junk], now_s + pause_s - 1.0) == []
        now_s += pause_s
    need.on_asked([junk], now_s)
    need.look({junk: frozenset({a}), real: frozenset({a, b})}, now_s)
    assert need.choose([junk, real], now_s) == [real]
    need.on_asked([real], now_s)
    need.look({junk: frozenset({a}), more: frozenset({b})}, now_s)
    assert need.choose([junk, more], now_s) == [junk, more]  # the key came: both count anew
    assert need.asked == {junk: 4}
    need.look({}, now_s)
    assert need.choose([], now_s) == []
    assert need.paces == {}


def test_more_devices_than_an_ask_has_keys_have_their_turn_one_look_later() -> None:
    devices = [DeviceId(bytes([number]) * 32) for number in range(40)]
    missing = {KeyId(device): frozenset({device}) for device in devices}
    need = _Need(0.0)
    asked: set[KeyId] = set()
    for number in range(3):
        need.look(missing, number * ASK_AFTER_S)
        chosen = need.choose(missing, number * ASK_AFTER_S)
        assert not asked & set(chosen)
        asked |= set(chosen)
        need.on_asked(chosen, number * ASK_AFTER_S)
    assert asked == missing.keys()
