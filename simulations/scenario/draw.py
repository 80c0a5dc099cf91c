"""From a scenario and a seed to a plan. Pure: the same seed gives the same plan in every process.

Each purpose has a generator of its own, so that a new draw in one place moves nothing elsewhere. Swarm: every seed
draws its own number from every range, and does without each class of random faults with a chance of four in ten; so
mixes occur in which a rare fault is not drowned by the common ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from simulations.scenario import places, shape
from simulations.scenario.lies import ANY, LIES
from simulations.scenario.plan import (
    Action,
    Heal,
    Lie,
    LinkFault,
    NodeFault,
    Open,
    Options,
    Plan,
    Quality,
    ShareWith,
    Write,
)
from simulations.scenario.records import Fault, Liar, LinkException, NodeSpec, RandomFaults, Scenario
from simulations.scenario.values import Span

SWITCHED_OFF_CHANCE = 0.4
COMMIT_S = ((0.0, 0.0), (0.0005, 0.005), (0.005, 0.2), (0.2, 5.0))
"""A disk that is not felt, one with flash, a busy one, and one that takes up to 5 s a sync (D12)."""
COMMIT_WEIGHTS = (3, 4, 2, 1)
GATHER_S = (0.0, 0.001, 0.02, 0.5)
"""Every event by itself; a quick machine; a busy one; one that is far too slow (P8)."""
GATHER_WEIGHTS = (3, 3, 3, 1)
REAL_CRYPTO_CHANCE = 0.125
"""Of a seed: real signatures cost a mesh several times its time, and most errors have nothing to do with them."""
LAST_WORDS_S = 20.0
"""After the faults: time enough for those whom no lie keeps apart."""
LINK_EFFECTS = ("cut", "hold", "drop", "duplicate", "delay", "corrupt")
_EFFECT_OF = {"cut-one-way": "cut", "hold": "hold", "drop": "drop", "duplicate": "duplicate", "corrupt": "corrupt"}


def draw(scenario: Scenario, seed: int) -> Plan:
    """The plan of this seed."""
    return _Drawing(scenario, seed).plan()


class _Drawing:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._seed = seed
        self._nodes = scenario.nodes
        self._names = tuple(node.name for node in self._nodes)
        self._by_name = {node.name: node for node in self._nodes}
        self._numbers = 0
        self._drawn: list[tuple[str, float]] = []

    def plan(self) -> Plan:
        scenario = self._scenario
        options = self._rng("options")
        off = tuple(
            dict.fromkeys(
                faults.verb
                for number, faults in enumerate(scenario.random)
                if self._rng(f"off {number} {faults.verb}").random() < SWITCHED_OFF_CHANCE
            )
        )
        transport = options.choice(("stream", "frames"))
        commit_s = options.choices(COMMIT_S, COMMIT_WEIGHTS)[0]
        gather_s = options.choices(GATHER_S, GATHER_WEIGHTS)[0]
        crypto = "real" if self._rng("crypto").random() < REAL_CRYPTO_CHANCE else "cheap"
        reach = shape.reach(self._scenario, self._rng("topology"))
        actions: list[Action] = [*self._work(), *self._timed(), *self._by_chance(off), *self._lies()]
        actions += self._last_words(actions)
        quality = self._quality(reach)
        return Plan(
            scenario=scenario.name,
            seed=self._seed,
            duration_s=scenario.duration_s,
            converge_within_s=scenario.checks.converge_within_s,
            nodes=self._nodes,
            reach=reach,
            quality=quality,
            core=scenario.resolve(scenario.checks.core),
            actions=tuple(sorted(actions, key=lambda action: (action.at_s, action.number))),
            options=Options(off, transport, commit_s, gather_s, tuple(self._drawn), crypto),
            idle_timeout_s=scenario.links.idle_timeout_s,
            anti_entropy_interval_s=scenario.node.anti_entropy_interval_s,
            redial_max_s=scenario.node.redial_max_s,
            invariants=scenario.checks.invariants,
            never=scenario.checks.never,
            queue_frames_max=scenario.checks.queue_frames_max,
            memory_rows_max=scenario.checks.memory_rows_max,
        )

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self._scenario.name}/{self._seed}/{purpose}")

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _draw(self, name: str, span: Span) -> float:
        value = span.draw(self._rng(name))
        if span.low != span.high:
            self._drawn.append((name, round(value, 6)))
        return value

    # --- the network ----------------------------------------------------------------------------------------------

    def _quality(self, reach: tuple[tuple[str, str], ...]) -> dict[tuple[str, str], Quality]:
        links = self._scenario.links
        ground = {
            name: self._draw(f"links.{name}", getattr(links, name))
            for name in ("latency_ms", "jitter_ms", "loss_percent", "duplicate_percent", "rate_bytes_per_s")
        }
        exceptions = [
            (set(self._scenario.resolve(row.between)), set(self._scenario.resolve(row.and_)), self._unlike(number, row))
            for number, row in enumerate(self._scenario.exceptions)
        ]
        found = {}
        for a, b in reach:
            numbers = dict(ground)
            if self._scenario.topology.shape == "europe":
                numbers["latency_ms"] += self._distance_ms(self._by_name[a], self._by_name[b])
            for these, those, other in exceptions:
                if (a in these and b in those) or (b in these and a in those):
                    numbers.update(other)
            found[a, b] = Quality(
                numbers["latency_ms"] / 1e3,
                numbers["jitter_ms"] / 1e3,
                numbers["loss_percent"] / 100,
                numbers["duplicate_percent"] / 100,
                numbers["rate_bytes_per_s"],
            )
        return found

    def _unlike(self, number: int, row: LinkException) -> dict[str, float]:
        keys = ("latency_ms", "jitter_ms", "loss_percent", "duplicate_percent", "rate_bytes_per_s")
        return {key: self._draw(f"link {number}.{key}", value) for key in keys if (value := getattr(row, key))}

    @staticmethod
    def _distance_ms(a: NodeSpec, b: NodeSpec) -> float:
        here, there = places.place_of(a.noc, a.place), places.place_of(b.noc, b.place)
        return places.latency_ms(here, there) if here and there and here != there else 0.0

    # --- work -----------------------------------------------------------------------------------------------------

    def _nocs(self, names: tuple[str, ...]) -> tuple[str, ...]:
        members = (self._by_name[name] for name in self._scenario.resolve(names))
        return tuple(dict.fromkeys(node.noc for node in members if node.role == "member"))

    def _work(self) -> Iterator[Action]:
        scenario, work = self._scenario, self._scenario.workload
        known: list[tuple[float, str]] = []
        managers: dict[str, tuple[str, tuple[str, ...]]] = {}
        for incident in scenario.incidents:
            known.append((incident.at_s, incident.name))
            managers[incident.name] = (incident.by, self._nocs(incident.members))
            yield Open(self._number(), incident.at_s, incident.by, incident.name, self._nocs(incident.members))
        for share in scenario.shares:
            yield ShareWith(self._number(), share.at_s, share.by, share.incident, self._nocs(share.members))
        writers = [name for name in scenario.resolve(work.writers) if self._by_name[name].role == "member"]
        if not writers:
            return
        stop_s = work.stop_s or scenario.duration_s
        rng = self._rng("incidents")
        per_s = self._draw("workload.incidents_per_hour", work.incidents_per_hour) / 3600
        for number, at_s in enumerate(_arrivals(rng, per_s, work.start_s, stop_s), 1):
            name, by, nocs = f"chance-{number}", rng.choice(writers), self._nocs(tuple(writers))
            some = tuple(noc for noc in nocs if rng.random() < 0.7)
            known.append((at_s, name))
            managers[name] = (by, some)
            yield Open(self._number(), at_s, by, name, some)
        rng = self._rng("shares")
        per_s = self._draw("workload.shares_per_hour", work.shares_per_hour) / 3600
        nocs = self._nocs(("members",))
        for at_s in _arrivals(rng, per_s, work.start_s, stop_s):
            open_ = [name for opened_s, name in known if opened_s < at_s]
            if open_:
                name = rng.choice(open_)
                by, members = managers[name]
                new = [noc for noc in nocs if noc not in members]
                yield ShareWith(self._number(), at_s, by, name, (rng.choice(new or nocs),))
        yield from self._writes(writers, known, stop_s)

    def _writes(self, writers: list[str], known: list[tuple[float, str]], stop_s: float) -> Iterator[Action]:
        work = self._scenario.workload
        rng = self._rng("writes")
        per_s = self._draw("workload.writes_per_s", work.writes_per_s)
        kinds = [kind for kind, _ in work.kinds]
        weights = [weight for _, weight in work.kinds]
        for at_s in _arrivals(rng, per_s, work.start_s, stop_s):
            open_ = [name for opened_s, name in known if opened_s < at_s]
            if open_:
                kind, node, incident = rng.choices(kinds, weights)[0], rng.choice(writers), rng.choice(open_)
                yield Write(self._number(), at_s, node, incident, kind, int(work.text_bytes.draw(rng)))

    # --- faults ---------------------------------------------------------------------------------------------------

    def _timed(self) -> Iterator[Action]:
        for fault in self._scenario.faults:
            yield from self._fault(fault, self._rng(f"fault {fault.line}"))

    def _by_chance(self, off: tuple[str, ...]) -> Iterator[Action]:
        for number, faults in enumerate(self._scenario.random):
            if faults.verb not in off:
                rng = self._rng(f"random {number}")
                per_s = self._draw(f"random {number} {faults.verb}.per_hour", faults.per_hour) / 3600
                for at_s in _arrivals(rng, per_s, 1.0, self._scenario.duration_s):
                    yield from self._fault(self._one(faults, at_s, rng), rng)

    def _one(self, faults: RandomFaults, at_s: float, rng: Random) -> Fault:
        names = self._scenario.resolve(faults.nodes)
        node = (rng.choice(names),)
        some = tuple(name for name in names if rng.random() < 0.5) or node
        is_partition = faults.verb == "partition"
        sender = rng.choice(names)
        to = node if rng.random() < 0.5 else ("all",)
        others = [name for name in self._names if name != sender]
        if faults.verb in (*_EFFECT_OF, "delay") and to == (sender,) and others:
            to = (rng.choice(others),)  # what goes wrong between a node and itself is nothing
        return Fault(
            at_s=at_s,
            verb=faults.verb,
            nodes=some if faults.verb == "swizzle-clog" else node,
            sides=(some, tuple(name for name in self._names if name not in some)) if is_partition else (),
            from_=(sender,),
            to=to,
            for_s=min(faults.for_s.draw(rng), self._scenario.duration_s - at_s),
            percent=faults.percent.draw(rng),
            delay_ms=faults.delay_ms.draw(rng),
            skew_s=faults.skew_s.draw(rng),
            drift_percent=rng.uniform(-5, 5),
        )

    def _fault(self, fault: Fault, rng: Random) -> Iterator[Action]:
        at_s = fault.at_s
        until_s = None if fault.for_s is None else at_s + fault.for_s
        senders, receivers = self._scenario.resolve(fault.from_), self._scenario.resolve(fault.to)
        nodes = self._scenario.resolve(fault.nodes)
        match fault.verb:
            case "partition":
                yield from self._partition(fault, until_s)
            case "heal":
                yield Heal(self._number(), at_s, LINK_EFFECTS, self._names, self._names)
            case "release":
                yield Heal(self._number(), at_s, ("hold",), senders, receivers)
            case "delay":
                yield LinkFault(self._number(), at_s, until_s, "delay", senders, receivers, fault.delay_ms / 1e3)
            case "clog":
                yield from self._clog(nodes, at_s, until_s)
            case "swizzle-clog":
                yield from self._swizzle(nodes, at_s, fault.for_s or 0.0, rng)
            case "lose-hub":
                for name in nodes or self._scenario.resolve(("hubs",)):
                    yield NodeFault(self._number(), at_s, until_s, "crash", name, for_good=until_s is None)
            case verb if verb in _EFFECT_OF:
                effect = _EFFECT_OF[verb]
                yield LinkFault(self._number(), at_s, until_s, effect, senders, receivers, fault.percent / 100)
            case verb:
                skew = (fault.skew_s, fault.drift_percent / 100, fault.count, fault.backup_at_s)
                for name in nodes:
                    yield NodeFault(self._number(), at_s, until_s, verb, name, *skew)

    # --- liars ----------------------------------------------------------------------------------------------------

    def _lies(self) -> Iterator[Action]:
        for number, liar in enumerate(self._scenario.liars):
            rng = self._rng(f"liar {number}")
            name = rng.choice(self._scenario.resolve(liar.nodes))
            kind = rng.choice(self._tellable(liar, name))
            others = [other for other in self._scenario.resolve(liar.with_) if other != name]
            accomplice = rng.choice(others) if LIES[kind].accomplice else ""
            begin_s = liar.at_s.draw(rng)
            for_s = None if liar.for_s is None else liar.for_s.draw(rng)
            amount = liar.amount or LIES[kind].amount
            if LIES[kind].lasts:
                until_s = None if for_s is None else begin_s + for_s
                yield Lie(self._number(), begin_s, until_s, name, kind, round(amount.draw(rng), 3))
                continue
            per_s = liar.per_hour.draw(rng) / 3600
            end_s = min(self._scenario.duration_s, float("inf") if for_s is None else begin_s + for_s)
            for at_s in (begin_s, *_arrivals(rng, per_s, begin_s, end_s)):
                yield Lie(self._number(), at_s, None, name, kind, round(amount.draw(rng), 3), accomplice)

    def _last_words(self, actions: list[Action]) -> list[Action]:
        """Where there are liars, the honest go on writing: what a liar gave to some of them alone the others are owed
        only when somebody builds on it. Nothing of this is needed if they are one before."""
        opened = [action for action in actions if isinstance(action, Open)]
        liars = {name for lie in actions if isinstance(lie, Lie) for name in (lie.node, lie.accomplice)}
        writers = [node.name for node in self._nodes if node.role == "member" and node.name not in liars]
        if not liars:
            return []
        return [
            Write(self._number(), self._scenario.duration_s + LAST_WORDS_S, name, action.incident, "log", 30)
            for action in opened
            for name in writers
        ]

    def _tellable(self, liar: Liar, name: str) -> list[str]:
        """The lies that this node can tell, of those that are listed."""
        is_member = self._by_name[name].role == "member"
        has_accomplice = any(other != name for other in self._scenario.resolve(liar.with_))
        wanted = list(LIES) if ANY in liar.does else liar.does
        return [
            kind
            for kind in wanted
            if (is_member or not LIES[kind].member) and (has_accomplice or not LIES[kind].accomplice)
        ]

    def _partition(self, fault: Fault, until_s: float | None) -> Iterator[Action]:
        sides = [self._scenario.resolve(side) for side in fault.sides]
        named = {name for side in sides for name in side}
        rest = tuple(name for name in self._names if name not in named)
        for side in [*sides, rest]:
            others = tuple(name for name in self._names if name not in side)
            if side and others:
                yield LinkFault(self._number(), fault.at_s, until_s, "cut", side, others, 0.0)

    def _clog(self, nodes: tuple[str, ...], at_s: float, until_s: float | None) -> Iterator[Action]:
        yield LinkFault(self._number(), at_s, until_s, "hold", nodes, self._names, 0.0)
        yield LinkFault(self._number(), at_s, until_s, "hold", self._names, nodes, 0.0)

    def _swizzle(self, nodes: tuple[str, ...], at_s: float, for_s: float, rng: Random) -> Iterator[Action]:
        stops = sorted(rng.uniform(0, for_s / 2) for _ in nodes)
        starts = sorted(rng.uniform(for_s / 2, for_s) for _ in nodes)
        rng.shuffle(starts)
        for name, stop_s, start_s in zip(nodes, stops, starts, strict=True):
            yield from self._clog((name,), at_s + stop_s, at_s + start_s)


def _arrivals(rng: Random, per_s: float, start_s: float, stop_s: float) -> Iterator[float]:
    """Times of something that happens so often on average, by chance."""
    at_s = start_s
    while per_s > 0:
        at_s += rng.expovariate(per_s)
        if at_s >= stop_s:
            return
        yield round(at_s, 3)
