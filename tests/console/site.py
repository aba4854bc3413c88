"""A server with its console, as a process of its own that can be started again, and a browser that looks at it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

from tests.conformance import node_packages

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-of-the-console"
SIGNING = "signs-the-tokens-of-the-console-tests"
PATIENCE_S = 90.0
PATIENCE_MS = 1000 * PATIENCE_S
HARMLESS = (
    *("Failed to load resource: net::", "Failed to load resource: the server responded with a status of 4"),
    "WebSocket connection to",
)
"""What a browser says by itself when a server is gone or refuses, which some tests want."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Site:
    """The server, and pages of it."""

    def __init__(self, folder: Path, browser: Browser, **settings: str) -> None:
        self.port, self.control_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.control = f"http://127.0.0.1:{self.control_port}"
        self.http = httpx.Client(
            base_url=self.control, headers={"authorization": f"Bearer {SECRET}"}, timeout=PATIENCE_S
        )
        self.faults: list[str] = []
        """What a browser found wrong with a page: scripts that failed, policies that were broken."""
        self.folder = folder
        self._browser = browser
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "ADMIN_SECRET": SECRET,
            "LIVESYNC_CONSOLE": "true",
            "LIVESYNC_API": "true",
            "LIVESYNC_JWT_SECRET": SIGNING,
            "LIVESYNC_BACKUP_DIR": "backups",
            "PORT": str(self.port),
            "ADMIN_PORT": str(self.control_port),
            **settings,
        }

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **self._settings}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "livesync_trio", "serve"],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.http.get("/api/v1/info").raise_for_status()
                return
            except httpx.TransportError:
                assert time.monotonic() < until, (self.folder / "log").read_text(encoding="utf-8")
                assert self._process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
                time.sleep(0.05)  # another process decides

    def until(self, wanted: Callable[[], object]) -> None:
        """Wait for what the server does by itself."""
        until = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < until, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.05)  # another process decides

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE_S)
            self._process = None

    # --- the browser

    def page(self, path: str = "/", width: int = 1280, *, stranger: bool = False, **context: Any) -> Page:
        """A page in a context of its own, whose faults are kept. `stranger`: it brings no secret."""
        opened = self._browser.new_context(
            viewport=ViewportSize(width=width, height=900),
            extra_http_headers={} if stranger else {"authorization": f"Bearer {SECRET}"},
            permissions=["clipboard-read", "clipboard-write"],
            **context,
        )
        opened.set_default_timeout(PATIENCE_MS)
        page = opened.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", lambda said: self._note(page, said))
        page.on("dialog", lambda dialog: dialog.accept())
        self.go(page, path)
        return page

    def go(self, page: Page, path: str) -> None:
        page.goto(self.control + path)

    def _note(self, page: Page, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.text.startswith(HARMLESS):
            self.faults.append(f"{page.url}: {said.text}")

    # --- clients

    def token(self, *stores: str) -> str:
        answer = self.http.post("/api/v1/access/token", json={"user": "ada", "stores": list(stores) or ["*"]})
        return str(answer.raise_for_status().json()["token"])

    def append(self, store: str, *events: dict[str, Any]) -> None:
        """Events by the HTTP API, as any program appends them."""
        headers = {"authorization": f"Bearer {self.token()}"}
        path = f"{self.url}/v1/stores/{quote(store, safe='')}/events"
        httpx.post(path, json={"events": list(events)}, headers=headers, timeout=PATIENCE_S).raise_for_status()


def event(name: str = "v1.NoteAdded", data: Any = None, client: str = "phone", session: str = "s1") -> dict[str, Any]:
    return {"type": name, "data": data if data is not None else {"n": 1}, "clientId": client, "sessionId": session}


def barriers(page: Page, where: str, themes: Sequence[Literal["light", "dark"]] = ("light", "dark")) -> None:
    """Nothing that axe finds on a page, in the light and in the dark; nothing wider than a phone."""
    if node_packages.missing_programs():
        pytest.skip("axe-core comes by npm")
    node_packages.install("axe")
    source = (node_packages.CLIENTS / "axe/node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size(ViewportSize(width=360, height=size["height"]))
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, where
    page.evaluate(source)  # by the debugger, which no policy holds back
    found = []
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        told = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found += [(theme, one["id"], [node["html"][:200] for node in one["nodes"]]) for one in told["violations"]]
    assert found == [], (where, found)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(size)
