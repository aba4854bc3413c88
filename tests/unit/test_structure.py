"""Rules of the house that import-linter cannot see."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "livesync_trio"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_which_room_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nurseries_are_opened_in_supervision_only(path: Path) -> None:
    if path != PACKAGE / "supervision.py":
        assert "open_nursery" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_named_for_what_it_owns(path: Path) -> None:
    assert not re.search(r"util|helper|manager|common|misc", path.stem)


def requirements(name: str) -> dict[str, str]:
    """Pins of a requirements file; nothing else may stand in it, but for the server itself behind what it runs on."""
    pins = {}
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    if name == "requirements.txt":
        assert lines.pop() == ".", "platforms run `pip install -r requirements.txt` and nothing else"
    for line in lines:
        if line.startswith("#"):
            continue
        pin = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line)
        assert pin, f"{name}: {line!r} is not a plain pin"
        pins[pin[1]] = pin[2]
    return pins


def test_every_dependency_is_pinned_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, dev = requirements("requirements.txt"), requirements("requirements-dev.txt")
    assert runtime.keys() & dev.keys() == set()
    assert runtime.keys() & requirements("requirements-build.txt").keys() == set()
    for declared, pins in ((project["dependencies"], runtime), (project["optional-dependencies"]["dev"], dev)):
        assert {re.split(r"[\[><=]", dependency)[0] for dependency in declared} <= pins.keys()


def test_the_procfile_starts_the_server() -> None:
    assert (ROOT / "Procfile").read_text() == "web: livesync serve --host 0.0.0.0\n"
