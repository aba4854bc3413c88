"""What a platform with buildpacks does: `pip install -r requirements.txt`, no more, then the line of the Procfile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain
from tests.conformance.servers import free_port
from tests.conformance.waiting import eventually
from tests.deploy.conftest import Serve
from tests.deploy.processes import Served, health
from tests.postgres.server import PostgresServer, give_away, new_cluster
from tests.security.certificates import write_certificate

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "c0ffee"
INSTALL_LIMIT_S = 900
PYTHON = os.environ.get("LIVESYNC_PLATFORM_PYTHON", sys.executable)
"""Another Python to try the installation with."""


@pytest.fixture(scope="module")
def slug(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application's folder as the platform makes it: what is in version control, and an environment."""
    app = tmp_path_factory.mktemp("platform") / "app"
    app.mkdir()
    for name in ("Procfile", "LICENSE", "README.md", "pyproject.toml", "requirements.txt", ".python-version"):
        shutil.copy(ROOT / name, app / name)
    shutil.copytree(ROOT / "livesync_trio", app / "livesync_trio", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([PYTHON, "-m", "venv", app / ".venv"], check=True)
    pip = [str(app / ".venv" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    environment = os.environ | {"PIP_NO_COMPILE": "1"}  # it would take longer than all the rest
    command = [*pip, "install", "-r", "requirements.txt"]
    subprocess.run(command, cwd=app, env=environment, check=True, timeout=INSTALL_LIMIT_S)
    return app


def start(slug: Path, serve: Serve, **variables: str) -> Served:
    """Run the Procfile's line as platforms do: in a shell, with $PORT and what the operator has set."""
    (line,) = re.findall(r"^web: (.+)$", (slug / "Procfile").read_text(), re.MULTILINE)
    port = free_port()
    path = f"{slug / '.venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    settings = {"PATH": path, "PORT": str(port), "AUTH_TOKEN": TOKEN, "HOME": str(slug), **variables}
    # In a test nobody else shall reach it; the platform's router must.
    return serve(["bash", "-c", line.replace("0.0.0.0", "127.0.0.1")], port, slug, settings)


def test_the_procfile_serves_on_the_port_given_and_drains(
    slug: Path, serve: Serve, make_client: MakeClient, store_id: str
) -> None:
    server = start(slug, serve)
    make_client(Generation.V04_WS, server.url, store_id, payload={"authToken": TOKEN}).push(chain(1, 2))
    assert server.stop() == 0
    assert "stopped" in server.log.read_text()


def test_the_installation_is_the_server_with_all_it_needs(slug: Path) -> None:
    pip = [str(slug / ".venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    assert subprocess.run([*pip, "check"], check=False).returncode == 0
    installed = json.loads(subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True).stdout)
    pins = re.findall(r"^([a-z0-9-]+)==(.+)$", (slug / "requirements.txt").read_text(), re.MULTILINE)
    versions = {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in installed}
    assert set(pins) <= versions.items()
    assert "livesync-trio" in versions
    (location,) = (slug / ".venv").rglob("livesync_trio")
    assert "site-packages" in location.parts, "some platforms keep the environment only, not the folder"


def test_python_is_named_in_the_form_buildpacks_read() -> None:
    version = (ROOT / ".python-version").read_text()
    assert re.fullmatch(r"3\.\d+\n", version), "only the minor version, so that platforms bring the newest patch"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version.strip()}" in project["classifiers"]
    assert not (ROOT / "runtime.txt").exists(), "Heroku no longer reads it"


# --- databases of platforms ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres_with_tls(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """As platforms rent it out: with TLS, and a certificate of its own making."""
    server = new_cluster("tls")
    for path in write_certificate(tmp_path_factory.mktemp("certificate")):
        copy = Path(shutil.copy(path, server.directory / path.name))
        copy.chmod(0o600)
        give_away(copy)
    server.start("ssl=on", "ssl_cert_file=cert.pem", "ssl_key_file=key.pem")
    return server


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_the_database_url_is_taken_as_platforms_spell_it(
    slug: Path, serve: Serve, postgres_with_tls: PostgresServer, scheme: str
) -> None:
    url = postgres_with_tls.url(sslmode="require").replace("postgresql:", f"{scheme}:")
    server = start(slug, serve, DATABASE_URL=url)
    assert (health(server.port) or {})["engine"] == "postgresql"

    def encrypted() -> object:
        """Of the server's connections, which it opens as it needs them."""
        return postgres_with_tls.run(
            "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'livesync'"
        )

    eventually(lambda: encrypted() == [(True,)], "all connections of the server are encrypted")
    assert server.stop() == 0
