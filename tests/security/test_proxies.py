"""For whom a proxy asks (`transport.proxies`): believed from configured proxies only, never from strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.access.admission import Proxies
from livesync_trio.hooks import HookContext, Hooks
from tests.bad_input.clients import sync_url
from tests.bad_input.servers import running_server
from tests.bad_input.websockets import upgrade

PROXIES = ("10.0.0.0/8", "2001:db8:1::/48")


def client(peer: str, header: str | None, *, name: str = "x-forwarded-for", trusted: tuple[str, ...] = PROXIES) -> str:
    headers = {} if header is None else {name: header}
    host = peer.rpartition(":")[0].strip("[]")
    return Proxies.of(trusted, name).client(peer, host, headers)


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("10.0.0.1:5", None, "10.0.0.1:5"),
        ("10.0.0.1:5", "", "10.0.0.1:5"),
        ("10.0.0.1:5", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1:5", "192.0.2.7:4711", "192.0.2.7"),
        ("10.0.0.1:5", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1:5", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1:5", "::ffff:192.0.2.7", "192.0.2.7"),
        ("10.0.0.1:5", "192.0.2.66, 192.0.2.7", "192.0.2.7"),  # what stands further left, the client wrote itself
        ("10.0.0.1:5", "192.0.2.66, 192.0.2.7, 10.9.9.9", "192.0.2.7"),  # two proxies
        ("10.0.0.1:5", "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # everybody is a proxy
        ("10.0.0.1:5", "unknown", "10.0.0.1:5"),
        ("10.0.0.1:5", "192.0.2.66, nonsense, 10.9.9.9", "10.9.9.9"),
        ("10.0.0.1:5", "192.0.2.7,,", "10.0.0.1:5"),
        ("10.0.0.1:5", "x" * 60_000, "10.0.0.1:5"),
        ("[2001:db8:1::5]:5", "192.0.2.7", "192.0.2.7"),
        ("[::ffff:10.0.0.1]:5", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.9:5", "192.0.2.7", "192.0.2.9:5"),  # a stranger
        ("11.0.0.1:5", "192.0.2.7", "11.0.0.1:5"),
        ("", "192.0.2.7", ""),
    ],
)
def test_who_asks(peer: str, header: str | None, expected: str) -> None:
    assert client(peer, header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("for=192.0.2.7", "192.0.2.7"),
        ("For=192.0.2.7;proto=https;by=10.0.0.1", "192.0.2.7"),
        ('proto=https;for="192.0.2.7:4711"', "192.0.2.7"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ("for=192.0.2.66, for=192.0.2.7", "192.0.2.7"),
        ("for=192.0.2.66, for=192.0.2.7, for=10.2.2.2", "192.0.2.7"),
        ("for=unknown", "10.0.0.1:5"),
        ("for=_hidden", "10.0.0.1:5"),
        ("proto=https", "10.0.0.1:5"),
        ("xfor=192.0.2.7", "10.0.0.1:5"),
        ('for="', "10.0.0.1:5"),
    ],
)
def test_who_asks_in_the_words_of_rfc_7239(header: str, expected: str) -> None:
    assert client("10.0.0.1:5", header, name="forwarded") == expected


def test_the_header_that_is_not_configured_is_never_looked_at() -> None:
    headers = {"forwarded": "for=192.0.2.66", "x-forwarded-for": "192.0.2.7"}
    assert Proxies.of(PROXIES, "x-forwarded-for").client("10.0.0.1:5", "10.0.0.1", headers) == "192.0.2.7"
    assert Proxies.of(PROXIES, "forwarded").client("10.0.0.1:5", "10.0.0.1", headers) == "192.0.2.66"


@given(st.text(max_size=200))
def test_no_header_crashes_it(header: str) -> None:
    for name in ("x-forwarded-for", "forwarded"):
        assert isinstance(client("10.0.0.1:5", header, name=name), str)


@given(st.lists(st.ip_addresses().map(str), max_size=5))
def test_a_client_cannot_choose_its_address(written: list[str]) -> None:
    """Whatever it writes itself, the proxy appends where it really comes from, and that counts."""
    assert client("10.0.0.1:5", ", ".join([*written, "192.0.2.7"])) == "192.0.2.7"


@pytest.mark.parametrize(
    ("trusted", "seen"), [(("loopback",), "192.0.2.7"), (("10.0.0.0/8",), "127.0.0.1"), ((), "127.0.0.1")]
)
async def test_hooks_see_the_address_of_the_client(trusted: tuple[str, ...], seen: str) -> None:
    contexts: list[HookContext] = []

    def validate_payload(_: object, context: HookContext) -> None:
        contexts.append(context)

    async with running_server(Hooks(validate_payload=validate_payload), trusted_proxies=trusted) as server:
        await server.ask(upgrade(sync_url("s"), "X-Forwarded-For: 192.0.2.66", "X-Forwarded-For: 192.0.2.7"))
        assert contexts[0].client_host == seen
