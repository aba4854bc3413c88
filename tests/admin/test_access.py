"""Who may use the control plane: the secret, its throttle, origins, and what every answer carries."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio
from quart import Response

from livesync_trio.app.server import Server
from livesync_trio.config import Config, Secret
from livesync_trio.fairness.buckets import ADMIN_FAILURES
from livesync_trio.hooks import Hooks
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


STRANGER = {"x-forwarded-for": "203.0.113.9"}
"""What a proxy on this machine passes on is not of this machine."""


async def test_who_guesses_must_wait_even_with_the_right_one(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record), trusted_proxies=("loopback",)) as stage:
        for _ in range(ADMIN_FAILURES):
            answer = await stage.http.get("/api/v1/info", headers={"authorization": "Bearer wrong", **STRANGER})
            assert answer.status_code == 401
        answer = await stage.http.get("/api/v1/info", headers=STRANGER)
        refusal(answer, 429, "too-fast")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert record.read_text().count('"kind":"unauthenticated"') == ADMIN_FAILURES
    assert "wrong" not in record.read_text()


async def test_imports_under_way_are_no_stores(stage: Stage) -> None:
    staged = "livesync-staged/s"
    answer = await stage.http.get("/api/v1/store", params={"storeId": staged})
    assert "livesync-staged/" in refusal(answer, 400, "bad-parameter")
    answer = await stage.http.post("/api/v1/store/reset", json={"storeId": staged, "confirm": staged})
    assert "livesync-staged/" in refusal(answer, 400, "bad-parameter")


async def test_users_of_this_machine_do_not_lock_each_other_out(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    async with running(audit_log=str(record)) as stage:
        for _ in range(3 * ADMIN_FAILURES):
            answer = await stage.http.get("/metrics", headers={"authorization": "Bearer wrong"})
            refusal(answer, 401, "unauthenticated")
        assert (await stage.http.get("/metrics")).status_code == 200
    assert record.read_text().count("unauthenticated") < 2 * ADMIN_FAILURES  # nor fill the record


async def test_guesses_at_the_public_port_keep_nobody_out_here() -> None:
    async with (
        running(admin_public=True, trusted_proxies=("loopback",)) as stage,
        httpx.AsyncClient(base_url=stage.url, headers=STRANGER) as public,
    ):
        guess = {"authorization": "Bearer wrong"}
        for _ in range(ADMIN_FAILURES):
            refusal(await public.get("/admin/api/v1/info", headers=guess), 401, "unauthenticated")
        refusal(await public.get("/admin/api/v1/info", headers=guess), 429, "too-fast")
        assert (await stage.http.get("/api/v1/info", headers=STRANGER)).status_code == 200
        gate = stage.server.door.shared.admin_attempts  # of the admin messages of 0.3
        for _ in range(ADMIN_FAILURES):
            gate.failed("203.0.113.9", trio.current_time())
        assert (await stage.http.get("/api/v1/info", headers=STRANGER)).status_code == 200


ORIGINS = ["http://[", "http://[::1", "http://]", "null", "http://a\tb", "//", "[", "http://\xff", "x" * 5000]
PATHS = ["/a%0A%1B]0;x", "/%ff%fe", "/a?storeId=%ff", "/api/v1/info?%ff", "/api/v1/store?storeId=%ed%a0%80", "/?a=%"]


@pytest.mark.parametrize("public", [False, True])
async def test_a_stranger_writes_nothing_into_the_log(public: bool, capfd: pytest.CaptureFixture[str]) -> None:
    async with running(admin_public=True) as stage:
        base = f"{stage.url}/admin" if public else stage.control_url
        before = sum(stage.server.counters.refusals.values())
        asked = 0
        async with httpx.AsyncClient() as stranger:
            for origin in ORIGINS:
                for path in PATHS:
                    headers = {b"origin": origin.encode("latin-1")}
                    for method in ("GET", "POST", "OPTIONS"):
                        answer = await stranger.request(method, f"{base}{path}", headers=headers)
                        assert answer.status_code in ((204,) if method == "OPTIONS" else (403,))
                        assert answer.headers["x-content-type-options"] == "nosniff"
                        assert answer.headers["cache-control"] == "no-store"
                        asked += method != "OPTIONS"
        assert sum(stage.server.counters.refusals.values()) == before + asked
        loud = [line for line in stage.logs if line["log_level"] not in ("debug", "info")]
    assert loud == []
    said = capfd.readouterr()
    assert said.out + said.err == ""


async def test_a_fault_is_logged_in_one_line_whatever_the_path(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    assert stage.server.control is not None

    async def broken(_response: Response) -> Response:
        raise RuntimeError("canary")

    stage.server.control.app.after_request(broken)
    answer = await stage.http.get("/a%0A%1B]0;x")
    assert answer.status_code == 500
    faults = [line for line in stage.logs if line["log_level"] == "error"]
    assert faults
    assert not any(character in str(line.get(member)) for line in faults for member in line for character in "\n\x1b")
    said = capfd.readouterr()
    assert said.out + said.err == ""


async def test_names_that_are_no_text_are_refused(stage: Stage) -> None:
    await stage.fill(1)
    for path in ("/api/v1/store?storeId=%ff", "/api/v1/store?storeId=%ed%a0%80", "/api/v1/stores?containing=%c3"):
        refusal(await stage.http.get(path), 400, "bad-parameter")


async def test_without_a_secret_there_is_no_control_plane() -> None:
    server = Server(Config(port=0), Hooks(), MemoryEngine())
    assert server.control is None
    assert "control_plane" not in server.health()[1]


async def test_a_reload_of_the_secret_counts_here_at_once(stage: Stage) -> None:
    stage.server.door.shared.admin_secret = Secret("another")
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

    assert stage.server.control is not None
    stage.server.control.server.metrics = broken
    answer = await stage.http.get("/metrics")
    assert "log" in refusal(answer, 500, "internal")
    assert "canary" not in answer.text
    (line,) = [line for line in stage.logs if line["log_level"] == "error"]
    assert line["path"] == "/metrics"
    assert (await stage.http.get("/api/v1/info")).status_code == 200
