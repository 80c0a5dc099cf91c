"""The benchmarks work and say what they mean. Nothing here asserts a time: that is what running them is for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.benchmarks import __main__ as benchmarks
from simulations.benchmarks import raw_http, relay, stores, yardsticks
from simulations.benchmarks.figures import Aim, Measurement, percentile, summarise, table
from simulations.benchmarks.place import FULL, QUICK, TINY, Place
from simulations.mesh import MeshError


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile(list(range(1, 201)), 99) == 198
    assert math.isnan(percentile([], 50))


def test_ratios_are_taken_within_a_run_before_the_median() -> None:
    """A machine that was twice as slow in one run must not move the ratio."""
    runs = [
        [Measurement("x", value, "s", Aim(2.5, of_ratio=True), bare, "bare")]
        for value, bare in ((2, 1), (8, 4), (3, 1))
    ]
    (row,) = summarise(runs, judge=True)
    assert (row.median, row.ratio, row.holds) == (3, 2.0, True)


def test_an_aim_is_judged_at_full_sizes_only() -> None:
    runs = [[Measurement("x", 5.0, "s", Aim(3.0))]]
    assert summarise(runs, judge=True)[0].holds is False
    assert summarise(runs, judge=False)[0].holds is None
    assert "MISSED" in table(summarise(runs, judge=True))
    assert benchmarks.is_full(FULL)
    assert not benchmarks.is_full(QUICK)


def test_an_answer_is_complete_at_its_length_however_it_is_cut() -> None:
    whole = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n12345"
    for cut in range(1, len(whole)):
        answer = raw_http.Answer()
        assert not answer.feed(whole[:cut])
        assert answer.feed(whole[cut:])


def test_a_refused_request_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="refused"):
        raw_http.Answer().feed(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")


def test_entries_have_the_content_that_the_aims_speak_of() -> None:
    assert abs(stores.content_bytes() - raw_http.CONTENT_BYTES) <= 5


def test_the_relay_passes_and_counts_every_byte() -> None:
    with relay._socket() as target, relay._socket() as dialler:
        target.settimeout(10)
        dialler.settimeout(10)
        with relay.counting(target.getsockname()[1]) as (port, totals):
            dialler.sendto(b"x" * 700, ("127.0.0.1", port))
            data, back = target.recvfrom(2_000)
            target.sendto(data[:300], back)
            assert dialler.recv(2_000) == b"x" * 300
            assert totals() == relay.Totals(1_000, 2)


def test_yardsticks_measure_something(tmp_path: Path) -> None:
    assert yardsticks.commit_s(tmp_path, 3) > 0
    assert yardsticks.round_trip_s(3) > 0
    assert yardsticks.transfer_s(100_000) > 0
    assert yardsticks.socket_answer_s(100_000, 3) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_benchmark_that_fails_keeps_what_it_and_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_place: Place) -> Iterator[list[Measurement]]:
        yield [Measurement("fails, first", 1.0, "s")]
        raise MeshError("no links")

    def works(_place: Place) -> Iterator[list[Measurement]]:
        yield [Measurement("works", 2.0, "s")]

    monkeypatch.setattr(benchmarks, "BENCHMARKS", {"fails": fails, "works": works})
    rows, failed = benchmarks.measure(["fails", "works"], TINY, tmp_path)
    assert [row.name for row in rows] == ["fails, first", "works"]
    assert failed == {"fails": "MeshError: no links"}


def test_every_benchmark_runs_and_leaves_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks, "BUILD", tmp_path)
    output = tmp_path / "result.json"
    assert benchmarks.main(["--tiny", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    names = {figure["name"].split(",")[0].split()[0] for figure in result["figures"]}
    assert names == set(benchmarks.BENCHMARKS)
    assert all(figure["median"] is not None for figure in result["figures"])
    assert result["machine"]["cores"] >= 1
    assert result["full"] is False
    assert result["failed"] == {}
    assert "sealed" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [output]
