"""Who may use the control plane: the secret, its throttle, origins, and what every answer carries."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from livesync_trio import app
from livesync_trio.config import Config, Secret
from livesync_trio.hooks import Hooks
from livesync_trio.limits import ADMIN_FAILURES
from livesync_trio.storage.memory import MemoryEngine

from .stage import SECRET, Stage, paths, refusal, running

PAGE = "https://ops.example.org"


@pytest.mark.parametrize("path", [*paths(), "/", "/nowhere", "/api/v1/store/reset/"])
async def test_without_the_secret_nothing_is_told_not_even_what_there_is(stage: Stage, path: str) -> None:
    async with httpx.AsyncClient(base_url=stage.control_url) as stranger:
        for method in ("GET", "POST", "PUT", "HEAD"):
            answer = await stranger.request(method, path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        refusal(await stranger.get(path), 401, "unauthenticated")


@pytest.mark.parametrize("given", ["", "Bearer", "bearer x", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}x"])
async def test_only_the_secret_itself_opens(stage: Stage, given: str) -> None:
    refusal(await stage.http.get("/api/v1/info", headers={"authorization": given}), 401, "unauthenticated")


async def test_who_guesses_must_wait_even_with_the_right_one(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    elsewhere = {"x-forwarded-for": "192.0.2.1"}
    async with running(audit_log=str(record), trusted_proxies=("loopback",)) as stage:
        for _ in range(ADMIN_FAILURES):
            answer = await stage.http.get("/api/v1/info", headers={"authorization": "Bearer wrong", **elsewhere})
            assert answer.status_code == 401
        answer = await stage.http.get("/api/v1/info", headers=elsewhere)
        refusal(answer, 429, "too-fast")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert record.read_text().count('"kind":"unauthenticated"') == ADMIN_FAILURES
    assert "wrong" not in record.read_text()


async def test_on_a_loopback_address_nobody_locks_the_operator_out(stage: Stage) -> None:
    for _ in range(2 * ADMIN_FAILURES):
        answer = await stage.http.get("/api/v1/info", headers={"authorization": "Bearer wrong"})
        assert answer.status_code == 401
    assert (await stage.http.get("/api/v1/info")).status_code == 200


async def test_imports_under_way_are_no_stores(stage: Stage) -> None:
    staged = "livesync-staged/s"
    answer = await stage.http.get("/api/v1/store", params={"storeId": staged})
    assert "livesync-staged/" in refusal(answer, 400, "bad-parameter")
    answer = await stage.http.post("/api/v1/store/reset", json={"storeId": staged, "confirm": staged})
    assert "livesync-staged/" in refusal(answer, 400, "bad-parameter")


async def test_a_name_that_is_not_utf_8_names_no_store(stage: Stage) -> None:
    assert "UTF-8" in refusal(await stage.http.get("/api/v1/store?storeId=%FF"), 400, "bad-parameter")


async def test_without_a_secret_there_is_no_control_plane() -> None:
    rooms = app.Server(Config(port=0), Hooks(), MemoryEngine())
    assert rooms.control is None
    assert "control_plane" not in rooms.health()[1]


async def test_a_reload_of_the_secret_counts_here_at_once(stage: Stage) -> None:
    stage.rooms.door.surroundings.admin_secret = Secret("another")
    refusal(await stage.http.get("/api/v1/info"), 401, "unauthenticated")
    answer = await stage.http.get("/api/v1/info", headers={"authorization": "Bearer another"})
    assert answer.status_code == 200


async def test_proxies_are_believed_about_addresses_as_at_the_public_port() -> None:
    async with running(trusted_proxies=("loopback",)) as stage:
        for _ in range(ADMIN_FAILURES):
            await stage.http.get("/metrics", headers={"authorization": "Bearer x", "x-forwarded-for": "203.0.113.9"})
        answer = await stage.http.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"})
        refusal(answer, 429, "too-fast")
        assert (await stage.http.get("/metrics", headers={"x-forwarded-for": "203.0.113.8"})).status_code == 200


async def test_every_answer_is_protected(stage: Stage) -> None:
    for path in ("/api/v1/info", "/nowhere", "/api/v1/store"):
        answer = await stage.http.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


async def test_pages_of_other_origins_are_refused_unless_listed() -> None:
    async with running(admin_origins=(PAGE,)) as stage:
        refusal(await stage.http.get("/api/v1/info", headers={"origin": "https://evil.example"}), 403, "origin-refused")
        answer = await stage.http.get("/api/v1/info", headers={"origin": PAGE})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers
        own = await stage.http.get("/api/v1/info", headers={"origin": stage.control_url})
        assert own.status_code == 200


async def test_a_preflight_lets_listed_pages_go_on_and_nobody_else() -> None:
    asks = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    async with running(admin_origins=(PAGE,)) as stage, httpx.AsyncClient(base_url=stage.control_url) as browser:
        answer = await browser.options("/api/v1/info", headers={"origin": PAGE, **asks})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in answer.headers["access-control-allow-headers"]
        answer = await browser.options("/api/v1/info", headers={"origin": "https://evil.example", **asks})
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_what_is_not_there_and_what_is_not_possible(stage: Stage) -> None:
    await stage.refused(404, "not-found", "/nowhere")
    refusal(await stage.http.post("/api/v1/info"), 405, "method-not-allowed")
    refusal(await stage.http.get("/api/v1/store/reset"), 405, "method-not-allowed")
    refusal(await stage.http.post("/api/v1/store/reset", content=b"x" * 100_000), 413, "body-too-big")
    refusal(await stage.http.post("/api/v1/store/reset", content=b"[" * 50_000), 400, "bad-parameter")


async def test_a_fault_of_the_control_plane_is_an_answer_and_a_line_in_the_log(stage: Stage) -> None:
    def broken() -> tuple[bytes, str]:
        raise RuntimeError("canary of the traceback")

    assert stage.rooms.control is not None
    stage.rooms.control._rooms.metrics = broken
    answer = await stage.http.get("/metrics")
    assert "log" in refusal(answer, 500, "internal")
    assert "canary" not in answer.text
    (line,) = [line for line in stage.logs if line["log_level"] == "error"]
    assert line["path"] == "/metrics"
    assert (await stage.http.get("/api/v1/info")).status_code == 200
