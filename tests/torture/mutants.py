"""Breaks the server on purpose, one fault at a time in a scratch copy, and sees whether the named test notices.

The faults are data: `mutants.toml`. A test that hangs has not noticed: every one has its time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.torture.server import ROOT

DATA = Path(__file__).with_name("mutants.toml")
SIMULATION = "tests/simulation/test_simulation.py::test_no_promise_is_broken"
SIMULATION_SEEDS = 1000
LIMIT_S = 480.0
_COPIED = ("livesync_trio", "tests", "pyproject.toml")
_TEST_FAILED = 1
_HEADING = """# Faults put in on purpose

Each is put into a copy of the server, alone, and the test beside it must fail. Written by `scripts/torture mutants`,
which also runs those tests on an unharmed copy, where they must pass. The faults themselves are data:
[mutants.toml](../../tests/torture/mutants.toml).
"""


@attrs.frozen
class Mutant:
    """One fault: texts of one file and what stands there instead."""

    name: str
    killed_by: str
    file: str
    edits: list[tuple[str, str]]

    @property
    def test(self) -> str:
        """The test, as pytest takes it."""
        return SIMULATION if self.killed_by == "simulation" else self.killed_by

    def mutated(self, text: str) -> str:
        """The file with the fault. Raises LookupError when the product does not look as the data says."""
        for old, new in self.edits:
            if text.count(old) != 1:
                raise LookupError(f"{self.name}: {self.file} has {text.count(old)} times {old!r}")
            text = text.replace(old, new)
        return text


def mutants() -> list[Mutant]:
    """All of them."""
    found = tomllib.loads(DATA.read_text())["mutant"]
    return [
        Mutant(each["name"], each["killed_by"], each["file"], [(old, new) for old, new in each["edits"]])
        for each in found
    ]


@attrs.frozen
class Verdict:
    """What became of a mutant, and how long that took."""

    mutant: Mutant
    killed: bool
    took_s: float


def judged(chosen: list[Mutant], directory: Path, say: Callable[[str], None]) -> list[Verdict]:
    """Apply each and run its test."""
    verdicts: list[Verdict] = []
    for number, mutant in enumerate(chosen):
        start_s = time.monotonic()
        killed = _is_killed(mutant, directory / f"mutant-{number}")
        verdicts.append(Verdict(mutant, killed, time.monotonic() - start_s))
        say(f"{'killed' if killed else 'SURVIVED'} in {verdicts[-1].took_s:.0f} s: {mutant.name}")
    return verdicts


def survivors(verdicts: list[Verdict]) -> list[str]:
    """Names of those that nobody noticed."""
    return [verdict.mutant.name for verdict in verdicts if not verdict.killed]


def table(verdicts: list[Verdict]) -> str:
    """The verdicts as the page docs/guarantees/mutants.md."""
    rows = [
        f"| {each.mutant.name} | `{each.mutant.file}` | `{each.mutant.test}` | "
        f"{f'{each.took_s:.0f} s' if each.killed else 'SURVIVED'} |"
        for each in verdicts
    ]
    return "\n".join([_HEADING, "| fault | in | noticed by | within |", "| --- | --- | --- | --- |", *rows, ""])


def control(chosen: list[Mutant], directory: Path, say: Callable[[str], None]) -> list[str]:
    """Run the tests on an unharmed copy: gives those that fail there, too, and so would notice nothing."""
    unharmed = [Mutant(test, test, "pyproject.toml", []) for test in sorted({mutant.test for mutant in chosen})]
    useless = [test for test in unharmed if _is_killed(test, directory / "control")]
    say(f"{len(unharmed) - len(useless)} of {len(unharmed)} tests pass on an unharmed copy")
    return [test.name for test in useless]


def _is_killed(mutant: Mutant, copy: Path) -> bool:
    _copy_tree(copy)
    path = copy / mutant.file
    path.write_text(mutant.mutated(path.read_text()))
    try:
        return _fails(mutant, copy)
    finally:
        shutil.rmtree(copy)


def _copy_tree(copy: Path) -> None:
    copy.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        else:
            shutil.copy(source, copy / name)


def _fails(mutant: Mutant, copy: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LIVESYNC_SIMULATION_SEEDS": str(SIMULATION_SEEDS),
    }
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return False
    if process.returncode not in (0, _TEST_FAILED):
        raise RuntimeError(f"{mutant.name}: pytest ended with {process.returncode}\n{said.decode()[-3000:]}")
    return process.returncode == _TEST_FAILED
