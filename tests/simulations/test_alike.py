"""The protocol world speaks of reality: the same plan gives the same verdict there and with real daemons."""

from __future__ import annotations

import pytest
from lab_support import needs_lab

from simulations import runs
from simulations.checks.judge import judge
from simulations.worlds.lab.alike import both, main, names, plan_of, row_of


def test_there_are_scenarios_of_each_kind_of_fault_and_all_hold_in_the_protocol_world() -> None:
    assert len(names()) >= 5
    for name in names():
        outcome = runs.world_named("protocol").run(plan_of(name, 1))
        row = row_of(name, outcome, judge(outcome))
        assert row.verdict == "held", row
        assert row.acknowledged > 20
        assert not any(situation.startswith("not done") for situation in outcome.sometimes)


@needs_lab
@pytest.mark.parametrize("name", ["hub-lost", "one-way"])
def test_the_same_faults_give_the_same_verdict_with_real_daemons(name: str) -> None:
    """The others: ``python -m simulations.worlds.lab.alike``, some minutes."""
    here, there = both(name, 1)
    assert here.verdict == there.verdict == "held"
    assert there.acknowledged == pytest.approx(here.acknowledged, rel=0.2)
    assert there.merged == pytest.approx(here.merged, rel=0.2)
    assert there.sent_kib < 5 * here.sent_kib


def test_an_unknown_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no-such"])
    assert "hub-lost" in capsys.readouterr().err
