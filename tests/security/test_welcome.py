"""The page at `/`: for browsers only, told where apps connect, and safe whatever the request says."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from livesync_trio.transport import own_pages
from tests.bad_input.servers import running_server
from tests.bad_input.wires import head

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"


async def test_a_browser_gets_a_page_and_a_program_two_lines() -> None:
    async with running_server() as server:
        page = await server.ask(head("GET / HTTP/1.1", BROWSER))
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        text = page.body.decode()
        assert "It works" in text
        assert re.search(r"makeWsSync\(\{ url: '(ws://[^']+)' \}\)", text)
        assert page.headers["content-security-policy"] == own_pages.POLICY
        assert "script" not in text
        program = await server.ask(head("GET / HTTP/1.1", "Accept: */*"))
        assert program.headers["content-type"].startswith("text/plain")
        assert program.body.decode() == own_pages.TEXT


def test_the_style_is_the_one_that_the_policy_allows() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", own_pages.page({}, well=True, tls=False).decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in own_pages.POLICY


@pytest.mark.parametrize(
    ("headers", "tls", "url"),
    [
        ({"host": "127.0.0.1:8000"}, False, "ws://127.0.0.1:8000"),
        ({"host": "[::1]:8000"}, False, "ws://[::1]:8000"),
        ({"host": "sync.example.org"}, True, "wss://sync.example.org"),
        ({"host": "sync.example.org", "x-forwarded-proto": "https"}, False, "wss://sync.example.org"),
        ({"host": "a'});alert(1)//"}, False, "ws://your-server.example"),
        ({"host": "<b>"}, False, "ws://your-server.example"),
        ({}, False, "ws://your-server.example"),
    ],
)
def test_the_address_is_the_one_that_was_asked_if_it_is_one(headers: dict[str, str], tls: bool, url: str) -> None:
    assert f"url: '{url}'" in own_pages.page(headers, well=True, tls=tls).decode()


def test_it_says_when_it_is_not_well() -> None:
    text = own_pages.page({}, well=False, tls=False).decode()
    assert "It works" not in text
    assert "/health" in text
