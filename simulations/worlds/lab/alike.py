"""``python -m simulations.worlds.lab.alike [NAME ...] [--seed N]``: does the protocol world speak of reality?

Performs the short scenarios of ``scenarios/alike`` in the world ``protocol`` and in the lab, the same plan in both, and
prints a table. The verdict must be the same. The plan's disk and machine are set to what the lab is made of (a commit
of some milliseconds, streams): the lab has its own, and a seed may have drawn a disk of 5 s.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from simulations import runs
from simulations.checks.judge import Verdict
from simulations.scenario.draw import draw
from simulations.scenario.plan import Plan
from simulations.worlds.contract import Outcome, WorldUnavailableError

FOLDER = runs.SCENARIOS / "alike"
COMMIT_S = (0.0005, 0.005)
GATHER_S = 0.001


class Row(NamedTuple):
    """One scenario in one world."""

    scenario: str
    world: str
    verdict: str
    acknowledged: int
    refused: str
    """Number and code of what clients were refused."""
    converged_s: float | None
    merged: int
    """Entries, over all members."""
    spread_s: float
    """From the answer to a write until another member showed it: the median."""
    sent_kib: int

    @property
    def line(self) -> str:
        after = "never" if self.converged_s is None else f"{self.converged_s:.1f}"
        cells = (self.scenario, self.world, self.verdict, self.acknowledged, self.refused or "-", after, self.merged)
        return "| " + " | ".join(map(str, (*cells, f"{self.spread_s * 1000:.0f}", self.sent_kib))) + " |"


HEAD = (
    "| scenario | world | verdict | acknowledged | refused | one after, s | merged | spread p50, ms | sent, KiB |\n"
    "|---|---|---|---:|---|---:|---:|---:|---:|"
)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def plan_of(name: str, seed: int) -> Plan:
    plan = draw(runs.load_scenario(str(FOLDER / f"{name}.toml")), seed)
    return replace(plan, options=replace(plan.options, commit_s=COMMIT_S, gather_s=GATHER_S, transport="stream"))


def row_of(name: str, outcome: Outcome, verdict: Verdict) -> Row:
    codes = Counter(row.code for row in outcome.refused)
    spread = sorted(row.after_s for row in outcome.spread_s)
    return Row(
        name,
        outcome.world,
        "held" if verdict.held else "violated " + ", ".join(sorted({row.invariant for row in verdict.violations})),
        len(outcome.acknowledged),
        ", ".join(f"{number} {code}" for code, number in sorted(codes.items())),
        outcome.converged_after_s,
        sum(sum(shown.heads.values()) for end in outcome.ends for shown in end.incidents.values()),
        spread[len(spread) // 2] if spread else 0.0,
        sum(outcome.bytes_sent.values()) >> 10,
    )


def both(name: str, seed: int) -> tuple[Row, Row]:
    """In protocol, in the lab. Raises WorldUnavailableError."""
    plan = plan_of(name, seed)
    here = row_of(name, *runs.run_plan(plan, runs.world_named("protocol")))
    return here, row_of(name, *runs.run_plan(plan, runs.world_named("lab")))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m simulations.worlds.lab.alike")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())} (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in names():
            parser.error(f"there is no {name!r} in {Path(*FOLDER.parts[-3:])}; known: {', '.join(names())}")
    differ = 0
    print(HEAD, flush=True)
    try:
        for name in given.names or names():
            rows = both(name, given.seed)
            differ += rows[0].verdict != rows[1].verdict
            print("\n".join(row.line for row in rows), flush=True)
    except WorldUnavailableError as error:
        print(f"the lab cannot run here: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    print(f"\n{differ} verdicts differ" if differ else "\nthe verdicts are the same")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
