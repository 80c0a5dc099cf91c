"""What any linked peer can send, member or relay: old frames, broken and senseless ones, questions without end."""

from __future__ import annotations

from collections.abc import Callable

from meshnode.core import codec, epochs, wire
from meshnode.core.events import Channel, Now
from meshnode.core.ids import SEQ_MAX, DeviceId, EntryHash, IncidentId, LogId
from meshnode.errors import UntrustedInputError
from simulations.liars.mind import CannotTellError, LyingNode, Mind
from simulations.liars.telling import Telling
from simulations.scenario.plan import Lie


def replay(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B3. Anything recorded, to anybody, in any order, twice."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    if not mind.frames:
        raise CannotTellError("nothing was heard yet")
    recorded = list(mind.frames)
    for _ in range(telling.count):
        data = telling.rng.choice(recorded)
        link, _ = telling.rng.choice(links)
        for _ in range(telling.rng.choice((1, 1, 2))):
            telling.say(link, data, channel=telling.rng.choice(list(Channel)))


def flood_invalid(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B5. The first that is refused costs the link; what is behind it must not be looked at."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    recorded = list(mind.frames)
    makers: list[Callable[[Telling, list[bytes]], bytes]] = [_cut, _bent, _senseless, _newer, _unsigned]
    rng = telling.rng
    most = rng.choice(makers)
    for _ in range(telling.count):
        maker = most if rng.random() < 0.7 else rng.choice(makers)
        telling.say(rng.choice(links)[0], maker(telling, recorded))


def _cut(telling: Telling, recorded: list[bytes]) -> bytes:
    data = telling.rng.choice(recorded) if recorded else b"\x82\x01"
    return data[: telling.rng.randrange(len(data))]


def _bent(telling: Telling, recorded: list[bytes]) -> bytes:
    data = telling.rng.choice(recorded) if recorded else b"\x82\x01"
    at = telling.rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << telling.rng.randrange(8))]) + data[at + 1 :]


def _senseless(telling: Telling, _recorded: list[bytes]) -> bytes:
    return telling.rng.choice(
        (b"", b"\xfb" + bytes(8), b"\xd8\x1c\x80", b"\x9f" * 500, b"\xbb" + b"\xff" * 8, bytes(3_000))
    )


def _newer(telling: Telling, _recorded: list[bytes]) -> bytes:
    """Of a kind that this version does not know: the link stays, and each is reported."""
    return codec.encode([telling.rng.randrange(100, 200), telling.rng.randbytes(20)])


def _unsigned(telling: Telling, _recorded: list[bytes]) -> bytes:
    """A run of a log that exists, with rows and seal made up."""
    incident, log, height = _a_log(telling)
    rows = tuple((0, telling.rng.randbytes(104), None) for _ in range(3))
    key_id = epochs.key_id(telling.rng.randbytes(32))
    previous = EntryHash(telling.rng.randbytes(32))
    run = wire.Run(incident, log, height + 1, previous, (key_id,), rows, telling.rng.randbytes(64))
    return wire.encode(run)


def _a_log(telling: Telling) -> tuple[IncidentId, LogId, int]:
    """One that exists, or one that nobody has."""
    rng, holdings = telling.rng, telling.node.holdings
    heads = [(incident, head.log, head.height) for incident in holdings.incidents() for head in holdings.logs(incident)]
    made_up = (IncidentId(rng.randbytes(16)), LogId(rng.randbytes(32)), rng.choice((1, 300, SEQ_MAX - 4)))
    return rng.choice(heads) if heads and rng.random() < 0.7 else made_up


def false_requests(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    """B16. Short questions with long answers, and claims that make others ask in vain."""
    telling = Telling(node, mind, lie, now)
    links = telling.links()
    for _ in range(telling.count):
        link, _ = telling.rng.choice(links)
        telling.say(link, _request(telling))


def _request(telling: Telling) -> wire.Message:
    rng = telling.rng
    incident, log, height = _a_log(telling)
    far = rng.choice((height, height + 1, height + 1_000, SEQ_MAX))
    devices = tuple(DeviceId(rng.randbytes(32)) for _ in range(rng.randrange(1, 20)))
    known = tuple(device for device, _ in telling.node.rollcall.roster.serials())[: wire.ROSTER_RECORDS_MAX]
    return rng.choice(
        (
            wire.Want(incident, log, 1, max(1, far)),
            wire.Want(incident, log, max(1, height), max(1, far)),
            wire.Heights(incident, ((log, far),), True, rng.random() < 0.5),
            wire.Heights(incident, (), True, False),
            wire.Incidents(((incident, rng.randbytes(32)),), rng.random() < 0.5),
            wire.Announce(((incident, log, max(1, far)),)),
            wire.Graft(incident, log, 0),
            wire.Prune(incident, log),
            wire.Lack(incident, log, max(1, height)),
            wire.PackagesWant(incident, rng.choice((0, 1, 10**6))),
            wire.Roster(tuple((device, 0, bytes(32)) for device in devices), True),
            wire.RosterWant(known or devices),
            wire.Summary(rng.randbytes(32), rng.randbytes(32)),
        )
    )


def is_run(data: bytes) -> wire.Run | None:
    """The run in a frame; None for every other message."""
    try:
        message = wire.decode_untrusted(data)
    except UntrustedInputError:
        return None
    return message if isinstance(message, wire.Run) else None
