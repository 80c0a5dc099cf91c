"""Keeping the roster alike everywhere, and this node's own prekey fresh in it.

Two rosters that differ exchange serials, then the records one of them lacks; a record that is new here is stored and
pushed on. The node's own prekey is renewed when it is due; the private part is durable before its record is spoken,
because both are staged in the same step.
"""

from __future__ import annotations

from collections.abc import Callable

from meshnode.core import codec, prekeys, vault, wire
from meshnode.core.events import Now
from meshnode.core.identity import Identity
from meshnode.core.keys import RandomBytes
from meshnode.core.log import LogStore
from meshnode.core.outbox import Outbox
from meshnode.core.prekeys import PrekeyRing
from meshnode.core.roster import Enrolled, Roster
from meshnode.errors import UntrustedInputError

RING_NAMESPACE = "prekey-ring"
ROSTER_NAMESPACE = "roster"
KEPT_BY_HONEST_PEERS = frozenset({"roster-full", "prekey-version", "certificate-version", "prekey-other-noc"})
"""Why a record is not taken that a peer may pass on in good faith: to lose the link for it would be a partition."""
OUTBID_INTERVAL_S = 3_600.0
"""How often this node makes a prekey because peers know a later one of its device."""
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
        self._load_roster(store)
        mine = self.roster.get(identity.device)
        if mine is not None:  # above it also after the ring was lost, whatever the clock says
            self.ring.on_own_record(mine.prekey)
        self.check_at = now.monotonic_s
        self._outbid_at = now.monotonic_s

    def _load_ring(self, store: LogStore) -> PrekeyRing:
        sealed = store.get(RING_NAMESPACE, b"")
        if sealed is None:
            return PrekeyRing()
        plain = vault.open_at_rest(self._identity.store_key, RING_NAMESPACE, b"", sealed)
        return PrekeyRing.from_plain(codec.decode_trusted(plain))

    def _load_roster(self, store: LogStore) -> None:
        for _, value in store.scan(ROSTER_NAMESPACE):
            bundle, record = codec.decode_trusted(value)
            try:
                self.roster.accept_untrusted(bundle, record)
            except UntrustedInputError as error:
                self._outbox.report(error.code, f"a stored roster record: {error.reason}")

    # --- messages -------------------------------------------------------------------------------------------------

    def send_serials(self, link: int) -> None:
        """To a peer whose roster differs."""
        serials = self.roster.serials()
        for start in range(0, max(1, len(serials)), wire.LIST_MAX):
            part = tuple(serials[start : start + wire.LIST_MAX])
            self._outbox.send(link, wire.Roster(part, start + wire.LIST_MAX >= len(serials)))

    def on_roster(self, link: int, message: wire.Roster) -> None:
        newer = self.roster.newer_than_mine(message.serials)
        for start in range(0, len(newer), wire.ROSTER_RECORDS_MAX):
            self._outbox.send(link, wire.RosterWant(tuple(newer[start : start + wire.ROSTER_RECORDS_MAX])))

    def on_roster_want(self, link: int, message: wire.RosterWant) -> None:
        found = [enrolled for enrolled in map(self.roster.get, message.devices) if enrolled is not None]
        if found:
            records = tuple((enrolled.bundle, enrolled.record) for enrolled in found)
            self._outbox.send(link, wire.RosterRecords(records), bulk=True)

    def on_records(self, link: int, message: wire.RosterRecords, links: list[int], now: Now) -> None:
        """Takes in newer records and pushes them on to the other ``links``.

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
            self._keep(enrolled)
            self._push(enrolled, [other for other in links if other != link])
            if enrolled.prekey.device == self._identity.device:
                # Peers hold a later prekey of this device than it made: it was restored from a backup, or copied.
                self.ring.on_own_record(enrolled.prekey)
                self._outbox.report("restored-or-cloned", "peers know a later prekey of this device than it made")
                self.rotate(links, now)

    # --- the own prekey -------------------------------------------------------------------------------------------

    def handle_deadline(self, links: list[int], now: Now) -> None:
        if now.monotonic_s >= self.check_at:
            self.check_at = now.monotonic_s + CHECK_INTERVAL_S
            self.rotate(links, now)

    def rotate(self, links: list[int], now: Now) -> None:
        """Erases old private parts and makes a new prekey, where it is time."""
        wall_ms = max(0, now.wall_ms)
        changed = bool(self.ring.expire(wall_ms))
        if self.ring.rotate_due(wall_ms) and self._may_rotate(now):
            serial = self.ring.next_serial(wall_ms)
            secret, record = prekeys.make_prekey(self._identity.device_key, serial, wall_ms, self._random_bytes)
            self.ring.add(secret, wall_ms)
            enrolled = self.roster.accept_untrusted(self._identity.certificate.bundle, record)
            if enrolled is not None:
                self._keep(enrolled)
                self._push(enrolled, links)
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

    def _push(self, enrolled: Enrolled, links: list[int]) -> None:
        for link in links:
            self._outbox.send(link, wire.RosterRecords(((enrolled.bundle, enrolled.record),)), droppable=True)

    def _keep(self, enrolled: Enrolled) -> None:
        self._put(ROSTER_NAMESPACE, enrolled.prekey.device, codec.encode([enrolled.bundle, enrolled.record]))
