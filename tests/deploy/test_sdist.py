"""The source distribution: installed away from this checkout and without any index, it serves."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain
from tests.conformance.servers import free_port
from tests.deploy.conftest import Serve

ROOT = Path(__file__).resolve().parents[2]
BUILD_LIMIT_S = 600


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=BUILD_LIMIT_S, capture_output=True)
    (made,) = folder.glob("*.tar.gz")
    return made


def test_it_holds_the_package_its_documents_and_its_pins_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "livesync_trio").rglob("*.py")}
    assert package <= held
    assert {"LICENSE", "README.md", "CHANGELOG.md", "docs/start.md", "livesync_trio/py.typed"} <= held
    assert {path.name for path in ROOT.glob("requirements*.txt")} <= held
    tops = {name.split("/")[0] for name in held}
    assert not tops & {"tests", "scripts", "secrets", "node_modules", "build", "dist", ".venv"}
    assert not [name for name in held if name.endswith((".db", ".pyc", ".env"))]


def test_what_is_installed_from_it_serves(
    sdist: Path, serve: Serve, make_client: MakeClient, store_id: str, tmp_path: Path
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *offline, str(sdist)]
    subprocess.run(pip, cwd=elsewhere, check=True, timeout=BUILD_LIMIT_S)
    environment = {"PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import livesync_trio; print(livesync_trio.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True)
    assert found.stdout.startswith(str(site)), "the checkout would be tested"
    port = free_port()
    command = [sys.executable, "-m", "livesync_trio", "serve"]
    server = serve(command, port, elsewhere, {**environment, "PORT": str(port)})
    make_client(Generation.V04_WS, server.url, store_id).push(chain(1, 2))
    assert server.stop() == 0
    assert (site / "bin" / "livesync").exists()
