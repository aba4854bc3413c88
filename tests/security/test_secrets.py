"""Secrets are seen nowhere: a run with canaries, all of whose output and answers are searched."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio

from tests.bad_input.clients import NO_CURSOR, RpcClient, V3Client, event, http_rpc, push, sync_url, v3_url
from tests.bad_input.servers import TestedServer
from tests.bad_input.websockets import frame, upgrade
from tests.bad_input.wires import head, post
from tests.conformance.servers import REPOSITORY, ServerProcess

from .tokens import claims

CANARIES = {
    "AUTH_TOKEN": "canary-shared-token-7f3a",
    "ADMIN_SECRET": "canary-admin-secret-91bc",
    "LIVESYNC_JWT_SECRET": "canary-jwt-secret-d04e-long-enough-for-it",
    "LIVESYNC_METRICS_TOKEN": "canary-metrics-token-a7d1",
}
WRONG = "canary-wrong-secret-55aa"
COOKIE = "canary-cookie-2b6d"
ARGS = "canary-user-data-c9c1"
HOOK_PAYLOAD = "canary-payload-field-8e8e"

HOOKS = """
def on_push(batch, context):
    if batch[0].name == "crash":
        private = context.payload
        raise RuntimeError("the hook broke")
"""


def forms(secret: str) -> list[str]:
    """A secret as it may hide: as it is, percent-encoded, in base64, or its ordinary hashes."""
    raw = secret.encode()
    return [
        secret,
        quote(secret, safe=""),
        base64.b64encode(raw).decode().rstrip("="),
        raw.hex(),
        hashlib.sha256(raw).hexdigest(),
        repr(list(raw)),
    ]


def search(text: str, where: str) -> None:
    for canary in (*CANARIES.values(), WRONG, COOKIE, ARGS, HOOK_PAYLOAD):
        for form in forms(canary):
            at = text.find(form)
            assert at < 0, f"{canary} in {where}: …{text[max(0, at - 200) : at + 100]}…"


class Run:
    """A server process with canaries, and everything that anybody could see of it."""

    def __init__(self, directory: Path, style: str, level: str) -> None:
        (directory / "rules.py").write_text(HOOKS)
        (directory / "admin").write_text(CANARIES["ADMIN_SECRET"] + "\n")
        settings = {
            "AUTH_TOKEN": CANARIES["AUTH_TOKEN"],
            "ADMIN_SECRET_FILE": str(directory / "admin"),
            "LIVESYNC_JWT_SECRET": CANARIES["LIVESYNC_JWT_SECRET"],
            "LIVESYNC_METRICS_TOKEN": CANARIES["LIVESYNC_METRICS_TOKEN"],
            "LIVESYNC_AUTH_COOKIE": "session",
            "LIVESYNC_CORS_ORIGINS": "https://app.example",
            "LIVESYNC_HOOKS": str(directory / "rules.py"),
            "LIVESYNC_AUDIT_LOG": str(directory / "audit.jsonl"),
            "LOG_LEVEL": level,
            "LOG_FORMAT": style,
        }
        self.directory = directory
        self.process = ServerProcess(directory, f"sqlite:///{directory}/livesync.db", settings)
        self.process.start()
        pid = self.process._process.pid if self.process._process else 0
        self.title = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/comm").read_bytes()
        self.server = TestedServer(self.process.port, [], {"authToken": CANARIES["AUTH_TOKEN"]})

    def finish(self) -> None:
        """Stop, and search everything."""
        self.process.stop()
        search((self.directory / "server.log").read_text(), "the log")
        search((self.directory / "audit.jsonl").read_text(), "the audit log")
        search(self.title.decode(errors="replace"), "the title of the process")
        for wire in self.server._wires:
            received = wire.received.decode(errors="replace").replace(ARGS, "(what this client pushed itself)")
            search(received, "an answer")


@asynccontextmanager
async def run_of(directory: Path, style: str, level: str) -> AsyncIterator[Run]:
    run = Run(directory, style, level)
    try:
        yield run
    finally:
        await run.server.hang_up()
        run.finish()


@pytest.mark.parametrize(("style", "level"), [("console", "debug"), ("json", "debug")])
async def test_no_secret_is_seen_anywhere(tmp_path: Path, style: str, level: str) -> None:
    import jwt

    jwt_text = jwt.encode(claims(sub="ann"), CANARIES["LIVESYNC_JWT_SECRET"])
    async with run_of(tmp_path, style, level) as run:
        server = run.server
        # Right and wrong secrets, everywhere a client can put one.
        right = {"authToken": CANARIES["AUTH_TOKEN"], "private": HOOK_PAYLOAD}
        wrong = {"authToken": WRONG, "private": HOOK_PAYLOAD}
        forged = {"authToken": jwt_text[:-3] + WRONG, "private": HOOK_PAYLOAD}
        for payload in (right, wrong, forged, {"authToken": jwt_text}):
            for target in (sync_url("s", "ws", payload), v3_url("s", payload)):
                await server.ask(upgrade(target, f"Cookie: session={COOKIE}"))
                await server.ask(upgrade(target, "Origin: https://evil.example", f"Authorization: Bearer {WRONG}"))
            body = http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR, "payload": payload})
            await server.ask(post(sync_url("s", "http", payload), body.partition(b"\r\n\r\n")[2]))
            await server.ask(post(sync_url("s", "http", payload), b"not JSON " + WRONG.encode()))
        # Requests that break on their way, with secrets in them.
        await server.ask(head(f"GET /?storeId=s&payload={WRONG}&transport=ws HTTP/1.1"))
        await server.ask(head(f"GET /{WRONG}?{COOKIE} HTTP/1.1"))
        await server.ask(f"GET /{WRONG} HTTP/9.9\r\n\r\n".encode())
        await server.ask(head("GET / HTTP/1.1", f"Authorization : {WRONG}"))
        client = RpcClient((await server.websocket(sync_url("s", "ws", right))).wire, "s")
        await client.push(event(1, 0, ARGS))
        await client.push({**event(2, 1, ARGS), "name": "crash"})
        await client.send(push("9", "s", {"name": ARGS, "seqNum": ARGS}))
        await client.answer_to("9")
        await client.send(f'{{"broken": "{ARGS}"')
        await client.closed()
        await server.wire()
        old = V3Client((await server.websocket(v3_url("s", right))).wire)
        for secret in (WRONG, CANARIES["ADMIN_SECRET"]):
            await old.send({"_tag": "WSMessage.AdminInfoReq", "requestId": "x", "adminSecret": secret})
            await old.receive()
        await old.send(
            {"_tag": "WSMessage.AdminResetRoomReq", "requestId": "x", "adminSecret": CANARIES["ADMIN_SECRET"]}
        )
        await old.receive()
        await old.wire.send(frame(0x3, WRONG.encode()))
        await old.closed()
        for path in ("/", "/health", "/metrics"):
            await server.ask(head(f"GET {path} HTTP/1.1"))
        for token in (WRONG, CANARIES["LIVESYNC_METRICS_TOKEN"]):
            page = await server.ask(head("GET /metrics HTTP/1.1", f"Authorization: Bearer {token}"))
            assert page.status == (401 if token == WRONG else 200)
        process = run.process._process
        assert process is not None
        process.send_signal(signal.SIGHUP)
        acts = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
        check_audit(acts)


def check_audit(acts: list[dict[str, Any]]) -> None:
    """What the record must say of the run above."""
    assert {act["act"] for act in acts} == {"connect", "refuse", "reset", "inspect"}
    for act in acts:
        assert act["at"].endswith("+00:00")
        assert act["from"].startswith("127.0.0.1:")
        assert act["store"] == "s"
    assert {act["user"] for act in acts if act["act"] == "connect"} == {None, "ann"}
    kinds = {act["kind"] for act in acts if act["act"] == "refuse"}
    assert {"unauthenticated", "origin-refused", "not-allowed"} <= kinds
    assert len([act for act in acts if act["act"] == "reset"]) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"AUTH_TOKEN": CANARIES["AUTH_TOKEN"], "PORT": "nonsense"},
        lambda: {"AUTH_TOKEN": CANARIES["AUTH_TOKEN"], "AUTH_TOKEN_FILE": "/nowhere"},
        lambda: {"LIVESYNC_JWT_SECRET": WRONG},
        lambda: {"ADMIN_SECRET": CANARIES["ADMIN_SECRET"], "HOST": "0.0.0.0"},
        lambda: {"ADMIN_SECRET": CANARIES["ADMIN_SECRET"], "DATABASE_URL": f"sqlite://{WRONG}@host/x"},
    ],
)
def test_no_secret_is_seen_when_it_does_not_start(tmp_path: Path, make: Callable[[], dict[str, str]]) -> None:
    environment = {**os.environ, **make(), "PYTHONPATH": str(REPOSITORY), "LOG_LEVEL": "debug"}
    ended = subprocess.run(
        [sys.executable, "-m", "livesync_trio", "serve"],
        cwd=tmp_path, env=environment, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    search((ended.stdout + ended.stderr).decode(), "what it said")


async def test_the_audit_log_is_opened_anew_on_sighup(tmp_path: Path) -> None:
    settings = {"LIVESYNC_AUDIT_LOG": str(tmp_path / "audit.jsonl")}
    process = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/livesync.db", settings)
    process.start()
    server = TestedServer(process.port, [], ...)
    try:
        await server.websocket(sync_url("first"))
        (tmp_path / "audit.jsonl").rename(tmp_path / "audit.1.jsonl")
        assert process._process is not None
        process._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while not (tmp_path / "audit.jsonl").exists() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process or thread sets it
            await trio.sleep(0.02)
        await server.websocket(sync_url("second"))
    finally:
        await server.hang_up()
        process.stop()
    assert "first" in (tmp_path / "audit.1.jsonl").read_text()
    assert "second" not in (tmp_path / "audit.1.jsonl").read_text()
    assert "second" in (tmp_path / "audit.jsonl").read_text()


def test_an_audit_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "livesync_trio", "serve", "--port", "0", "--audit-log", str(tmp_path / "no" / "audit")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert b"audit log cannot be opened" in ended.stderr
