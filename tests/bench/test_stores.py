"""The measurement of Python stores measures: programs in turn, and one that takes too long is stopped and told."""

import sys
from pathlib import Path

import pytest

from scripts.benchmark import stores

NEVER_ENDS = "import time; time.sleep(3600)"


def test_programs_are_measured_in_turn_and_stopped_when_they_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = ([sys.executable, "-c", NEVER_ENDS], Path.cwd())
    monkeypatch.setitem(stores.PROGRAMS, "adapter-node", slow)
    said: list[str] = []
    measured = stores.measured

    def limited(program: list[str], cwd: Path, limit_s: float, *arguments: object) -> dict[str, float]:
        return measured(program, cwd, 0.5 if program is slow[0] else limit_s, *arguments)

    monkeypatch.setattr(stores, "measured", limited)
    ratios = stores.measure(said.append, events=300, commits=20, rounds=1, limit_s=120.0)
    assert [line.split()[:2] for line in said] == [
        *(["pull", "python"], ["pull", "adapter-node"], ["pull", "python"]),
        *(["commit", "python"], ["commit", "adapter-node"], ["commit", "python"]),
    ]
    assert "'stopped': 1.0" in said[1]
    assert "at least" in said[2]
    assert set(ratios) == {"pull", "commit"}
    assert all(ratio > 0 for each in ratios.values() for ratio in each)
