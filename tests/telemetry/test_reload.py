"""SIGHUP on a real process: what is read again counts, as a whole or not at all."""

from __future__ import annotations

import fcntl
import math
import os
import signal
import socket
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from livesync_trio.access.jwks import RemoteKeys, read_keys
from livesync_trio.app.server import Server
from livesync_trio.config import Config, Secret
from livesync_trio.hooks import Hooks
from livesync_trio.reloading import RELOAD_LIMIT_S, RELOAD_THREADS
from livesync_trio.storage.memory import MemoryEngine
from tests.bad_input.clients import RpcClient, V3Client, event, sync_url, v3_url
from tests.bad_input.wires import head
from tests.delivery.receiver import SECRET, Receiver
from tests.telemetry.process import FAILED, RELOADED, Watched, watched

OLD, NEW = {"authToken": "the old token"}, {"authToken": "the new token"}

REFUSES = """
def on_push(batch, context):
    raise PermissionError("{word}")
"""


async def test_a_new_token_counts_and_the_old_one_no_longer(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the old token\n")
    async with watched(tmp_path, auth_token_file=str(tmp_path / "token")) as server:
        assert (await server.status("s", OLD), await server.status("s", NEW)) == (101, 403)
        inside = await server.rpc("s", payload=OLD)
        (tmp_path / "token").write_text("the new token\n")
        line = await server.reload(RELOADED)
        assert (line["changed"], line["needs_restart"]) == (["auth_token"], [])
        assert (await server.status("s", OLD), await server.status("s", NEW)) == (403, 101)
        await inside.push(event(1, 0))  # who is inside stays inside
        assert len(await inside.pull()) == 1


async def test_a_mistake_anywhere_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(REFUSES.format(word="the first rules"))
    settings: dict[str, Any] = {"hooks": str(tmp_path / "rules.py"), "auth_token": "the old token"}
    async with watched(tmp_path, **settings) as server:
        server.configure(**{**settings, "auth_token": "the new token", "log_level": "debug"})
        for broken, reason in (
            ("def on_push(batch, context:\n", "SyntaxError"),
            ("import sys\nsys.exit(7)\n", "SystemExit"),
            ("on_push = 3\n", "is not a function"),
            ("unrelated = 1\n", "define none of"),
        ):
            (tmp_path / "rules.py").write_text(broken)
            assert reason in (await server.reload(FAILED))["reason"]
            assert (await server.status("s", OLD), await server.status("s", NEW)) == (101, 403)
            client = await server.rpc("s", payload=OLD)
            assert "the first rules" in str(await client.push(event(1, 0)))
        (tmp_path / "rules.py").write_text(REFUSES.format(word="the other rules"))
        server.configure(**settings, idle_limit_s="soon")
        assert "idle_limit_s" in (await server.reload(FAILED))["reason"]
        client = await server.rpc("s", payload=OLD)
        assert "the first rules" in str(await client.push(event(1, 0)))


async def test_new_rules_are_for_who_comes_from_now_on(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(REFUSES.format(word="first rules"))
    compiles = {"PYTHONDONTWRITEBYTECODE": ""}  # or there would be no compiled copy to be taken in by
    async with watched(tmp_path, compiles, hooks=str(tmp_path / "rules.py")) as server:
        before = await server.rpc("s")
        assert "first rules" in str(await before.push(event(1, 0)))
        written = (tmp_path / "rules.py").stat()
        (tmp_path / "rules.py").write_text(REFUSES.format(word="other rules"))
        os.utime(tmp_path / "rules.py", ns=(written.st_atime_ns, written.st_mtime_ns))
        assert (tmp_path / "rules.py").stat().st_size == written.st_size  # nothing but the text tells them apart
        await server.reload(RELOADED)
        after = await server.rpc("s")
        assert "other rules" in str(await after.push(event(1, 0)))
        assert "first rules" in str(await before.push(event(1, 0)))


async def test_a_hooks_module_is_found_again_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(REFUSES.format(word="first rules"))
    async with watched(tmp_path, hooks="my_rules") as server:
        (tmp_path / "my_rules.py").write_text(REFUSES.format(word="other rules"))
        await server.reload(RELOADED)
        assert "other rules" in str(await (await server.rpc("s")).push(event(1, 0)))


async def test_the_log_becomes_talkative_and_quiet_again(tmp_path: Path) -> None:
    async with watched(tmp_path, log_level="info") as server:
        await (await server.rpc("s")).check_ping()
        assert server.lines("frame received") == []
        server.configure(log_level="debug")
        assert (await server.reload(RELOADED))["changed"] == ["log_level"]
        await (await server.rpc("s")).check_ping()
        await server.wait_for("frame received")
        server.configure(log_level="info")
        await server.reload(RELOADED)
        talked = len(server.lines("frame received"))
        await (await server.rpc("s")).check_ping()
        assert len(server.lines("frame received")) == talked


async def test_what_needs_a_restart_is_named_and_goes_on_as_before(tmp_path: Path) -> None:
    async with watched(tmp_path, idle_limit_s=60.0) as server:
        server.configure(idle_limit_s=61.0, cors_origins=["https://app.example"], admin_secret="a secret")
        line = await server.reload(RELOADED)
        assert line["changed"] == ["cors_origins"]
        assert sorted(line["needs_restart"]) == ["admin_secret", "idle_limit_s"]
        assert await server.status("s", ..., "Origin: https://evil.example") == 403
        assert await server.status("s", ..., "Origin: https://app.example") == 101
        again = await server.reload(RELOADED)
        assert (again["changed"], sorted(again["needs_restart"])) == ([], ["admin_secret", "idle_limit_s"])


async def test_what_would_be_open_because_a_part_needs_a_restart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is judged is what would be in force: the address stays public until a restart."""
    monkeypatch.setattr("livesync_trio.reloading.configure_logging", lambda *_: None)  # it would end the capture
    read = [Config(host="127.0.0.1"), Config(host="127.0.0.1", auth_token=Secret("the new token"))]
    engine = MemoryEngine()
    engine.open()
    before = Config(host="0.0.0.0", auth_token=Secret("the old token"))
    server = Server(before, Hooks(), engine, reread=lambda: (read.pop(0), Hooks()))
    with structlog.testing.capture_logs() as logs:
        assert (await server.reloader.reload()).problem is not None
        assert server.door.access.authentication.token == Secret("the old token")
        assert (await server.reloader.reload()).problem is None
        assert server.door.access.authentication.token == Secret("the new token")
    failed, reloaded = (line for line in logs if line["event"] in (FAILED, RELOADED))
    assert "host would stay as before until a restart" in failed["reason"]
    assert "0.0.0.0 would let anyone on the network" in failed["reason"]
    assert (reloaded["changed"], reloaded["needs_restart"]) == (["auth_token"], ["host"])


async def test_settings_that_fit_only_after_a_restart_are_refused(tmp_path: Path) -> None:
    """The control plane on the public port would go on without a secret."""
    before: dict[str, Any] = {"admin_secret": "a long admin secret", "admin_public": True, "admin_port": 0}
    async with watched(tmp_path, **before) as server:
        server.configure(admin_port=0)
        line = await server.reload(FAILED)
        assert "admin_public would stay as before" in line["reason"]
        assert "LIVESYNC_ADMIN_PUBLIC" in line["reason"]


HANGS = "import threading\nthreading.Event().wait()\n"


async def test_hooks_that_hang_on_import_keep_nobody_from_ending(tmp_path: Path) -> None:
    """Two SIGTERMs had no effect, and the database stayed locked."""
    (tmp_path / "rules.py").write_text(REFUSES.format(word="first rules"))
    async with watched(tmp_path, hooks=str(tmp_path / "rules.py")) as server:
        (tmp_path / "rules.py").write_text(HANGS)
        assert server.process._process is not None
        server.process._process.send_signal(signal.SIGHUP)
        await server.rpc("s")  # it goes on to serve meanwhile
    # `watched` has stopped it, and it ended with 0


async def test_a_reload_that_hangs_is_given_up_and_another_one_may_follow(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hang = threading.Event()
    told: list[str] = []

    def reread() -> tuple[Config, Hooks]:
        hang.wait()
        return Config(hooks="rules.py"), Hooks()

    @contextmanager
    def reloading() -> Iterator[None]:
        told.append("RELOADING")
        yield
        told.append("READY")

    engine = MemoryEngine()
    engine.open()
    server = Server(Config(hooks="rules.py", port=0), Hooks(), engine, reread=reread)
    with structlog.testing.capture_logs() as logs:
        for _ in range(RELOAD_THREADS):
            autojump_clock.autojump_threshold = math.inf
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_reload, server, reloading)
                await trio.testing.wait_all_tasks_blocked()
                autojump_clock.jump(RELOAD_LIMIT_S + 1)
        assert (await server.reloader.reload()).problem is not None
        hang.set()
    assert told == ["RELOADING", "READY"] * RELOAD_THREADS
    reasons = [line["reason"] for line in logs if line["event"] == FAILED]
    assert reasons[:-1] == [f"hooks did not load in {RELOAD_LIMIT_S:g} s"] * RELOAD_THREADS
    assert "reloads before it hang" in reasons[-1]


async def _reload(server: Server, reloading: Callable[[], Any]) -> None:
    with reloading():
        assert (await server.reloader.reload()).problem is not None


async def test_a_new_admin_secret_counts_for_open_connections_too(tmp_path: Path) -> None:
    async with watched(tmp_path, admin_secret="the old secret", admin_port=0) as server:
        client = V3Client((await server.websocket(v3_url("s"))).wire)

        async def may(secret: str) -> bool:
            await client.send({"_tag": "WSMessage.AdminInfoReq", "requestId": "i", "adminSecret": secret})
            return bool((await client.receive())["_tag"] == "WSMessage.AdminInfoRes")

        assert await may("the old secret")
        server.configure(admin_secret="the new secret", admin_port=0)
        await server.reload(RELOADED)
        assert not await may("the old secret")
        assert await may("the new secret")


async def test_the_token_of_the_metrics_is_exchanged(tmp_path: Path) -> None:
    async with watched(tmp_path) as server:

        async def status(token: str) -> int:
            return (await server.ask(head("GET /metrics HTTP/1.1", f"Authorization: Bearer {token}"))).status

        assert await status("first") == 404
        server.configure(metrics_token="first")
        await server.reload(RELOADED)
        assert (await status("first"), await status("second")) == (200, 401)
        server.configure(metrics_token="second")
        await server.reload(RELOADED)
        assert (await status("first"), await status("second")) == (401, 200)
        server.configure()
        await server.reload(RELOADED)
        assert await status("second") == 404


async def test_keys_of_tokens_are_read_again(tmp_path: Path) -> None:
    import jwt

    from tests.security.tokens import claims

    first, second = "the first secret of at least 32 bytes", "the second secret of at least 32 bytes"
    async with watched(tmp_path, jwt_secret=first) as server:

        async def status(secret: str) -> int:
            return await server.status("s", {"authToken": jwt.encode(claims(stores=["s"]), secret)})

        assert (await status(first), await status(second)) == (101, 401)
        server.configure(jwt_secret=second)
        await server.reload(RELOADED)
        assert (await status(first), await status(second)) == (401, 101)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_server_ends_with_its_terminal_unless_told_otherwise(tmp_path: Path, nohup: bool) -> None:
    server = Watched(tmp_path, {})
    server.configure()
    master, slave = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)  # however these tests were started

    process = server.process
    with (tmp_path / "server.log").open("wb") as log:
        started = subprocess.Popen(
            process._command, cwd=tmp_path, env=process._environment, stdin=slave, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=take_terminal,  # noqa: PLW1509 - no other threads here
        )  # fmt: skip
    os.close(slave)
    try:
        trio.run(server.wait_for, "listening")
        os.close(master)  # the kernel tells the whole session
        if nohup:
            trio.run(server.wait_for, RELOADED)
            started.terminate()
        assert started.wait(60) == 0
    finally:
        started.kill()
        started.wait()
    assert bool(server.lines("the terminal was closed")) is not nohup
    assert server.lines("stopped") != []


async def test_nobody_is_disconnected_by_a_reload(tmp_path: Path) -> None:
    async with watched(tmp_path) as server:
        client = RpcClient((await server.websocket(sync_url("s"))).wire, "s")
        for number in range(3):
            await server.reload(RELOADED)
            await client.push(event(number + 1, number))
        assert len(await client.pull()) == 3


async def test_fetched_keys_outlive_a_reload_while_their_issuer_is_away() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/keys"
        before = RemoteKeys(url)
        before._keys, before._fetched_s = {"a": ["key a"]}, trio.current_time()
        after = read_keys(url, before)
        assert isinstance(after, RemoteKeys)
        with structlog.testing.capture_logs() as logs:
            assert await after.find("a") == ["key a"]
        assert [line["event"] for line in logs] == ["the keys of the token issuer cannot be fetched"]  # it was asked
        other = read_keys(f"{url}/others", before)
        with structlog.testing.capture_logs():
            assert await other.find("a") == []


async def test_webhooks_of_the_file_come_change_and_go(tmp_path: Path) -> None:
    """The first one, too, in a server that had loaded nothing of them; a mistake in one of them changes none."""

    def hooks(*keys: str) -> str:
        table = '[[webhooks]]\nid = "{0}"\nurl = "http://127.0.0.1:{1}/"\nsecret = "{2}"\nstart = "beginning"\n'
        return "".join(table.format(key, port, SECRET) + f'headers = {{ x-key = "{key}" }}\n' for key in keys)

    def configure(text: str) -> None:
        (tmp_path / "livesync.toml").write_text(f'log_level = "info"\n{text}')

    async def push(number: int) -> None:
        client = await server.rpc("s")
        assert (await client.push(event(number, number - 1)))["exit"]["_tag"] == "Success"

    async with watched(tmp_path) as server, trio.open_nursery() as nursery:
        receiver = Receiver(nursery)
        port = await receiver.listen()
        configure(hooks("first"))
        assert (await server.reload(RELOADED))["changed"] == ["webhooks"]
        await push(1)
        await _arrive(receiver, first=[1])
        configure(hooks("other") + hooks("wrong").replace("whsec_", ""))
        assert "secret" in (await server.reload(FAILED))["reason"]
        await push(2)
        await _arrive(receiver, first=[1, 2])
        configure(hooks("other"))
        await server.reload(RELOADED)
        await push(3)
        await _arrive(receiver, first=[1, 2], other=[1, 2, 3])
        configure(hooks("first"))
        await server.reload(RELOADED)
        await push(4)  # it goes on where it was
        await _arrive(receiver, first=[1, 2, 3, 4], other=[1, 2, 3])
        nursery.cancel_scope.cancel()


async def _arrive(receiver: Receiver, **expected: list[int]) -> None:
    """Wait until each webhook has brought these events, in order."""
    found: dict[str, list[int]] = {}
    with trio.fail_after(90):
        while sum(map(len, found.values())) < sum(map(len, expected.values())):
            await trio.sleep(0.02)  # another process decides
            found = {}
            for each in receiver.taken:
                found.setdefault(each.headers["x-key"], []).extend(each.numbers)
    assert found == expected
