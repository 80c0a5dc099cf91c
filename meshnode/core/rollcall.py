"""Keeping the roster alike everywhere, and this node's own prekey fresh in it.

Two rosters that differ exchange serials and hashes, then the records one of them lacks; a record that is new here is
stored and pushed on. The node's own prekey is renewed when it is due; the private part is durable before its record is
spoken, because both are staged in the same step.

A record of this very device that this node did not make says that the device was restored from a backup, or that two
copies of it run. The node then makes a prekey that ends it. Of other devices such a state shows as twins
(core/roster.py): the operator is told, and it is over when the device has done the same.
"""

from __future__ import annotations

from collections.abc import Callable

from meshnode.core import codec, prekeys, vault, wire
from meshnode.core.events import Now
from meshnode.core.identity import Identity
from meshnode.core.ids import DeviceId
from meshnode.core.keys import RandomBytes
from meshnode.core.log import LogStore
from meshnode.core.outbox import Outbox
from meshnode.core.prekeys import PrekeyRing
from meshnode.core.roster import Enrolled, Roster
from meshnode.errors import UntrustedInputError

RING_NAMESPACE = "prekey-ring"
ROSTER_NAMESPACE = "roster"
KEPT_BY_HONEST_PEERS = frozenset({"roster-full", "prekey-version", "certificate-version"})
"""Why a record is not taken that a peer may pass on in good faith: to lose the link for it would be a partition."""
OUTBID_INTERVAL_S = 3_600.0
"""How often this node makes a prekey because of a record of its device that it did not make, and how often it tells of
the twins of another device."""
PUSH_INTERVAL_S = 0.2
"""Between two pushes of new records: when a mesh starts, hundreds come in a second, and each was a message on every
link. One that comes alone is pushed at once."""
CHECK_INTERVAL_S = 600.0
"""How often the node looks whether its prekey is due: small beside the 24 hours of its life."""

Put = Callable[[str, bytes, bytes], None]


