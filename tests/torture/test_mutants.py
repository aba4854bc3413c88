"""The tests notice what they are there to notice: faults put in on purpose (`mutants.toml`)."""

import random
from pathlib import Path

import pytest

from tests.torture.mutants import Mutant, judged, mutants, survivors
from tests.torture.server import ROOT

SAMPLE = 1


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_it_fits_the_product(mutant: Mutant) -> None:
    assert mutant.mutated((ROOT / mutant.file).read_text())
    assert (ROOT / mutant.test.partition("::")[0]).exists()


def test_there_are_enough_and_each_is_another() -> None:
    names = [mutant.name for mutant in mutants()]
    assert len(set(names)) == len(names) >= 30


def test_a_sample_is_killed(tmp_path: Path, dice: random.Random) -> None:
    """All of them: `scripts/torture mutants`."""
    quick = [mutant for mutant in mutants() if mutant.killed_by == "simulation"]
    assert survivors(judged(dice.sample(quick, SAMPLE), tmp_path, print)) == []
