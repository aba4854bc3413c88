"""The control plane on the public port: only when switched on, only below /admin, and never in the way of sync."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from livesync_trio.config import BadConfig, Config, Secret, exposure_problems, load
from tests.bad_input.clients import sync_url
from tests.bad_input.websockets import UPGRADE
from tests.bad_input.wires import head

from .stage import PATIENCE_S, SECRET, STORE, Stage, refusal, running, seen

BEARER = f"Authorization: Bearer {SECRET}"


async def test_it_is_not_there_unless_switched_on(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.url, headers=stage.http.headers) as public:
        for path in ("/admin", "/admin/api/v1/info", "/api/v1/info", "/metrics"):
            assert (await public.get(path)).status_code == 404 or path == "/metrics"
            assert b"uptime" not in (await public.get(path)).content


async def test_it_is_below_admin_only_and_behind_the_same_gate() -> None:
    async with running(admin_public=True) as stage, httpx.AsyncClient(base_url=stage.url) as public:
        secret = {"authorization": f"Bearer {SECRET}"}
        told = await public.get("/admin/api/v1/info", headers=secret)
        assert told.json()["health"]["controlPlane"] == "listening"
        refusal(await public.get("/admin/api/v1/info"), 401, "unauthenticated")
        moved = await public.get("/admin?a=1", headers=secret)
        assert (moved.status_code, moved.next_request.url.path if moved.next_request else "") == (308, "/admin/")
        refusal(await public.get("/admin/", headers=secret), 404, "not-found")
        refusal(await public.post("/admin/api/v1/store/reset", content=b"x" * 10, headers=secret), 400, "bad-parameter")
        assert (
            await public.post("/admin/api/v1/store/reset", content=b"x" * 99_000, headers=secret)
        ).status_code == 413
        assert (await public.head("/admin/api/v1/info", headers=secret)).content == b""
        assert (await public.get("/administer")).status_code == 404
        assert "uptime" not in (await public.get("/api/v1/info", headers=secret)).text
        assert (await public.get("/health")).status_code == 200
        await (await stage.client()).check_works()


async def test_a_connection_is_kept_for_the_next_request_whatever_it_is() -> None:
    async with running(admin_public=True) as stage:
        wire = await stage.wire()
        for _ in range(3):
            assert (await wire.ask(head("GET /admin/api/v1/info HTTP/1.1", BEARER))).status == 200
            assert (await wire.ask(head("GET /health HTTP/1.1"))).status == 200
        answer = await wire.ask(head(f"GET {sync_url(STORE)} HTTP/1.1", *UPGRADE))
        assert answer.status == 101


async def test_a_tail_on_the_public_port_ends_with_the_server_and_is_no_burden_to_it() -> None:
    async with running(admin_public=True) as stage:
        await stage.fill(2)
        wire = await stage.wire()
        await wire.send(head("GET /admin/api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0 HTTP/1.1", BEARER))
        await wire.read_until(b"id: 2\n")
        await stage.fill(1, first=3)
        await wire.read_until(b"id: 3\n")
        with trio.fail_after(PATIENCE_S):
            await stage.server.drain()
        assert b"event: end\n" in await wire.read_until(b"\r\n0\r\n\r\n")


async def test_a_tail_whose_listener_left_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livesync_trio.admin.tail.ADMIN_HEARTBEAT_S", 0.01)
    async with running(admin_public=True) as stage:
        await stage.fill(1)
        wire = await stage.wire()
        await wire.send(head("GET /admin/api/v1/store/tail?storeId=store%2F%C3%B6+1&after=0 HTTP/1.1", BEARER))
        await wire.read_until(b"id: 1\n")
        await wire.reset()
        control = stage.server.control
        assert control is not None
        await seen(stage, lambda: not control.server.tails)
        assert [line for line in stage.logs if line["log_level"] == "error"] == []


async def test_a_fault_of_the_app_ends_its_own_request_only() -> None:
    async with running(admin_public=True) as stage:

        async def broken(scope: object, receive: object, send: object) -> None:
            raise RuntimeError("canary")

        (mount,) = stage.server.door.sites
        object.__setattr__(mount, "app", broken)
        wire = await stage.wire()
        answer = await wire.ask(head("GET /admin/api/v1/info HTTP/1.1", BEARER))
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal")
        assert b"canary" not in answer.body
        assert (await wire.ask(head("GET /health HTTP/1.1"))).status == 200
        await (await stage.client()).check_works()


@pytest.mark.parametrize(
    "request_",
    [
        head("GET /admin/api/v1/info HTTP/1.1", BEARER, *UPGRADE) + b"\x81\x85early-data",
        head("GET /admin/api/v1/info HTTP/1.1", BEARER, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        head("GET /admin/%ff%fe?a=%ff HTTP/1.1", BEARER),
        head("GET /admin/../health HTTP/1.1", BEARER),
        head("GET //admin HTTP/1.1", BEARER),
        head("CONNECT /admin/api HTTP/1.1", BEARER),
        head("POST /admin/api/v1/store/reset HTTP/1.1", BEARER, "Content-Length: 5") + b"{",
        head("POST /admin/api/v1/store/reset HTTP/1.1", BEARER, "Transfer-Encoding: chunked") + b"zz\r\n",
        head("GET /admin/api/v1/info HTTP/1.0", BEARER),
    ],
)
async def test_strange_requests_leave_the_server_as_it_was(request_: bytes) -> None:
    async with running(admin_public=True) as stage:
        client, wire = await stage.client(), await stage.wire()
        await wire.send(request_)
        await wire.half_close()
        await wire.read_to_end()
        await client.check_works()
        assert (await stage.get("/api/v1/info"))["healthy"]
        assert [line for line in stage.logs if line["log_level"] == "error"] == []


def test_to_be_public_it_must_have_a_secret() -> None:
    with pytest.raises(BadConfig, match="LIVESYNC_ADMIN_PUBLIC"):
        load({}, {"LIVESYNC_ADMIN_PUBLIC": "yes"})
    assert load({}, {"LIVESYNC_ADMIN_PUBLIC": "yes", "ADMIN_SECRET": "x"}).admin_public


def test_a_network_address_asks_for_a_real_secret() -> None:
    def problems(**settings: object) -> list[str]:
        return exposure_problems(Config(admin_host="0.0.0.0", **settings), has_validate_payload=False)  # type: ignore[arg-type]

    (problem,) = problems()
    assert "ADMIN_SECRET" in problem
    (problem,) = problems(admin_secret=Secret("changeme"))
    assert "placeholder" in problem
    assert problems(admin_secret=Secret("changeme"), insecure=True) == []
    assert problems(admin_secret=Secret("f5f0b1c9")) == []
    assert len(problems(admin_secret=Secret("changeme"), host="0.0.0.0", auth_token=Secret("f5f0b1c9"))) == 1


@pytest.mark.parametrize("origin", ["*", "https://x/y", "ops.example.org"])
def test_origins_are_exact(origin: str) -> None:
    with pytest.raises(BadConfig, match="is not an origin"):
        load({}, {"LIVESYNC_ADMIN_ORIGINS": origin})


async def test_pages_that_may_sync_may_not_rule() -> None:
    asks = {"origin": "https://app.example", "access-control-request-method": "GET"}
    settings: dict[str, Any] = {"admin_public": True, "cors_origins": ("*",)}
    async with running(**settings) as stage, httpx.AsyncClient(base_url=stage.url) as browser:
        assert (await browser.options("/", headers=asks)).headers["access-control-allow-origin"] == "*"
        for answer in (
            await browser.options("/admin/api/v1/info", headers=asks),
            await browser.get("/admin/api/v1/info", headers={**asks, "authorization": f"Bearer {SECRET}"}),
        ):
            assert not any(name.startswith("access-control") for name in answer.headers)
        refusal(answer, 403, "origin-refused")
