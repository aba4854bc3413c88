"""TLS of the server's own: WebSockets and HTTP over it, strangers who do not speak it, new certificates on SIGHUP."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from livesync_trio.config import BadConfig, load
from livesync_trio.errors import StartupError
from livesync_trio.transport.tls import Tls
from tests.bad_input.clients import NO_CURSOR, RpcClient, event, http_rpc, sync_url
from tests.bad_input.servers import TestedServer, running_server
from tests.bad_input.websockets import WebSocket
from tests.bad_input.wires import Ended, Wire, head, post

from .certificates import write_certificate


class TlsServer(TestedServer):
    """Every connection to it is secured; the certificate last seen is kept."""

    __test__ = False
    cert_file: Path
    plain = False
    seen: bytes | None = None
    versions: Any = None

    async def wire(self, *arguments: Any, **named: Any) -> Wire:
        if self.plain:
            return await super().wire(*arguments, **named)
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        context = ssl.create_default_context(cafile=str(self.cert_file))
        context.set_alpn_protocols(["h2", "http/1.1"])
        secured = trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
        await secured.do_handshake()
        self.seen = secured.getpeercert(binary_form=True)
        assert secured.selected_alpn_protocol() == "http/1.1"
        self._wires.append(Wire(secured))  # type: ignore[arg-type]
        return self._wires[-1]


@asynccontextmanager
async def tls_server(tmp_path: Path, **settings: Any) -> AsyncIterator[TlsServer]:
    cert_file, key_file = write_certificate(tmp_path)
    async with running_server(tls_cert=str(cert_file), tls_key=str(key_file), **settings) as server:
        server.__class__ = TlsServer
        assert isinstance(server, TlsServer)
        server.cert_file = cert_file
        yield server
        server.plain = False


async def test_clients_work_over_tls(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        client = await server.rpc("s")
        await client.push(event(1, 0, "x" * 300_000))
        assert len(await client.pull()) == 1
        body = http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[2]
        answer = await server.ask(post(sync_url("s", "http"), body))
        assert len(answer.json) == 2
        assert answer.headers["strict-transport-security"].startswith("max-age=")


async def test_a_new_certificate_is_taken_on_sighup_and_a_broken_one_is_not(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        before = await server.rpc("s")
        first = server.seen
        write_certificate(tmp_path)
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(30):
            while not server.logged("reloaded"):  # noqa: ASYNC110 - another process or thread sets it
                await trio.sleep(0.01)
        after = await server.rpc("s")
        assert server.seen not in (None, first)
        second = server.seen
        await before.push(event(1, 0))  # what was open goes on with the old one
        assert len(await after.pull()) == 1
        server.cert_file.rename(tmp_path / "kept.pem")
        (tmp_path / "cert.pem").write_text("nonsense")
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(30):
            while not server.logged("reload failed, everything stays as it was"):  # noqa: ASYNC110 - another process or thread sets it
                await trio.sleep(0.01)
        server.cert_file = tmp_path / "kept.pem"
        await server.rpc("s")
        assert server.seen == second
        server.logs[:] = [line for line in server.logs if not line["event"].startswith("reload failed")]


@pytest.mark.parametrize("data", [head("GET / HTTP/1.1"), b"\x16\x03\x01\x00\x05hello", b"\0" * 100, b""])
async def test_who_does_not_speak_tls_is_cut_off_and_nobody_else_notices(tmp_path: Path, data: bytes) -> None:
    async with tls_server(tmp_path, handshake_limit_s=1) as server:
        well = await server.rpc("s")
        server.plain = True
        wire = await server.wire()
        await wire.send(data)
        rest = await wire.read_to_end()
        assert b"HTTP/1.1" not in rest
        server.plain = False
        await well.check_works()


async def test_a_websocket_may_vanish_without_tls_goodbye(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as server:
        opened = await server.websocket(sync_url("s"))
        assert isinstance(opened, WebSocket)
        await trio.aclose_forcefully(opened.wire.stream)
        client = RpcClient((await server.websocket(sync_url("s"))).wire, "s")
        await client.check_works()
        with pytest.raises(Ended):
            await opened.wire.read(1)


async def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path)
    assert Tls(str(cert_file), str(key_file))._context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_files_that_are_no_certificate_stop_the_start(tmp_path: Path) -> None:
    cert_file, key_file = write_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_key = write_certificate(tmp_path / "other")
    for cert, key in ((key_file, key_file), (cert_file, other_key), (tmp_path / "gone", key_file)):
        with pytest.raises(StartupError):
            Tls(str(cert), str(key))
    with pytest.raises(BadConfig, match="belong together"):
        load({}, {"LIVESYNC_TLS_CERT": str(cert_file)})
    with pytest.raises(BadConfig, match="no such file"):
        load({}, {"LIVESYNC_TLS_CERT": str(cert_file), "LIVESYNC_TLS_KEY": str(tmp_path / "gone")})
