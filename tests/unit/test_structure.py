"""Rules of the code that import-linter cannot see."""

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
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nurseries_are_opened_in_supervision_only(path: Path) -> None:
    if path != PACKAGE / "supervision.py":
        assert "open_nursery" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_named_for_what_it_owns(path: Path) -> None:
    assert not re.search(r"util|helper|manager|common|misc", path.stem)


HASHED = [*sorted(ROOT.glob("requirements-*.txt")), ROOT / "scripts/benchmark/requirements.txt"]
PIN = r"([a-z0-9-]+)==([0-9][0-9a-z.]*)"


def requirements(name: str) -> dict[str, str]:
    """Pins of a requirements file with hashes; nothing else may stand in it, the address of an index least of all."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE).replace(" \\\n", "")
    pins = {}
    for line in text.splitlines():
        pin = re.fullmatch(rf"{PIN}(    --hash=sha256:[0-9a-f]{{64}})+", line)
        assert pin, f"{name}: {line[:80]!r} is not a pin with hashes; run scripts/pins"
        pins[pin[1]] = pin[2]
    return pins


def names(declared: list[str]) -> set[str]:
    return {re.split(r"[\[><=]", dependency)[0] for dependency in declared}


@pytest.mark.parametrize("path", HASHED, ids=name_of)
def test_pins_have_hashes(path: Path) -> None:
    assert requirements(name_of(path))


def test_every_dependency_is_pinned_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, dev = requirements("requirements-runtime.txt"), requirements("requirements-dev.txt")
    otel, build = requirements("requirements-otel.txt"), requirements("requirements-build.txt")
    assert runtime.keys() & (dev.keys() | otel.keys() | build.keys()) == set()
    s3 = requirements("requirements-s3.txt")
    assert (otel.keys() | s3.keys()) & build.keys() == set()
    assert (otel | s3).items() <= dev.items(), "what is tested is what runs"
    extras = project["optional-dependencies"]
    for declared, pins in (
        (project["dependencies"], runtime),
        (extras["dev"], dev),
        (extras["otel"], otel),
        (extras["s3"], s3),
    ):
        assert names(declared) <= pins.keys()


def test_platforms_get_the_same_versions() -> None:
    *lines, last = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert last == ".", "platforms run `pip install -r requirements.txt` and nothing else"
    pins = [line for line in lines if not line.startswith("#")]
    assert dict(re.fullmatch(PIN, line).groups() for line in pins) == requirements(  # type: ignore[union-attr, misc]
        "requirements-runtime.txt"
    )


def test_what_makes_the_package_is_pinned_wherever_it_is_made() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    backend = requirements("requirements-backend.txt")
    assert set(wanted) == {f"{name}=={version}" for name, version in backend.items() if name != "editables"}


@pytest.mark.parametrize("name", ["Dockerfile", "scripts/venv", "scripts/bench"])
def test_what_is_installed_is_checked(name: str) -> None:
    """Every installation checks hashes, or installs one thing without looking anywhere."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    calls = re.findall(r"(?:pip (?:install|wheel)|pip\[@\]\}\"|pip .* install) +--.*", text)
    assert calls
    for call in calls:
        assert "--require-hashes" in call or "--no-deps" in call, call
        assert "--require-hashes" in call or "--no-build-isolation" in call or "--no-index" in call, call


def test_the_procfile_starts_the_server() -> None:
    assert (ROOT / "Procfile").read_text() == "web: livesync serve --host 0.0.0.0\n"
