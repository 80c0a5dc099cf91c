"""Groups, packages and entries together, with real keys: two halves grow apart, meet, repair, and all read all."""

from __future__ import annotations

import random
from dataclasses import replace

from group_record import A, B, C, D, Position, Record, lines

from meshnode.core import codec
from meshnode.core.entry import (
    Content,
    clear_bytes,
    content_untrusted,
    log_keys,
    open_content_untrusted,
    write_entry,
)
from meshnode.core.epochs import (
    EpochBody,
    epoch_body_untrusted,
    key_id,
    make_epoch_key,
    make_package,
    open_package_untrusted,
)
from meshnode.core.groups import Role, add_act, create_act
from meshnode.core.ids import NO_HASH, DeviceId, KeyId
from meshnode.core.keys import SigningKey
from meshnode.core.log import Entry
from meshnode.core.prekeys import Prekey, PrekeySecret, make_prekey, prekey_untrusted

SOURCE = random.Random(5)
NONCE = b"nonce-of-16bytes"


class RealRecord(Record):
    """A record whose epochs are packages and sealed entries."""

    def __init__(self, devices: list[DeviceId]) -> None:
        super().__init__()
        self.prekeys: dict[DeviceId, Prekey] = {}
        self.secrets: dict[DeviceId, PrekeySecret] = {}
        self.entries: list[Entry] = []
        for number, device in enumerate(devices, 1):
            secret, record = make_prekey(SigningKey(bytes([number]) * 32), b"bundle", 1, 0, SOURCE.randbytes)
            prekey = prekey_untrusted(record)
            self.secrets[device] = secret
            self.prekeys[device] = replace(prekey, device=device)

    def start_epoch(
        self, author: DeviceId, parents: list[Position], acts: list[object], recipients: list[DeviceId]
    ) -> Position:
        """The group's plain record, and beside it the entry as it would travel."""
        view = self.closed(parents)
        group, _ = self.group([position for position in self.items if position in view])
        carries = group.parent_keys()
        key = make_epoch_key(SOURCE.randbytes)
        position = self.write(author, parents, acts, recipients, key, carries)
        body = EpochBody.make([self.prekeys[one] for one in recipients], [self.keys[one] for one in carries])
        package = make_package([self.prekeys[one] for one in recipients], key, self.incident, SOURCE.randbytes)
        content = Content((), 0, "op", acts=tuple(acts), epoch=body.to_plain())
        self.entries.append(
            write_entry(self.incident, position[0], position[1], NO_HASH, key, key_id(key), package, content)
        )
        return position

    def readable_by(self, device: DeviceId) -> set[KeyId]:
        """Walks the chain as a replica does: packages first, then the bodies that each new key opens."""
        known: dict[KeyId, bytes] = {}
        growing = True
        while growing:
            before = len(known)
            for entry in self.entries:
                if entry.key_id not in known and entry.package is not None:
                    secrets = [self.secrets[device]]
                    key = open_package_untrusted(entry.package, self.incident, entry.key_id, secrets)
                    if key is not None:
                        known[entry.key_id] = key
                if entry.key_id in known:
                    known.update(self.body_of(entry, known[entry.key_id]).parents)
            growing = len(known) > before
        return set(known)

    def body_of(self, entry: Entry, key: bytes) -> EpochBody:
        clear = clear_bytes(entry.incident, entry.log, entry.seq, entry.previous, entry.key_id, entry.package)
        opened = open_content_untrusted(entry.sealed, log_keys(key, self.incident, entry.log), clear)
        return epoch_body_untrusted(content_untrusted(opened).epoch)


def test_two_halves_that_each_added_a_member_meet_repair_once_and_everyone_reads_everything():
    record = RealRecord([A, B, C, D])
    rows = lines((A, Role.MANAGER), (B, Role.MANAGER))
    first = record.start_epoch(A, [], [create_act(NONCE, rows)], [A, B])
    left = record.start_epoch(A, [first], [add_act(lines((C, Role.WRITER)))], [A, B, C])
    right = record.start_epoch(B, [first], [add_act(lines((D, Role.WRITER)))], [A, B, D])
    of = {position: record.items[position].key_id for position in (first, left, right)}
    assert record.readable_by(C) == {of[first], of[left]}
    assert record.readable_by(D) == {of[first], of[right]}

    group, _ = record.group()
    assert group.repair_needed(A)
    assert group.write_key() == min(of[left], of[right])  # writing goes on meanwhile
    assert group.rank(A) == 0
    mended = record.start_epoch(A, list(group.heads()), [], [member.device for member in group.members()])

    group, verdicts = record.group()
    assert verdicts[mended][0].valid
    assert group.write_key() == record.items[mended].key_id
    assert not any(group.repair_needed(one) for one in (A, B, C, D))
    everything = {item.key_id for item in record.items.values()}
    assert all(record.readable_by(one) == everything for one in (A, B, C, D))


def test_a_member_added_at_the_end_of_a_long_chain_reads_back_to_the_beginning():
    record = RealRecord([A, B, C])
    rows = lines((A, Role.MANAGER), (B, Role.MANAGER))
    last = record.start_epoch(A, [], [create_act(NONCE, rows)], [A, B])
    for author in (B, A, B):
        last = record.start_epoch(author, [last], [], [A, B])
    assert record.readable_by(C) == set()
    record.start_epoch(A, [last], [add_act(lines((C, Role.READER)))], [A, B, C])
    assert record.readable_by(C) == {item.key_id for item in record.items.values()}
    assert len(epoch_body_untrusted(codec.decode_trusted(codec.encode(_last_body(record)))).parents) == 1


def _last_body(record: RealRecord) -> list[object]:
    last = record.entries[-1]
    return record.body_of(last, record.keys[last.key_id]).to_plain()
