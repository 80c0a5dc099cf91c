"""A hostile but enrolled peer: it has a true identity and a true link, and sends whatever a test gives it.

It may be a member of an incident too: then it holds the epoch key like every member, and can seal what it likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio
from one_process import Daemon
from world import make_identity

from meshnode.core import codec, wire
from meshnode.core import entry as entries
from meshnode.core.entry import Content
from meshnode.core.events import Channel, LinkDown, LinkUp, PeerIdentity, Received
from meshnode.core.hello import LinkAuthenticator
from meshnode.core.identity import Identity
from meshnode.core.ids import NO_HASH, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.keys import SigningKey
from meshnode.core.log import Entry
from meshnode.errors import UntrustedInputError
from meshnode.transport.memory import MemoryNetwork, MemoryTransport


class OnlyDials(LinkAuthenticator):
    """Takes no link: nodes that are told of its address would else dial it, and one link of two gives way."""

    def verify_untrusted(
        self, data: bytes, local_tls_sha256: bytes, remote_tls_sha256: bytes, dialed: bool
    ) -> PeerIdentity:
        if not dialed:
            raise UntrustedInputError("only-dials", "it takes no link", "none")
        return super().verify_untrusted(data, local_tls_sha256, remote_tls_sha256, dialed)


class HostilePeer:
    """Dials ``target`` again whenever its link was closed."""

    def __init__(self, network: MemoryNetwork, noc: str, target: str) -> None:
        identity = make_identity(noc, "1")
        authenticator = OnlyDials(
            identity.device_key,
            identity.certificate.bundle,
            identity.network_root,
            True,
            lambda: identity.certificate.not_before_s + 3600,
        )
        self.transport = MemoryTransport(network, f"{noc}:666", authenticator)
        self._target = f"{target}:1"
        self._link = 0

    async def send(self, *frames: bytes) -> str:
        """Sends these on a link; the code the link was closed with within a second, or an empty text."""
        if not self._link:
            await self._dial()
        for frame in frames:
            self.transport.send(self._link, Channel.CONTROL, frame, False)
        with trio.move_on_after(1.0):
            async for record in self.transport.receive:
                if isinstance(record, LinkDown):
                    self._link = 0
                    return record.code
        return ""

    async def _dial(self) -> None:
        self.transport.dial(self._target)
        async for record in self.transport.receive:
            if isinstance(record, LinkUp):
                self._link = record.link
                return
            assert isinstance(record, Received | LinkDown), record


@dataclass
class Forger:
    """Writes a log of an incident with a member's key: chained, sealed and signed as it should be, or not."""

    incident: IncidentId
    identity: Identity
    key_id: KeyId
    key: bytes
    epoch: EntryHash
    """The entry that starts the key's epoch: what an honest writer would have seen before it uses the key."""
    seed: bytes
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, member: Daemon, incident: IncidentId, number: int) -> Forger:
        """With the newest key that this member holds. ``number`` makes the log's key."""
        replica = member.loop.node.incidents.replicas[incident]
        key_id = replica.group.write_key()
        assert key_id is not None
        log, seq = replica.group.epoch_starts(key_id)[0]
        (epoch,) = member.store.read(incident, log, seq, seq)
        seed = number.to_bytes(32, "big")
        return cls(incident, member.identity, key_id, replica.keys[key_id], epoch.hash, seed)

    @property
    def log_key(self) -> SigningKey:
        return SigningKey(self.seed)

    @property
    def log(self) -> LogId:
        return LogId(self.log_key.public)

    def opening(self, **changed: Any) -> entries.Opening:
        """Of this log, by this device; ``changed`` names what is another one's."""
        identity: Identity = changed.get("identity", self.identity)
        bundle = changed.get("bundle", identity.certificate.bundle)
        log = changed.get("log", self.log)
        return entries.sign_opening(identity.device_key, bundle, self.incident, log)

    def content(self, *parents: EntryHash, **fields: Any) -> Content:
        """As an honest writer would have it, but for what is given."""
        fields.setdefault("opening", self.opening() if not self.entries else None)
        if not self.entries:
            parents = (self.epoch, *parents)
        return Content(parents=parents, time_ms=1_780_000_000_000, operator="intruder", **fields)

    def write(self, content: Content, start: EntryHash = NO_HASH) -> Entry:
        """The next entry; ``start`` is what the first one builds on."""
        previous = self.entries[-1].hash if self.entries else start
        entry = entries.write_entry(
            self.incident, self.log, len(self.entries) + 1, previous, self.key, self.key_id, None, content
        )
        self.entries.append(entry)
        return entry

    def write_plain(self, plain: bytes) -> Entry:
        """The next entry, with any bytes for its content."""
        seq, previous = len(self.entries) + 1, self.entries[-1].hash if self.entries else NO_HASH
        clear = entries.clear_bytes(self.incident, self.log, seq, previous, self.key_id, None)
        sealed = entries.seal_content(plain, entries.log_keys(self.key, self.incident, self.log), clear)
        return self.write_sealed(sealed, self.key_id)

    def write_sealed(self, sealed: bytes, key_id: KeyId) -> Entry:
        seq, previous = len(self.entries) + 1, self.entries[-1].hash if self.entries else NO_HASH
        identity = entries.entry_hash(self.incident, self.log, seq, previous, key_id, None, sealed)
        self.entries.append(Entry(self.incident, self.log, seq, previous, key_id, None, sealed, identity))
        return self.entries[-1]

    def run(self, **changed: Any) -> bytes:
        """The frame that carries them all; ``changed`` names fields of the message that were tampered with."""
        run = wire.make_run(self.entries, entries.sign_seal(self.log_key, self.entries[-1]))
        return wire.encode(wire.Run(**{name: changed.get(name, getattr(run, name)) for name in wire.Run.__slots__}))


def encoded(*items: Any) -> bytes:
    return codec.encode(list(items))
