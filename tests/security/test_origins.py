"""Web pages: which may connect, what browsers are told, and the headers that protect every answer."""

from __future__ import annotations

import pytest

from livesync_trio.config import BadConfig, load
from livesync_trio.errors import Kind
from livesync_trio.transport.cors import PROTECTION
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


async def test_every_page_may_come_in_by_default_but_without_cookies() -> None:
    async with running_server() as server:
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
        assert answer.headers["access-control-expose-headers"] == "retry-after"


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
