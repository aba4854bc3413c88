"""The gate itself: what it lets through, what it measures again, what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmark import check
from scripts.benchmark.scenarios import Scenario


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"yardstick_s": 1.0, "figures": dict.fromkeys((*check.CPU, check.MEMORY), 10.0)}))
    monkeypatch.setattr(check, "BASELINE", path)
    monkeypatch.setattr(check, "yardstick_s", lambda: 1.5)


def _measuring(monkeypatch: pytest.MonkeyPatch, *figures: float) -> Iterator[float]:
    """`push100` gives these in turn, everything else what is committed."""
    left = iter(figures)
    monkeypatch.setattr(check, "figure", lambda scenario: next(left) if scenario.name == "push100" else 10.0)
    return left


@pytest.mark.usefixtures("baseline")
def test_what_is_below_twice_the_committed_figure_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    _measuring(monkeypatch, 29.9)  # twice 10, on a machine that takes half as long again
    assert check.complaints(print) == []


@pytest.mark.usefixtures("baseline")
def test_what_was_disturbed_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    left = _measuring(monkeypatch, 80.0, 31.0, 29.0)
    assert check.complaints(print) == []
    assert list(left) == []


@pytest.mark.usefixtures("baseline")
def test_what_stays_above_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    left = _measuring(monkeypatch, 33.0, 31.0, *[32.0] * (check.TRIES - 2))
    (complaint,) = check.complaints(print)
    assert "push100 takes 31.0 µs" in complaint
    assert list(left) == []


@pytest.mark.usefixtures("baseline")
def test_a_fast_moment_of_the_machine_lowers_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "yardstick_s", lambda: 0.5)
    _measuring(monkeypatch, 19.9)
    assert check.complaints(print) == []


@pytest.mark.usefixtures("baseline")
def test_memory_is_not_forgiven_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def figure(scenario: Scenario) -> float:
        return 21.0 if scenario.name == check.MEMORY else 10.0

    monkeypatch.setattr(check, "figure", figure)
    (complaint,) = check.complaints(print)
    assert "21.0 KiB per connection" in complaint


def test_the_committed_baseline_has_every_figure() -> None:
    content = json.loads(check.BASELINE.read_text())
    assert set(content["figures"]) == {*check.CPU, check.MEMORY}
    assert content["yardstick_s"] > 0
