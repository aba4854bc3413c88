"""Web pages: which may connect, what browsers are told, and the headers that protect every answer."""

from __future__ import annotations

from typing import Any

import pytest

from livesync_trio.access.pages import PROTECTION
from livesync_trio.config import BadConfig, Secret, load
from livesync_trio.errors import Kind
from livesync_trio.hooks import Hooks
from tests.bad_input.clients import NO_CURSOR, http_rpc, reason, sync_url, v3_url
from tests.bad_input.servers import TestedServer, running_server
from tests.bad_input.websockets import upgrade
from tests.bad_input.wires import HttpAnswer, head, post

APP = "https://app.example"
STRANGERS = (
    *("https://evil.example", "http://app.example", "https://app.example:8443", "https://app.example.evil.example"),
    *("https://app.examplE.", "null", "", "https://APP.example", "https://app.example/"),
)
PULL = http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[2]


async def knock(server: TestedServer, *headers: str) -> list[HttpAnswer]:
    return [
        await server.ask(upgrade(sync_url("s"), *headers)),
        await server.ask(upgrade(v3_url("s"), *headers)),
        await server.ask(post(sync_url("s", "http"), PULL, *headers)),
    ]


@pytest.mark.parametrize("origin", STRANGERS)
async def test_a_page_that_is_not_listed_is_refused_at_every_door(origin: str) -> None:
    """Cross-site WebSocket hijacking: a browser opens the socket with the user's cookies, whatever the page."""
    async with running_server(cors_origins=(APP,)) as server:
        answers = await knock(server, f"Origin: {origin}")
        assert [answer.status for answer in answers] == [403] * 3
        assert all("access-control-allow-origin" not in answer.headers for answer in answers)
        assert reason(answers[2].json[0])[0] == Kind.ORIGIN_REFUSED
        preflight = await server.ask(head("OPTIONS /?storeId=s&transport=http HTTP/1.1", f"Origin: {origin}"))
        assert not any(name.startswith("access-control-") for name in preflight.headers)


async def test_two_origins_are_none() -> None:
    async with running_server(cors_origins=(APP,)) as server:
        answers = await knock(server, f"Origin: {APP}", "Origin: https://evil.example")
        assert [answer.status for answer in answers] == [403] * 3


@pytest.mark.parametrize("headers", [(f"Origin: {APP}",), ()], ids=["a page", "a program"])
async def test_a_listed_page_and_a_program_come_in(headers: tuple[str, ...]) -> None:
    async with running_server(cors_origins=(APP, "capacitor://localhost")) as server:
        ws, v3, http = await knock(server, *headers)
        assert (ws.status, v3.status, http.status) == (101, 101, 200)
        assert http.headers["vary"] == "origin"
        assert http.headers.get("access-control-allow-origin") == (APP if headers else None)
        assert "access-control-allow-credentials" not in http.headers


async def test_every_page_may_come_in_where_the_operator_says_so_but_without_cookies() -> None:
    async with running_server(cors_origins=("*",)) as server:
        ws, v3, http = await knock(server, "Origin: https://anywhere.example")
        assert (ws.status, v3.status, http.status) == (101, 101, 200)
        assert http.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in http.headers


async def test_pages_may_send_cookies_only_where_they_count() -> None:
    async with running_server(cors_origins=(APP,), auth_cookie="session") as server:
        preflight = await server.ask(
            head(
                "OPTIONS /?storeId=s&transport=http HTTP/1.1",
                f"Origin: {APP}",
                "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: content-type,x-livestore-store-id,b3,traceparent",
            )
        )
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == APP
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert preflight.headers["access-control-allow-headers"] == "content-type,x-livestore-store-id,b3,traceparent"
        assert preflight.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        answer = (await knock(server, f"Origin: {APP}"))[2]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-expose-headers"] == "retry-after, etag"


def test_cookies_and_pages_from_everywhere_do_not_go_together() -> None:
    with pytest.raises(BadConfig, match=r"LIVESYNC_AUTH_COOKIE: .*LIVESYNC_CORS_ORIGINS"):
        load({}, {"LIVESYNC_AUTH_COOKIE": "session"})
    assert load({}, {"LIVESYNC_AUTH_COOKIE": "session", "LIVESYNC_CORS_ORIGINS": APP}).auth_cookie == "session"