class Rollcall:
    """``put`` stages a row of the store."""

    def __init__(
        self, identity: Identity, store: LogStore, outbox: Outbox, random_bytes: RandomBytes, put: Put, now: Now
    ) -> None:
        self._identity = identity
        self._outbox = outbox
        self._random_bytes = random_bytes
        self._put = put
        self.roster = Roster(identity.network_root)
        self.ring = self._load_ring(store)
        self.twins: dict[DeviceId, int] = {}
        """Devices of which the roster holds twins, with the wall milliseconds since when; the longest known first."""
        self._twins_told: dict[DeviceId, float] = {}
        self._load_roster(store, now)
        self._compare_own()
        self.check_at = now.monotonic_s
        self._unsaid: list[tuple[Enrolled, int | None]] = []
        """New records that are passed on together, and the link that brought each; None for an own one."""
        self._say_at = now.monotonic_s
        self._outbid_at = now.monotonic_s

    def _load_ring(self, store: LogStore) -> PrekeyRing:
        sealed = store.get(RING_NAMESPACE, b"")
        if sealed is None:
            return PrekeyRing()
        plain = vault.open_at_rest(self._identity.store_key, RING_NAMESPACE, b"", sealed)
        return PrekeyRing.from_plain(codec.decode_trusted(plain))

    def _load_roster(self, store: LogStore, now: Now) -> None:
        for device, value in store.scan(ROSTER_NAMESPACE):
            for bundle, record in codec.decode_trusted(value):
                try:
                    self.roster.accept_untrusted(bundle, record)
                except UntrustedInputError as error:
                    self._outbox.report(error.code, f"a stored roster record: {error.reason}")
            self._look_for_twins(DeviceId(device), now)

    def _compare_own(self) -> None:
        """Unless the mesh was told exactly the ring's current prekey, with the certificate of now, another must follow:
        also after ring or roster was lost, whatever the clock says."""
        own, current = self.roster.records(self._identity.device), self.ring.current
        serials = [enrolled.prekey.serial for enrolled in own]
        if current is not None:
            if serials == [current.serial] and own[0].bundle == self._identity.certificate.bundle:
                return
            serials.append(current.serial)
        self.ring.rise_above(max(serials, default=0))

    # --- messages -------------------------------------------------------------------------------------------------

    def send_rows(self, link: int) -> None:
        """To a peer whose roster differs."""
        rows = self.roster.rows()
        for start in range(0, max(1, len(rows)), wire.LIST_MAX):
            part = tuple(rows[start : start + wire.LIST_MAX])
            self._outbox.send(link, wire.Roster(part, start + wire.LIST_MAX >= len(rows)))

    def on_roster(self, link: int, message: wire.Roster) -> None:
        wanted = self.roster.wanted(message.rows)
        for start in range(0, len(wanted), wire.ROSTER_RECORDS_MAX):
            self._outbox.send(link, wire.RosterWant(tuple(wanted[start : start + wire.ROSTER_RECORDS_MAX])))

    def on_roster_want(self, link: int, message: wire.RosterWant) -> None:
        records = [_signed(enrolled) for device in message.devices for enrolled in self.roster.records(device)]
        for start in range(0, len(records), wire.ROSTER_RECORDS_MAX):
            part = tuple(records[start : start + wire.ROSTER_RECORDS_MAX])
            self._outbox.send(link, wire.RosterRecords(part), bulk=True)

    def on_records(self, link: int, message: wire.RosterRecords, links: list[int], now: Now) -> None:
        """Takes in newer records and pushes them on to the other ``links``: at once, or together with what else comes
        while the last push is not PUSH_INTERVAL_S old.

        Raises UntrustedInputError for what no honest peer would have kept.
        """
        for bundle, record in message.records:
            try:
                enrolled = self.roster.accept_untrusted(bundle, record)
            except UntrustedInputError as error:
                if error.code not in KEPT_BY_HONEST_PEERS:
                    raise
                self._outbox.report(error.code, error.reason, link)
                continue
            if enrolled is None:
                continue
            self._keep(enrolled, now)
            self._unsaid.append((enrolled, link))
            if enrolled.prekey.device == self._identity.device:
                self.ring.rise_above(enrolled.prekey.serial)
                self._outbox.report("restored-or-cloned", "peers know a prekey of this device that it did not make")
                self.rotate(links, now)
        self._say(links, now)

    def _look_for_twins(self, device: DeviceId, now: Now) -> None:
        """Twins of another device are told of when they appear; at most hourly, whatever a hostile device makes."""
        records = self.roster.records(device)
        if len(records) <= 1:
            self.twins.pop(device, None)
            return
        if device in self.twins:
            return
        self.twins[device] = now.wall_ms
        if device != self._identity.device and now.monotonic_s >= self._twins_told.get(device, now.monotonic_s):
            self._twins_told[device] = now.monotonic_s + OUTBID_INTERVAL_S
            who = f"{records[0].certificate.noc}/{records[0].certificate.name}"
            self._outbox.report("device-twin", f"{who} signed two prekeys with serial {records[0].prekey.serial}")

    # --- the own prekey -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return min(self.check_at, self._say_at) if self._unsaid else self.check_at

    def handle_deadline(self, links: list[int], now: Now) -> None:
        self._say(links, now)
        if now.monotonic_s >= self.check_at:
            self.check_at = now.monotonic_s + CHECK_INTERVAL_S
            self.rotate(links, now)

    def rotate(self, links: list[int], now: Now) -> None:
        """Erases old private parts and makes a new prekey, where it is time."""
        wall_ms = max(0, now.wall_ms)
        changed = bool(self.ring.expire(wall_ms))
        if self.ring.rotate_due(wall_ms) and self._may_rotate(now):
            serial = self.ring.next_serial(wall_ms)
            secret, record = prekeys.make_prekey(
                self._identity.device_key, self._identity.certificate.bundle, serial, wall_ms, self._random_bytes
            )
            self.ring.add(secret, wall_ms)
            enrolled = self.roster.accept_untrusted(self._identity.certificate.bundle, record)
            if enrolled is not None:
                self._keep(enrolled, now)
                self._unsaid.append((enrolled, None))
                self._say(links, now)
            changed = True
        if changed:
            plain = codec.encode(self.ring.to_plain())
            sealed = vault.seal_at_rest(self._identity.store_key, RING_NAMESPACE, b"", plain, self._random_bytes)
            self._put(RING_NAMESPACE, b"", sealed)

    def _may_rotate(self, now: Now) -> bool:
        """Two live copies of one device would outbid each other for ever: each does so at most once an hour."""
        if not self.ring.is_outdated:
            return True
        if now.monotonic_s < self._outbid_at:
            return False
        self._outbid_at = now.monotonic_s + OUTBID_INTERVAL_S
        return True

    def _say(self, links: list[int], now: Now) -> None:
        """Pushes what is new, once for all links; not to the one that brought all of it."""
        if not self._unsaid or now.monotonic_s < self._say_at:
            return
        sources = {source for _, source in self._unsaid}
        records = tuple(_signed(enrolled) for enrolled, _ in self._unsaid)
        self._unsaid.clear()
        others = [link for link in links if sources != {link}]
        if not others:
            return
        self._say_at = now.monotonic_s + PUSH_INTERVAL_S
        for start in range(0, len(records), wire.ROSTER_RECORDS_MAX):
            data = wire.encode(wire.RosterRecords(records[start : start + wire.ROSTER_RECORDS_MAX]))
            for link in others:
                self._outbox.send_encoded(link, data, droppable=True)

    def _keep(self, enrolled: Enrolled, now: Now) -> None:
        device = enrolled.prekey.device
        rows = [list(_signed(record)) for record in self.roster.records(device)]
        self._put(ROSTER_NAMESPACE, device, codec.encode(rows))
        self._look_for_twins(device, now)


def _signed(enrolled: Enrolled) -> tuple[bytes, bytes]:
    """(certificate bundle, prekey record), as they were signed."""
    return enrolled.bundle, enrolled.record
