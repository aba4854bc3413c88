"""Dockerfile and compose.yaml, as far as a machine without a container engine can: the steps are done by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from livesync_trio import limits
from livesync_trio.config import SETTINGS, load
from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain
from tests.conformance.servers import free_port
from tests.deploy.conftest import Serve
from tests.deploy.dockerfile import Image
from tests.deploy.processes import Served

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {name for setting in SETTINGS for name in (setting.env, setting.file_env)}
TOKEN = "c0ffee"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    built = Image(ROOT, tmp_path_factory.mktemp("image"))
    built.build()
    return built


@pytest.fixture
def container(image: Image, serve: Serve) -> Served:
    port = free_port()
    settings = {"PORT": str(port), "AUTH_TOKEN": TOKEN, "HOST": "127.0.0.1"}  # loopback only, in a test
    command = image.exec_form("ENTRYPOINT") + image.exec_form("CMD")
    program = shutil.which(command[0], path=image.environment["PATH"])
    assert program is not None
    assert program.startswith(str(image.root)), "it would run something that is not in the image"
    return serve([program, *command[1:]], port, image.workdir, {**image.environment, **settings})


# --- the image -------------------------------------------------------------------------------------------------------


def test_the_image_serves_checks_itself_and_drains_as_process_one(
    image: Image, container: Served, make_client: MakeClient, store_id: str
) -> None:
    make_client(Generation.V04_WS, container.url, store_id, payload={"authToken": TOKEN}).push(chain(1, 2))
    image.environment["PORT"] = str(container.port)
    check = image.run(*image.exec_form("HEALTHCHECK"), timeout=30)
    assert (check.returncode, json.loads(check.stdout)["status"]) == (0, "ok")
    assert container.stop() == 0  # the signal reaches the server itself: nothing stands between
    assert (image.root / "data" / "livesync.db").exists()
    assert '"event": "stopped"' in container.log.read_text()
    check = image.run(*image.exec_form("HEALTHCHECK"), timeout=30)
    assert check.returncode == 1
    assert "no answer" in check.stderr


def test_the_image_is_small_and_not_root(image: Image) -> None:
    user, _, group = image.settings["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert image.stages == ["python:3.13-slim AS build", "python:3.13-slim"]
    size_bytes = sum(path.lstat().st_size for path in (image.root / "opt").rglob("*"))
    assert size_bytes < 110e6, "what is added to python:slim"
    assert not list((image.root / "opt").rglob("site-packages/pip"))


def test_the_image_is_configured_with_settings_that_exist(image: Image) -> None:
    named = {key.removeprefix("ENV ") for key in image.settings if key.startswith("ENV ")}
    assert named - {"PATH"} <= KNOWN
    assert image.settings["EXPOSE"] == image.settings["ENV PORT"]
    assert image.settings["ENV DATABASE_URL"].startswith(f"sqlite:///{image.settings['VOLUME']}/")
    start_s, timeout_s = (
        float(re.search(rf"--{flag}=(\d+)s", image.settings["HEALTHCHECK flags"])[1])  # type: ignore[index]
        for flag in ("start-period", "timeout")
    )
    assert start_s >= limits.DATABASE_WAIT_S
    assert timeout_s > limits.HEALTH_ANSWER_LIMIT_S


@pytest.mark.parametrize("path", [".git", ".venv", "tests", "livesync.db", "secrets/auth-token", "dist/livesync"])
def test_nothing_private_is_sent_to_the_builder(image: Image, path: str) -> None:
    assert not image.in_context(path)


# --- compose.yaml ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def test_docker_compose_accepts_it() -> None:
    """Where there is a compose of whichever age; it needs no engine for this."""
    candidates = [["docker", "compose"], ["docker-compose"]]
    for command in candidates:
        found = shutil.which(command[0]) is not None
        if found and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("neither `docker compose` nor `docker-compose` is installed here")
    environment = {"PATH": os.environ["PATH"], "SITE": "sync.example.org"}
    run = subprocess.run(
        [*command, "--file", str(ROOT / "compose.yaml"), "config", "--quiet"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_services_name_settings_secrets_and_services_that_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= compose["secrets"].keys(), name
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            checked_by_image = services[needed].get("image") == "livesync"
            assert checked_by_image or "healthcheck" in services[needed], f"{needed} never becomes healthy"
        for value in service.get("environment", {}).values():
            if value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], name
    ours = [service for service in services.values() if service.get("image") == "livesync"]
    assert len(ours) == 2
    for service in ours:
        assert service["environment"].keys() <= KNOWN
        assert float(service["stop_grace_period"].removesuffix("s")) > limits.DRAIN_LIMIT_S


def test_caddy_finds_the_servers_and_is_believed(compose: dict[str, Any], image: Image) -> None:
    services = compose["services"]
    variables = services["caddy"]["environment"]
    assert set(re.findall(r"\{\$(\w+)", (ROOT / "deploy" / "Caddyfile").read_text())) == variables.keys()
    for upstream in variables["SERVERS"].split():
        name, _, port = upstream.partition(":")
        assert services[name]["image"] == "livesync"
        assert port == image.settings["ENV PORT"]
    (network,) = compose["networks"]["default"]["ipam"]["config"]
    assert services["livesync-1"]["environment"]["LIVESYNC_TRUSTED_PROXIES"] == network["subnet"]
    mounted = services["caddy"]["volumes"][0].split(":")[0]
    assert (ROOT / mounted).is_file()


def test_the_secrets_that_the_script_makes_are_those_that_are_read(compose: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(ROOT / "deploy" / "make-secrets", tmp_path / "deploy")

    def make() -> dict[str, str]:
        said = subprocess.run([script], check=True, capture_output=True, text=True).stdout
        made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
        assert made["auth-token"] in said
        return made

    made = make()
    assert {secret["file"] for secret in compose["secrets"].values()} == {f"secrets/{name}" for name in made}
    assert make() == made, "made anew, they would no longer fit the database"
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    environment = {
        name: value.replace("/run/secrets", str(tmp_path / "secrets"))
        for name, value in compose["services"]["livesync-1"]["environment"].items()
    }
    config = load({"host": "0.0.0.0"}, environment)
    user, host = compose["services"]["postgres"]["environment"]["POSTGRES_USER"], "postgres"
    assert config.database_url == f"postgresql://{user}:{made['postgres-password']}@{host}/{user}"
    assert config.auth_token is not None
    assert len(config.auth_token.reveal()) == 64
