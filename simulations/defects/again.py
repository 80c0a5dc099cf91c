"""``python -m simulations.defects.again DEFECT SEED``: prints the digest of the trace, from this process."""

from __future__ import annotations

import sys

from simulations import runs
from simulations.defects import DEFECTS
from simulations.scenario.draw import draw


def main(name: str, seed: str) -> None:
    defect = DEFECTS[name]
    plan = draw(runs.load_scenario(defect.scenario), int(seed))
    outcome, _ = runs.run_plan(plan, defect.make_world(), defect.plant)
    print(outcome.digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
