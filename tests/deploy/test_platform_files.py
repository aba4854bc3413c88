"""Files for Kubernetes, Fly.io, Render and Podman: what they say of our server is true of it, as far as can be seen.

No such platform is here; so this looks at structure: keys that those formats know, and values that must agree with the
image and with the settings.
"""

import configparser
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from livesync_trio.config import load
from livesync_trio.ending import END_GRACE_S
from livesync_trio.version import VERSION

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
USER = 10001
"""Of the image; see the Dockerfile."""


def kubernetes() -> dict[str, Any]:
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "livesync.yaml").read_text()))
    return {one["kind"]: one for one in found}


def fly() -> dict[str, Any]:
    return tomllib.loads((DEPLOY / "fly" / "fly.toml").read_text())


def render() -> dict[str, Any]:
    (service,) = yaml.safe_load((DEPLOY / "render" / "render.yaml").read_text())["services"]
    assert isinstance(service, dict)
    return service


def quadlet() -> dict[str, list[str]]:
    """The keys of `[Container]`, each with its values; systemd's files may repeat a key."""
    text = (DEPLOY / "podman" / "livesync.container").read_text()
    section = text.partition("[Container]")[2].partition("\n[")[0]
    found: dict[str, list[str]] = {}
    for line in section.strip().splitlines():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    return found


def variables() -> Mapping[str, Mapping[str, str]]:
    """What each gives to the server as its environment, secrets left out."""
    pod = kubernetes()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    pairs = " ".join(quadlet()["Environment"]).split()
    return {
        "kubernetes": {one["name"]: one["value"] for one in pod["env"]},
        "fly": fly()["env"],
        "render": {one["key"]: one["value"] for one in render()["envVars"] if "value" in one},
        "podman": dict(pair.split("=", 1) for pair in pairs),
    }


@pytest.mark.parametrize("platform", ["kubernetes", "fly", "render", "podman"])
def test_the_server_understands_every_variable_and_writes_where_the_volume_is(platform: str) -> None:
    given = {name: value for name, value in variables()[platform].items() if not name.endswith("_FILE")}
    config = load({}, given)
    assert config.remarks == ()
    assert config.host == "0.0.0.0"
    assert config.port == 8000
    assert config.database_url == "sqlite:////data/livesync.db"


def test_kubernetes() -> None:
    kinds = kubernetes()
    assert kinds.keys() == {"Service", "StatefulSet"}
    state, service = kinds["StatefulSet"], kinds["Service"]
    assert (state["apiVersion"], service["apiVersion"]) == ("apps/v1", "v1")
    labels = state["spec"]["template"]["metadata"]["labels"]
    assert state["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert state["spec"]["serviceName"] == service["metadata"]["name"]
    assert state["spec"]["replicas"] == 1
    pod = state["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == f"livesync:{VERSION}"
    assert pod["terminationGracePeriodSeconds"] >= load({}, {}).drain_limit_s + END_GRACE_S
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == USER
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    (port,) = container["ports"]
    assert {port["name"]} == {one["targetPort"] for one in service["spec"]["ports"]}
    volumes = {one["name"] for one in pod["volumes"]}
    claims = {one["metadata"]["name"] for one in state["spec"]["volumeClaimTemplates"]}
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert mounts.keys() == volumes | claims
    assert mounts["data"]["mountPath"] == "/data"
    assert "subPath" not in mounts["data"]
    token = next(one["value"] for one in container["env"] if one["name"] == "AUTH_TOKEN_FILE")
    assert token.startswith(mounts["secrets"]["mountPath"] + "/")


def test_fly() -> None:
    said = fly()
    assert said["kill_signal"] == "SIGTERM"
    assert int(said["kill_timeout"].removesuffix("s")) >= load({}, {}).drain_limit_s + END_GRACE_S
    assert said["mounts"]["destination"] == "/data"
    assert said["http_service"]["internal_port"] == int(said["env"]["LIVESYNC_PORT"])
    assert said["http_service"]["auto_stop_machines"] == "off"  # clients have sockets open that look idle
    assert [one["path"] for one in said["http_service"]["checks"]] == ["/health"]
    assert (DEPLOY / "fly" / said["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"


def test_render() -> None:
    said = render()
    assert (said["type"], said["runtime"], said["numInstances"]) == ("web", "docker", 1)
    assert said["disk"]["mountPath"] == "/data"
    assert said["healthCheckPath"] == "/health"
    assert said["maxShutdownDelaySeconds"] >= load({}, {}).drain_limit_s + END_GRACE_S
    assert {"key": "AUTH_TOKEN", "generateValue": True} in said["envVars"]
    assert (ROOT / said["dockerfilePath"]).is_file()


def test_podman() -> None:
    said = quadlet()
    (volume,) = said["Volume"]
    name, _, where = volume.partition(":")
    assert where == "/data"
    assert (DEPLOY / "podman" / name).is_file()
    assert f"uid={USER}" in said["Secret"][0]
    assert int(said["StopTimeout"][0]) >= load({}, {}).drain_limit_s + END_GRACE_S
    units = configparser.ConfigParser(strict=False, interpolation=None)
    units.optionxform = str  # type: ignore[assignment, method-assign]
    units.read_string((DEPLOY / "podman" / "livesync.container").read_text())
    assert units.sections() == ["Unit", "Container", "Service", "Install"]


def test_the_image_runs_as_that_user_and_keeps_its_data_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(rf"\b{USER}\b", text)
    assert "/data" in text
