"""Keys in the wrong hands: epochs that their author alone can open, that some cannot, that an outsider can."""

from __future__ import annotations

from collections.abc import Sequence

from meshnode.core import epochs
from meshnode.core.events import Now
from meshnode.core.ids import DeviceId, KeyId
from meshnode.core.prekeys import Prekey, PrekeySecret, make_throwaway
from meshnode.core.replica import Replica
from simulations.liars.mind import CannotTellError, LyingNode, Mind
from simulations.liars.ring import ACTS
from simulations.liars.telling import Telling
from simulations.scenario.plan import Lie


def seal_to_itself(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B9. To its mind alone, which keeps the key from its own node too; or to some members and not to others, so that
    those judge it. Its body says so: nobody may write under it (E1)."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    replica, me = telling.replica(), node.identity.device
    others = [member.device for member in replica.group.members() if member.device != me]
    some = telling.rng.sample(others, telling.rng.choice((0, telling.rng.randrange(max(1, len(others))))))
    log = telling.log(replica)
    key = telling.rng.randbytes(epochs.EPOCH_KEY_BYTES)
    recipients = [make_throwaway(me, telling.rng.randbytes), *prekeys(telling, some)]
    telling.utter(log.write_epoch(recipients, key, telling.rng.randbytes, node.sealer), ACTS)
    log.go_over_to(key)
    telling.record(log, ACTS)
    telling.hand(log, links)


def seal_wrong_key(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B9. The body names all members; some find another key in their box, or one that opens nothing."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    replica = telling.replica()
    recipients = prekeys(telling, [member.device for member in replica.group.members()])
    others = [prekey for prekey in recipients if prekey.device != node.identity.device]
    victims = telling.rng.sample(others, telling.rng.randrange(1, len(others) + 1)) if others else []
    key, wrong = (telling.rng.randbytes(epochs.EPOCH_KEY_BYTES) for _ in range(2))
    log = telling.log(replica)
    package = package_of(telling, replica, recipients, key, {prekey.device: wrong for prekey in victims})
    telling.utter(log.write_epoch(recipients, key, telling.rng.randbytes, node.sealer, package), ACTS)
    log.go_over_to(key)
    telling.record(log, ACTS)
    telling.hand(log, links)


def seal_to_outsider(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B10. The keys of the whole record, up to now, to somebody who is no member."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    replica = telling.replica()
    members = [member.device for member in replica.group.members()]
    roster = node.rollcall.roster
    outsiders = [
        one
        for noc in roster.nocs()
        for one in roster.devices_of(noc)
        if not replica.group.is_member(one.certificate.device)
    ]
    if not outsiders:
        raise CannotTellError("everybody is a member")
    outsider = telling.rng.choice(outsiders)
    key = telling.rng.randbytes(epochs.EPOCH_KEY_BYTES)
    log = telling.log(replica)
    recipients = [*prekeys(telling, members), outsider.prekey]
    made = telling.utter(log.write_epoch(recipients, key, telling.rng.randbytes, node.sealer), ACTS)
    device, noc = outsider.certificate.device, outsider.certificate.noc
    mind.ring.leak(now.monotonic_s, mind.name, made, noc, device, given_away(replica, made.key_id))
    telling.hand(
        log, [*links, *(row for row in node.honest_links() if node.peers.by_link[row[0]].identity.device == device)]
    )


def given_away(replica: Replica, key_id: KeyId) -> set[KeyId]:
    """The keys that who holds this new one finds, from body to body."""
    found, waiting = {key_id}, list(replica.group.parent_keys())
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting.extend(replica.group.lineage.parents(key))
    return found


def prekeys(telling: Telling, devices: Sequence[DeviceId]) -> list[Prekey]:
    """CannotTellError when one is not known: then the lie would show by its form."""
    found = [telling.node.rollcall.roster.get(device) for device in devices]
    known = [enrolled.prekey for enrolled in found if enrolled is not None]
    if len(known) < len(devices):
        raise CannotTellError("a prekey is not known")
    return known


def package_of(
    telling: Telling, replica: Replica, recipients: Sequence[Prekey], key: bytes, instead: dict[DeviceId, bytes]
) -> bytes:
    """A package in which these devices find another key. Its tags are those of ``key``, so they look into their box."""
    return epochs.make_package(
        recipients, key, replica.incident, telling.rng.randbytes, _Swapping(telling.node.sealer, recipients, instead)
    )


class _Swapping:
    """Seals another key to some of the recipients."""

    def __init__(self, sealer: epochs.Sealer, recipients: Sequence[Prekey], instead: dict[DeviceId, bytes]) -> None:
        self._sealer = sealer
        self._instead = {prekey.x25519: instead[prekey.device] for prekey in recipients if prekey.device in instead}

    def seal(self, mlkem: bytes, x25519: bytes, info: bytes, plaintext: bytes) -> bytes:
        return self._sealer.seal(mlkem, x25519, info, self._instead.get(x25519, plaintext))

    def open(self, secret: PrekeySecret, info: bytes, box: bytes) -> bytes | None:
        return self._sealer.open(secret, info, box)
