"""Webhooks lead to public addresses only, to the very address that was checked, and to receivers that prove a name."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore
import pytest
import trio

from livesync_trio.delivery.limits import WEBHOOK_ATTEMPT_LIMIT_S
from livesync_trio.delivery.messages import Failed, Taken, of_test
from livesync_trio.delivery.network import GuardedNetwork, Refused, is_public
from livesync_trio.delivery.sender import Sender
from tests.delivery.receiver import webhook

NOT_PUBLIC = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "::7f00:1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "not an address", "",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_known_in_every_disguise(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_known(address: str) -> None:
    assert is_public(address)


class Names:
    """A name server that says what a test wants, one answer after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def listening(address: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A receiver on a real socket that takes everything: its port, and what it was sent."""
    heads: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"webhook.test" not in data:
                part = await stream.receive_some()
                if not part:
                    return
                data += part
            heads.append(data)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host=address)
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield port, heads
        nursery.cancel_scope.cancel()


async def send(network: httpcore.AsyncNetworkBackend, url: str, tls: ssl.SSLContext | None = None) -> Taken | Failed:
    sender = Sender(webhook(url=url), network, tls or ssl.create_default_context())
    with trio.fail_after(60):
        answer = await sender.send(of_test("hook", "2026-11-27T12:00:00.000Z"))
        await sender.close()
    assert isinstance(answer, Taken | Failed)
    return answer


async def test_a_name_that_leads_into_the_network_is_not_connected_to() -> None:
    async with listening() as (port, heads):
        for addresses in (["127.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["::1"], ["169.254.169.254"]):
            answer = await send(GuardedNetwork(Names(addresses)), f"https://receiver.example:{port}/")
            assert isinstance(answer, Failed)
            assert "not public" in answer.reason
        assert heads == []


async def test_an_address_in_the_url_is_checked_as_well() -> None:
    async def itself(host: str, port: int) -> list[str]:
        return [host]

    for host in ("10.0.0.1", "[::ffff:10.0.0.1]", "[fd00::1]"):
        answer = await send(GuardedNetwork(itself), f"https://{host}/")
        assert isinstance(answer, Failed)
        assert "not public" in answer.reason


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that answers something else the second time is asked once only for a connection."""
    connected: list[str] = []

    class Watched(GuardedNetwork):
        def __init__(self, names: Names) -> None:
            super().__init__(names)
            self._trio = self  # type: ignore[assignment]
            self.guarding = super().connect_tcp

        async def connect_tcp(self, host: str, port: int, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
            connected.append(host)
            raise httpcore.ConnectError("far away")

    names = Names(["8.8.8.8", "10.0.0.1", "9.9.9.9"], ["127.0.0.1"])
    watched = Watched(names)
    with pytest.raises(httpcore.ConnectError, match="far away"):
        await watched.guarding("receiver.example", 443, 5.0)
    assert connected == ["8.8.8.8", "9.9.9.9"]
    assert names.asked == ["receiver.example"]
    with pytest.raises(Refused):
        await watched.guarding("receiver.example", 443, 5.0)
    assert connected == ["8.8.8.8", "9.9.9.9"]


async def test_an_operator_allows_a_host_by_name() -> None:
    async with listening() as (port, heads):
        network = GuardedNetwork(Names(["127.0.0.1"]), ["Receiver.Example"])
        stream = await network.connect_tcp("receiver.example", port, 5.0)
        await stream.aclose()
        with pytest.raises(Refused):
            await network.connect_tcp("other.example", port, 5.0)
        assert heads == []


async def test_this_machine_is_reached_by_http_but_only_where_it_is_named_so() -> None:
    async with listening() as (port, heads):
        assert await send(GuardedNetwork(Names(["127.0.0.1"])), f"http://localhost:{port}/hook?x=1") == Taken(200)
        assert heads[0].startswith(b"POST /hook?x=1 HTTP/1.1\r\n")
        answer = await send(GuardedNetwork(Names(["8.8.8.8"])), f"http://localhost:{port}/")
        assert isinstance(answer, Failed)


async def test_a_name_that_nobody_knows_is_a_failure() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    answer = await send(GuardedNetwork(unknown), "https://receiver.example/")
    assert answer == Failed("the host cannot be found: Name or service not known")


async def test_a_name_server_that_hangs_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    async def hang(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    began_s = trio.current_time()
    answer = await send(GuardedNetwork(hang), "https://receiver.example/")
    assert isinstance(answer, Failed)
    assert trio.current_time() - began_s <= WEBHOOK_ATTEMPT_LIMIT_S


# --- TLS -------------------------------------------------------------------------------------------------------------


def certificate(directory: Path, name: str) -> Path:
    """A certificate for a name, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


async def test_a_receiver_must_prove_the_name_of_the_url(tmp_path: Path) -> None:
    path = certificate(tmp_path, "receiver.example")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=str(path))
    taken: list[bytes] = []

    async def serve(plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, served, server_side=True)
        try:
            data = b""
            while b"webhook.test" not in data:
                part = await stream.receive_some()
                if not part:
                    return
                data += part
            taken.append(data)
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        network = GuardedNetwork(Names(["127.0.0.1"]), ["receiver.example", "another.example"])
        assert await send(network, f"https://receiver.example:{port}/", trusting) == Taken(204)
        for url, tls in (
            (f"https://another.example:{port}/", trusting),
            (f"https://receiver.example:{port}/", ssl.create_default_context()),
        ):
            answer = await send(network, url, tls)
            assert isinstance(answer, Failed)
            assert "certificate" in answer.reason.lower()
        assert len(taken) == 1
        nursery.cancel_scope.cancel()
