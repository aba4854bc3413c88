"""What the scripts say on a machine that lacks something; that they work, every run of them shows."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    ROOT / name
    for name in ("scripts/serve", "scripts/build-binary", "scripts/test", "scripts/venv", "scripts/pins", ".ci/run")
]
TOOLS = ("bash", "dirname", "cat", "head", "rm")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_a_program(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A copy of the scripts, and a `bin` with the shell's own tools and no Python."""
    for name in ("scripts", "bin"):
        (tmp_path / name).mkdir()
    for script in ("serve", "venv"):
        shutil.copy(ROOT / "scripts" / script, tmp_path / "scripts" / script)
    for pins in ("requirements-runtime.txt", "requirements-backend.txt", "pyproject.toml"):
        shutil.copy(ROOT / pins, tmp_path / pins)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def put(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!{machine}/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_serve(machine: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": str(machine / "bin")}
    return subprocess.run(
        [str(machine / "bin" / "bash"), str(machine / "scripts" / "serve")],
        cwd=machine,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_without_python(machine: Path) -> None:
    run = run_serve(machine)
    assert run.returncode == 1
    assert "needs Python 3.11 or newer" in run.stderr


def test_with_an_old_python(machine: Path) -> None:
    put(machine, "python3", 'if [ "$1" = --version ]; then echo "Python 3.9.18"; else exit 1; fi')
    run = run_serve(machine)
    assert run.returncode == 1
    assert "needs Python 3.11 or newer" in run.stderr
    assert "Found: Python 3.9.18" in run.stderr


def test_without_the_venv_module(machine: Path) -> None:
    put(machine, "python3", 'case "$*" in --version) echo Python 3.12.0;; *ensurepip*) exit 1;; *) exit 0;; esac')
    run = run_serve(machine)
    assert run.returncode == 1
    assert "no venv module" in run.stderr
    assert "python3-venv" in run.stderr


def test_a_newer_python_under_another_name_is_found(machine: Path) -> None:
    put(machine, "python3", "exit 1")
    put(machine, "python3.13", 'case "$*" in "-m venv"*) echo made >&2; exit 7;; *) exit 0;; esac')
    run = run_serve(machine)
    assert "made" in run.stderr
    assert run.returncode == 7
