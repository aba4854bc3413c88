"""What the control plane tells of the process: information, configuration, metrics; and no secret in any of it."""

from __future__ import annotations

from typing import Any

import httpx

from livesync_trio.config import SETTINGS, Secret, load
from livesync_trio.version import VERSION

from .stage import SECRET, STORE, Stage, paths, running


async def test_information(stage: Stage) -> None:
    await stage.fill(3)
    told = await stage.get("/api/v1/info")
    assert (told["version"], told["engine"], told["healthy"]) == (VERSION, "memory", True)
    assert told["health"]["status"] == "ok"
    assert told["health"]["controlPlane"] == "listening"
    assert (told["counters"]["eventsAccepted"], told["counters"]["pushesAccepted"]) == (3, 1)
    assert told["uptimeSeconds"] > 0
    assert told["database"] == stage.server.engine.describe()
    async with httpx.AsyncClient() as public:
        health = (await public.get(f"{stage.url}/health")).json()
    assert health["control_plane"] == "listening"


async def test_every_setting_is_told_with_its_origin() -> None:
    environ = {"ADMIN_SECRET": SECRET, "LIVESYNC_STALL_LIMIT_S": "7", "LIVESYNC_STORE_ID_MAX_BYTES": "9"}
    config = load({"store_id_max_bytes": "1000", "port": "0", "admin_port": "0"}, environ)
    async with running(**{name: getattr(config, name) for name in (*_names(), "origins")}) as stage:
        told = {setting["name"]: setting for setting in (await stage.get("/api/v1/config"))["settings"]}
    assert list(told) == _names()
    assert (told["stall_limit_s"]["value"], told["stall_limit_s"]["origin"]) == (7, "LIVESYNC_STALL_LIMIT_S")
    assert (told["store_id_max_bytes"]["value"], told["store_id_max_bytes"]["origin"]) == (
        1000,
        "--store-id-max-bytes",
    )
    assert told["drain_limit_s"]["origin"] == "default"
    assert told["cors_origins"]["value"] == []
    explained = {
        name: told["admin_secret"].pop(name) for name in ("meaning", "accepts", "group", "default", "reloadable")
    }
    assert explained["meaning"].startswith("The operator's secret.")
    assert (explained["group"], explained["default"], explained["reloadable"]) == ("Control plane", "", True)
    assert told["store_id_max_bytes"]["reloadable"] is False
    assert told["admin_secret"] == {
        "name": "admin_secret",
        "env": "ADMIN_SECRET",
        "value": None,
        "secret": True,
        "set": True,
        "origin": "ADMIN_SECRET",
    }
    assert told["auth_token"]["set"] is False


def _names() -> list[str]:
    return [setting.name for setting in SETTINGS]


async def test_a_variable_that_no_setting_has_is_told() -> None:
    config = load({}, {"LIVESYNC_CORS_ORIGIN": "https://app.example"})
    async with running(remarks=config.remarks) as stage:
        (remark,) = (await stage.get("/api/v1/config"))["remarks"]
    assert remark.startswith("LIVESYNC_CORS_ORIGIN is set, but there is no such setting")


async def test_a_password_in_a_url_is_not_told() -> None:
    urls = {
        "postgresql://ann:hunter2@db.example/x?password=hunter2": "postgresql://ann:***@db.example/x?***",
        "postgresql://db.example/x": "postgresql://db.example/x",
    }
    for url, shown in urls.items():
        async with running(database_url=url, listen_url=url, jwt_keys=None) as stage:
            answer = await stage.http.get("/api/v1/config")
            assert "hunter2" not in answer.text
            told = {setting["name"]: setting["value"] for setting in answer.json()["settings"]}
            assert (told["database_url"], told["listen_url"]) == (shown, shown)
    async with running(database_url="sqlite:////srv/x.db") as stage:
        told = {setting["name"]: setting["value"] for setting in (await stage.get("/api/v1/config"))["settings"]}
        assert told["database_url"] == "sqlite:////srv/x.db"


async def test_no_answer_holds_a_secret() -> None:
    canaries: dict[str, Any] = {
        "auth_token": Secret("canary-auth-1"),
        "jwt_secret": Secret("canary-jwt-2-which-has-thirty-two-bytes"),
    }
    async with running(**canaries) as stage:
        client = await stage.client(payload={"authToken": "canary-auth-1"})
        await client.check_ping()
        answers = [
            await stage.http.get(path, params={"storeId": STORE} if "store" in path else {})
            for path in paths()
            if not path.endswith(("/tail", "/reset", "/close"))
        ]
        answers.append(await stage.http.get("/api/v1/info", headers={"authorization": "Bearer canary-wrong-3"}))
        seen = "".join(answer.text + str(answer.headers) for answer in answers)
        assert len(seen) > 20_000
        assert "canary" not in seen
        assert "canary" not in str(stage.logs)


async def test_metrics_are_those_of_the_server(stage: Stage) -> None:
    await stage.fill(3)
    answer = await stage.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "\nlivesync_events_total 3.0\n" in answer.text
