"""Membership acts: what they look like, and who may sign them.

Acts travel inside entries as plain arrays:

    [1, nonce (16), [[device, noc, role], ...]]   create: the incident's handle is the hash of author and nonce
    [2, [[device, noc, role], ...]]               add, or raise in role
    [3, attempt, [key id, ...]]                   ask: these keys of others' entries cannot be opened here
    [4, [[device, role], ...], reason]            limit: from here on at most this role, 0 for none (removed)

An act is judged twice. Here it is judged **as if rights only grew** (M1 without limits): in the act's own causal past,
so the verdict is final when given. Creating needs the handle to be the author's own, the author first and manager;
adding and limiting others needs a manager; any member may limit itself. An act that holds so far becomes one **grant**
or one **limit** per line; all grants of a device come to its **standing**: the highest role, and the most senior grant
(depth of the adding chain, 0 in the creating entry; then order in the creating entry; then position). Any order of
folding gives the same. What limits do to each other and to grants is judged over the whole record (core/rights.py).

Asking changes no standing. Every member may; holders of the keys answer by sealing a key again (core/reseal.py).

An act with a code or a role of a newer version is void here and harms nothing; a form of a known act that a later
version wants must therefore get a new code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from meshnode.core.epochs import RECIPIENTS_MAX
from meshnode.core.ids import (
    DEVICE_ID_BYTES,
    INCIDENT_ID_BYTES,
    KEY_ID_BYTES,
    DeviceId,
    IncidentId,
    KeyId,
    LogId,
)
from meshnode.core.keys import digest

MEMBERS_MAX = RECIPIENTS_MAX
"""Devices in one causal past: as many as one epoch can be sealed to."""
NONCE_BYTES = 16
NOC_BYTES_MAX = 32
"""Characters of a NOC's code in an act, printable ASCII without space: the same in every version of Unicode. Codes of
certificates have at most 8; the rest is room for another scheme."""


ASKED_KEYS_MAX = 16
"""Key ids in one ask. Who gets any newer key reads back from it; more wait for the next ask."""

ATTEMPTS_MAX = 8
"""How often in vain an ask may say it came: so many different members may answer it at most."""

REASON_BYTES_MAX = 400
"""Of the text that says why somebody was removed: a few sentences, in every script."""

_CREATE, _ADD, _ASK, _LIMIT = 1, 2, 3, 4


class Role(IntEnum):
    """What a member device may do. Each role includes those before it."""

    READER = 1
    WRITER = 2
    MANAGER = 3


def incident_id(author: DeviceId, nonce: bytes) -> IncidentId:
    """The handle that only this author can create an incident under."""
    return IncidentId(digest("mn-incident", author, nonce)[:INCIDENT_ID_BYTES])


def create_act(nonce: bytes, members: Sequence[tuple[DeviceId, str, Role]]) -> list[Any]:
    """The act of opening an incident. The author comes first, as manager; the order is the order of seniority."""
    return [_CREATE, nonce, [[device, noc, int(role)] for device, noc, role in members]]


def add_act(members: Sequence[tuple[DeviceId, str, Role]]) -> list[Any]:
    """The act of adding devices, or of raising their role."""
    return [_ADD, [[device, noc, int(role)] for device, noc, role in members]]


def ask_act(attempt: int, keys: Iterable[KeyId]) -> list[Any]:
    """The act of asking for at most ASKED_KEYS_MAX keys, for the first time, the second (and last ATTEMPTS_MAX-th)."""
    return [_ASK, attempt, sorted(keys)]


def limit_act(limits: Sequence[tuple[DeviceId, Role | None]], reason: str) -> list[Any]:
    """The act of removing devices (None), or of lowering their role."""
    return [_LIMIT, [[device, 0 if role is None else int(role)] for device, role in limits], reason]


class Asked(NamedTuple):
    """What a valid act asks for."""

    attempt: int
    keys: frozenset[KeyId]


class Grant(NamedTuple):
    """One valid line of one act. Compared by seniority first: the least is the most senior."""

    depth: int
    order: int
    log: LogId
    seq: int
    device: DeviceId
    noc: str
    role: Role
    added_by: DeviceId


class Limit(NamedTuple):
    """One line of an act that takes rights away."""

    device: DeviceId
    role: int
    """The most that grants which do not follow it can give: 0 (no member), or a role below manager."""
    reason: str


class Standing(NamedTuple):
    """What all grants of one device in some past come to."""

    grant: Grant
    role: Role


Standings = dict[DeviceId, Standing]


def fold(standings: Standings, grant: Grant) -> None:
    """Least grant, highest role: commutative, associative and idempotent, so any order gives the same."""
    known = standings.get(grant.device)
    if known is None:
        standings[grant.device] = Standing(grant, grant.role)
    else:
        standings[grant.device] = Standing(min(known.grant, grant), max(known.role, grant.role))


def judge_act(
    act: Any, author: DeviceId, incident: IncidentId, position: tuple[LogId, int], standings: Standings
) -> list[Grant] | list[Limit] | Asked | str:
    """The grants or limits of an act that holds as if rights only grew, or what it asks for, or the code of what makes
    it void."""
    if not isinstance(act, list) or not act or type(act[0]) is not int or act[0] not in (_CREATE, _ADD, _ASK, _LIMIT):
        return "act-unknown"
    if act[0] == _ASK:
        return _judge_ask(act, author, standings)
    if act[0] == _LIMIT:
        return _judge_limit(act, author, standings)
    creates = act[0] == _CREATE
    if len(act) != (3 if creates else 2):
        return "act-malformed"
    fault = _rows_fault(act[-1])
    if fault:
        return fault
    if creates:
        fault = _create_fault(act, author, incident, standings)
        depth = 0
    else:
        standing = standings.get(author)
        if standing is None or standing.role < Role.MANAGER:
            return "act-not-entitled"
        depth = standing.grant.depth + 1
    rows = [(DeviceId(device), noc, Role(role)) for device, noc, role in act[-1]]
    if not fault and len(standings) + sum(device not in standings for device, _, _ in rows) > MEMBERS_MAX:
        fault = "act-group-too-large"
    if fault:
        return fault
    return [
        Grant(depth, order if creates else 0, *position, device, noc, role, author)
        for order, (device, noc, role) in enumerate(rows)
    ]


def _judge_ask(act: list[Any], author: DeviceId, standings: Standings) -> Asked | str:
    if len(act) != 3 or type(act[1]) is not int or not 1 <= act[1] <= ATTEMPTS_MAX:
        return "act-malformed"
    keys = act[2]
    if not isinstance(keys, list) or not 1 <= len(keys) <= ASKED_KEYS_MAX:
        return "act-malformed"
    if not all(isinstance(key_id, bytes) and len(key_id) == KEY_ID_BYTES for key_id in keys):
        return "act-malformed"
    return Asked(act[1], frozenset(map(KeyId, keys))) if author in standings else "act-not-entitled"


def _judge_limit(act: list[Any], author: DeviceId, standings: Standings) -> list[Limit] | str:
    if len(act) != 3 or not isinstance(act[1], list) or not 1 <= len(act[1]) <= MEMBERS_MAX:
        return "act-malformed"
    if not isinstance(act[2], str) or len(act[2].encode("utf-8", "surrogatepass")) > REASON_BYTES_MAX:
        return "act-malformed"
    for row in act[1]:
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], bytes) and type(row[1]) is int):
            return "act-malformed"
        if len(row[0]) != DEVICE_ID_BYTES:
            return "act-malformed"
    if len({row[0] for row in act[1]}) != len(act[1]):
        return "act-malformed"
    if not all(0 <= row[1] < Role.MANAGER for row in act[1]):
        return "act-unknown"
    standing = standings.get(author)
    manages = standing is not None and standing.role >= Role.MANAGER
    if standing is None or not (manages or all(row[0] == author for row in act[1])):
        return "act-not-entitled"
    return [Limit(DeviceId(device), role, act[2]) for device, role in act[1]]


def _create_fault(act: list[Any], author: DeviceId, incident: IncidentId, standings: Standings) -> str:
    _, nonce, rows = act
    if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
        return "act-malformed"
    if incident_id(author, nonce) != incident:
        return "act-wrong-handle"
    if rows[0][0] != author or rows[0][2] != Role.MANAGER:
        return "act-malformed"
    return "act-created-again" if standings else ""


def _rows_fault(rows: Any) -> str:
    """The code of what is wrong with the lines of an act, empty when nothing is."""
    if not isinstance(rows, list) or not rows:
        return "act-malformed"
    for row in rows:
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], bytes)):
            return "act-malformed"
        device, noc, role = row
        if len(device) != DEVICE_ID_BYTES or not isinstance(noc, str) or type(role) is not int:
            return "act-malformed"
        if not 1 <= len(noc) <= NOC_BYTES_MAX or not all("!" <= character <= "~" for character in noc):
            return "act-malformed"
    if len({row[0] for row in rows}) != len(rows):
        return "act-malformed"
    # A role of a newer version is not guessed at: the act waits for software that knows it.
    return "" if all(row[2] in tuple(Role) for row in rows) else "act-unknown"


def seniority(item: tuple[DeviceId, Standing]) -> tuple[int, int, DeviceId]:
    device, standing = item
    return standing.grant.depth, standing.grant.order, device
