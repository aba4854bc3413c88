"""`scripts/torture` itself."""

import os

import pytest
from click.testing import CliRunner

from tests.torture.__main__ import ATTACKS, main
from tests.torture.server import ROOT


def test_it_is_a_program() -> None:
    assert os.access(ROOT / "scripts" / "torture", os.X_OK)


def test_it_tells_of_every_attack() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    assert all(f"\n  {name}" in said for name in ATTACKS)


def test_the_seed_is_printed_and_a_run_of_it_can_be_asked_for() -> None:
    done = CliRunner().invoke(main, ["simulate", "--seed", "5", "--seeds", "2"])
    assert done.exit_code == 0, done.output
    assert "simulate, seed 5" in done.output


def test_what_is_found_ends_it_with_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.torture.shim.missing_programs", lambda: ["gcc"])
    assert CliRunner().invoke(main, ["disk"]).exit_code == 1
