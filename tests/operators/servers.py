"""`livesync serve` with its console on, as a process of its own, and browsers that use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from livesync_trio.config import CONFIG_ENV, SETTINGS
from livesync_trio.operators.throttle import BY_ADDRESS
from tests.admin.stage import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
OPENED: list[httpx.Client] = []
"""Browsers, which are closed after each test."""
PASSWORD = "a long way home"
OWNER = "ann@example.org"


class Server:
    """A server that runs by itself. Every browser comes from an address of its own, by way of a proxy."""

    def __init__(self, process: subprocess.Popen[str], banner: str, directory: Path) -> None:
        found = re.search(r"listening on\s+(\S+)[\s\S]*control\s+(\S+)", banner)
        assert found, (banner, (directory / "log").read_text())
        self.public_url, self.url = found[1], found[2]
        link = re.search(r"sign in\s+(\S+)", banner)
        self.first_link = None if link is None else link[1]
        self.directory = directory
        self.process = process
        self._visitors = 0

    def browser(self, address: str | None = None, *, public: bool = False, **headers: str) -> httpx.Client:
        """A browser nobody is signed in with."""
        self._visitors += 1
        sent = {"x-forwarded-for": address or f"203.0.113.{self._visitors}", "user-agent": "Browser/1", **headers}
        base_url = f"{self.public_url}/admin" if public else self.url
        anew = httpx.Limits(max_keepalive_connections=0)  # who is refused before the body was read is hung up on
        OPENED.append(httpx.Client(base_url=base_url, headers=sent, timeout=PATIENCE_S, limits=anew))
        return OPENED[-1]

    def signed_in(self, email: str = OWNER, password: str = PASSWORD, **headers: str) -> Browser:
        """A browser somebody is signed in with."""
        browser = Browser(self.browser(**headers))
        browser.sign_in(email, password)
        return browser

    def make_owner(self) -> httpx.Response:
        """Follow the one-time link."""
        assert self.first_link is not None
        token = self.first_link.partition("token=")[2]
        with self.browser() as browser:
            form = {"token": token, "email": OWNER, "password": PASSWORD, "again": PASSWORD}
            return browser.post("/first", data=form)

    def records(self) -> list[dict[str, Any]]:
        """The audit log so far."""
        return [msgspec.json.decode(line) for line in (self.directory / "audit.jsonl").read_bytes().splitlines()]

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8")


class Browser:
    """A browser somebody is signed in with: it keeps the cookie, and its pages know the session's token."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.csrf = ""
        self.me: dict[str, Any] = {}

    def sign_in(self, email: str, password: str) -> None:
        answer = self.client.post("/api/v1/login", json={"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        self.me = answer.json()
        self.csrf = self.me["csrf"]

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.client.get(path, params=query)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body, headers={"x-csrf-token": self.csrf})

    @property
    def is_in(self) -> bool:
        status = self.get("/api/v1/whoami").status_code
        assert status in (200, 401)
        return status == 200


@contextmanager
def serving(directory: Path, **environment: str) -> Iterator[Server]:
    """Start a server in a directory, without settings of the developer's own; ended by force in the end."""
    ours = {CONFIG_ENV, *(env for setting in SETTINGS for env in (setting.env, setting.file_env))}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    settings = {
        "PYTHONPATH": str(ROOT),
        "PORT": "0",
        "ADMIN_PORT": "0",
        "LIVESYNC_CONSOLE": "true",
        "LIVESYNC_ADMIN_PUBLIC": "true",
        "LIVESYNC_TRUSTED_PROXIES": "loopback",
        "LIVESYNC_AUDIT_LOG": str(directory / "audit.jsonl"),
        **environment,
    }
    with (directory / "log").open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "livesync_trio", "serve"],
            cwd=directory,
            env=inherited | settings,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    if "in the app" in line:
                        break
                yield Server(process, "".join(lines), directory)
            finally:
                process.kill()


class Guesses:
    """Wrong passwords from one address, and a look at whether all servers together allowed too many."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._allowed = 0

    def guess(self, server: Server, times: int = 5) -> None:
        for _ in range(times):
            with server.browser("198.51.100.7") as guesser:
                answer = guesser.post("/api/v1/login", json={"email": OWNER, "password": "another way home"})
            assert answer.status_code in (401, 429), answer.text
            self._allowed += answer.status_code == 401

    def check(self) -> None:
        """So many at once, and as many as have come back since; a slow machine is given more."""
        came_back = (time.monotonic() - self._began_s) * BY_ADDRESS.per_s
        assert 0 < self._allowed <= BY_ADDRESS.amount + came_back + 1


def refusal(answer: httpx.Response, status: int, code: str) -> str:
    """The message of an answer that must be this refusal."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    return str(error["message"])