async def test_every_answer_protects_itself() -> None:
    async with running_server(cors_origins=(APP,)) as server:
        answers = [
            await server.ask(head("GET / HTTP/1.1")),
            await server.ask(head("GET /health HTTP/1.1")),
            await server.ask(head("GET /nothing HTTP/1.1")),
            await server.ask(head("DELETE / HTTP/1.1")),
            await server.ask(head("OPTIONS / HTTP/1.1")),
            await server.ask(b"nonsense\r\n\r\n"),
            await server.ask(post(sync_url("s", "http"), PULL)),
            await server.ask(post(sync_url("s", "http"), b"nonsense")),
            await server.ask(head("GET /?transport=ws HTTP/1.1")),
            *(await knock(server, "Origin: https://evil.example")),
        ]
        for answer in answers:
            for name, value in PROTECTION:
                assert answer.headers[name] == value, answer
            assert "server" not in answer.headers
            assert "strict-transport-security" not in answer.headers


# --- while nobody has to prove who they are --------------------------------------------------------------------------

LOCAL = (
    "http://localhost:5173",
    "http://127.0.0.1:3000",
    "http://[::1]:8080",
    "https://app.localhost",
    "tauri://localhost",
)
HERE = ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "livesync.localhost", "192.168.1.7:8000", "10.0.2.2:8000")


def at_host(request: bytes, host: str) -> bytes:
    return request.replace(b"Host: sync.example", f"Host: {host}".encode())


async def statuses(server: TestedServer, host: str, *headers: str) -> list[int]:
    asked = (
        upgrade(sync_url("s"), *headers),
        upgrade(v3_url("s"), *headers),
        post(sync_url("s", "http"), PULL, *headers),
    )
    return [(await server.ask(at_host(each, host))).status for each in asked]


async def test_pages_of_this_machine_may_use_a_server_that_asks_nobody() -> None:
    async with running_server() as server:
        for origin in LOCAL:
            for host in HERE:
                assert await statuses(server, host, f"Origin: {origin}") == [101, 101, 200], (origin, host)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost.evil.example", "null", "http://[", "file://"]
)
async def test_other_pages_may_not(origin: str) -> None:
    async with running_server() as server:
        for host in HERE:
            assert await statuses(server, host, f"Origin: {origin}") == [403, 403, 403], host
        answer = await server.ask(at_host(post(sync_url("s", "http"), PULL, f"Origin: {origin}"), "localhost:8000"))
        assert reason(answer.json[0])[0] == Kind.ORIGIN_REFUSED
        assert "LIVESYNC_CORS_ORIGINS" in reason(answer.json[0])[1]
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["http://evil.example:8000", "http://localhost:5173"])
@pytest.mark.parametrize("settings", [{}, {"cors_origins": (APP,)}], ids=["by default", "with a list"])
async def test_a_name_that_somebody_elses_dns_gives_us_is_none_of_ours(origin: str, settings: dict[str, Any]) -> None:
    """DNS rebinding: the page's own name leads to this machine, so that for the browser we are its own server."""
    async with running_server(**settings) as server:
        assert await statuses(server, "evil.example:8000", f"Origin: {origin}") == [403, 403, 403]


async def test_programs_may_under_any_name() -> None:
    async with running_server() as server:
        assert await statuses(server, "sync.internal:8000") == [101, 101, 200]


@pytest.mark.parametrize("settings", [{"cors_origins": ("*",)}, {"auth_token": Secret("a good long token")}], ids=str)
async def test_every_page_may_where_the_operator_says_so_or_clients_bring_a_token(settings: dict[str, Any]) -> None:
    payload = {"authToken": "a good long token"}
    async with running_server(payload=payload, **settings) as server:
        target = sync_url("s", payload=payload)
        assert (await server.ask(upgrade(target, "Origin: https://anywhere.example"))).status == 101


async def test_a_hook_that_decides_is_a_proof_as_well() -> None:
    async with running_server(Hooks(validate_payload=lambda payload, context: None)) as server:
        assert await statuses(server, "sync.example", "Origin: https://anywhere.example") == [101, 101, 200]


# --- the server's own address ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://sync.example", "sync.example", True),
        ("https://sync.example", "sync.example:443", True),
        ("http://sync.example:8000", "SYNC.example:8000", True),
        ("http://10.0.2.2:8000", "10.0.2.2:8000", True),
        ("https://sync.example:8443", "sync.example", False),
        ("https://sync.example.evil.example", "sync.example", False),
        ("https://evil.example", "sync.example", False),
        ("https://sync.example:x", "sync.example", False),
        ("null", "null", False),
        ("https://", "", False),
    ],
)
async def test_an_app_that_names_the_server_itself_is_no_foreign_page(origin: str, host: str, own: bool) -> None:
    """React Native on Android sends the address it connects to as its origin."""
    token = {"authToken": "a good long token"}
    async with running_server(auth_token=Secret("a good long token"), payload=token, cors_origins=(APP,)) as server:
        asked = at_host(upgrade(sync_url("s", payload=token), f"Origin: {origin}"), host)
        assert (await server.ask(asked)).status == (101 if own else 403)
