"""Runs: one seed of one scenario in one world, and its result as data small enough to keep of a million seeds."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from simulations import provenance
from simulations.checks.judge import Verdict, judge
from simulations.scenario import draw, plan, reader
from simulations.scenario.plan import Plan
from simulations.scenario.records import Scenario
from simulations.scenario.sense import ScenarioError, did_you_mean
from simulations.worlds.contract import Outcome, World, WorldUnavailableError

ROOT = provenance.ROOT
SCENARIOS = ROOT / "simulations" / "scenarios"
RESULTS = Path("build") / "simulations"
"""Below the directory one is in: results of sweeps, and a file for each failure."""
WORLDS = {
    "protocol": ("simulations.worlds.protocol", "ProtocolWorld"),
    "daemon": ("simulations.worlds.daemon", "DaemonWorld"),
    "lab": ("simulations.worlds.lab", "LabWorld"),
}
Violations = tuple[tuple[str, str, str], ...]
"""(invariant, node, what)."""
LAST_LINES = 12
LAST_LINES_OF_OTHERS = 3
"""Of every node, when nobody can say which one it is."""


@dataclass(frozen=True, slots=True)
class Result:
    """What is kept of one seed."""

    scenario: str
    world: str
    seed: int
    violations: Violations
    digest: str
    converged_after_s: float | None
    simulated_s: float
    wall_s: float
    events: int
    acknowledged: int
    options: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    sometimes: dict[str, int] = field(default_factory=dict)
    bytes_sent: int = 0
    spread_p50_s: float | None = None
    """From the answer to a write until another member showed it, of those that were measured."""
    spread_p99_s: float | None = None
    known: dict[str, int] = field(default_factory=dict)
    """Hole that the node is known to have -> how often it showed, in words like ``fork I9``."""
    last: dict[str, list[str]] = field(default_factory=dict)
    """Of a failure: node -> the last lines of its trace."""

    wanted: tuple[str, ...] = ()
    """Invariants that the scenario asks for."""
    code: str = ""
    """Digest of the code that ran it; empty, as what follows, in lines from before it was kept."""
    commit: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        return not self.violations

    @property
    def has_run(self) -> bool:
        """False where the harness failed, and no node did anything."""
        return bool(self.digest)

    @property
    def line(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def result_of_line(line: str | bytes) -> Result:
    """Raises ValueError, TypeError or KeyError for what is no such line."""
    plain = json.loads(line)
    plain["violations"] = tuple(tuple(row) for row in plain["violations"])
    plain["wanted"] = tuple(plain.get("wanted", ()))
    return Result(**plain)


def find_scenario(name: str) -> Path:
    """A file, or the name of one that is shipped."""
    path = Path(name)
    if path.exists():
        return path
    file = f"{name.removesuffix('.toml')}.toml"
    places = (SCENARIOS / file, SCENARIOS / "alike" / file)
    return next((place for place in places if place.is_file()), path)


def shipped_scenarios() -> dict[str, Path]:
    """By the name that ``find_scenario`` knows."""
    return {
        str(path.relative_to(SCENARIOS).with_suffix("")): path
        for pattern in ("*.toml", "alike/*.toml")
        for path in sorted(SCENARIOS.glob(pattern))
    }


def load_scenario(name: str) -> Scenario:
    """Raises ScenarioError."""
    path = find_scenario(name)
    if not path.exists():
        near = did_you_mean(name, shipped_scenarios())
        action = f"{near}python -m simulations list names the scenarios that are shipped"
        raise ScenarioError("scenario-unreadable", name, 0, "there is no such file or shipped scenario", action)
    return reader.load(path)


def check_world(scenario: Scenario, world: str, crypto: str | None = None) -> None:
    """Raises ValueError for a world that there is not, that the scenario is not for, or that has no such signatures."""
    if world not in WORLDS:
        raise ValueError(f"there is no world {world!r}; known: {', '.join(WORLDS)}")
    if world not in scenario.worlds:
        raise ValueError(f"{scenario.name} is for {', '.join(scenario.worlds)}, not for {world}")
    if crypto == "cheap" and world != "protocol":
        raise ValueError(f"the world {world} has real signatures only")


def world_named(name: str, timeline: bool = False) -> World:
    """With ``timeline`` it writes down what is to be seen meanwhile. Raises WorldUnavailableError."""
    module, kind = WORLDS[name]
    try:
        world: World = getattr(importlib.import_module(module), kind)(timeline=timeline)
    except (ModuleNotFoundError, AttributeError) as error:
        raise WorldUnavailableError(f"the world {name!r} is not part of this tree: {error}") from None
    return world


def run_plan(
    drawn: Plan, world: World, defect: Callable[[], AbstractContextManager[None]] = nullcontext
) -> tuple[Outcome, Verdict]:
    """Performs and judges. ``defect`` is a planted error that is there while the plan is performed."""
    with defect():
        outcome = world.run(drawn)
    return outcome, judge(outcome)


def run_seed(
    scenario: Scenario, seed: int, world: str, crypto: str | None = None, timeline: bool = False
) -> tuple[Outcome, Result]:
    """``crypto`` in place of what the seed draws; with ``timeline`` the outcome has what a report shows."""
    drawn = draw.draw(scenario, seed)
    if crypto is not None:
        drawn = dataclasses.replace(drawn, options=dataclasses.replace(drawn.options, crypto=crypto))
    outcome, verdict = run_plan(drawn, world_named(world, timeline))
    return outcome, result_of(outcome, verdict)


def result_of(outcome: Outcome, verdict: Verdict) -> Result:
    drawn = outcome.plan
    options = drawn.options
    spread_s = [row.after_s for row in outcome.spread_s]
    nodes = {name for violation in verdict.violations for name in [violation.node] if name}
    return Result(
        scenario=drawn.scenario,
        world=outcome.world,
        seed=drawn.seed,
        violations=tuple((row.invariant, row.node, row.what) for row in verdict.violations),
        digest=outcome.digest,
        converged_after_s=outcome.converged_after_s,
        simulated_s=drawn.duration_s + (outcome.converged_after_s or drawn.converge_within_s),
        wall_s=round(outcome.wall_s, 3),
        events=outcome.events,
        acknowledged=len(outcome.acknowledged),
        options={
            "transport": options.transport,
            "commit_s": list(options.commit_s),
            "gather_s": options.gather_s,
            "crypto": options.crypto if outcome.world == "protocol" else "real",
            "switched_off": list(options.switched_off),
            "drawn": dict(options.drawn),
            "actions": len(drawn.actions),
        },
        asked={name: count for name, count in sorted(verdict.asked.items()) if name in drawn.invariants},
        sometimes=dict(sorted(outcome.sometimes.items())),
        known=dict(sorted(Counter(f"{row.hole} {row.invariant}" for row in verdict.known).items())),
        bytes_sent=sum(outcome.bytes_sent.values()),
        spread_p50_s=percentile(spread_s, 50),
        spread_p99_s=percentile(spread_s, 99),
        last={
            name: list(lines)[-(LAST_LINES if name in nodes else LAST_LINES_OF_OTHERS) :]
            for name, lines in sorted(outcome.last.items())
            if name in nodes or not nodes
        }
        if verdict.violations
        else {},
        wanted=drawn.invariants,
        code=code_digest(),
        commit=provenance.commit(),
        versions=provenance.versions(),
    )


def percentile(values: Sequence[float], share: int) -> float | None:
    """The least value that so many percent are not above (nearest rank); None of nothing."""
    return sorted(values)[max(0, -(-share * len(values) // 100) - 1)] if values else None


# --- files ------------------------------------------------------------------------------------------------------------


def save_failure(drawn: Plan, result: Result, directory: Path = RESULTS / "failures") -> Path:
    """A plan that failed, so that it can be replayed and shrunk when the scenario has changed."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{result.scenario}-{result.world}-{result.seed}.json"
    content = plan_file(drawn, result.world, result.digest, result.violations)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def plan_file(drawn: Plan, world: str, digest: str = "", violations: Violations = ()) -> dict[str, Any]:
    """What such a file holds, of a plan for this code."""
    return {
        "world": world,
        "code": code_digest(),
        "digest": digest,
        "violations": violations,
        "plan": plan.to_plain(drawn),
    }


@dataclass(frozen=True, slots=True)
class Saved:
    world: str
    code: str
    digest: str
    violations: Violations
    plan: Plan


def load_failure(path: Path) -> Saved:
    """Raises OSError, or ValueError when it is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(tuple(row) for row in content["violations"])
        return Saved(content["world"], content["code"], content["digest"], rows, plan.from_plain(content["plan"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no saved failure ({type(error).__name__}: {error})") from None


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Twelve digits that change with any line of the node or of the simulations: results of other code are others'."""
    hashed = hashlib.blake2b(digest_size=6)
    for folder in ("meshnode", "simulations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            hashed.update(str(path.relative_to(ROOT)).encode())
            hashed.update(path.read_bytes())
    return hashed.hexdigest()
