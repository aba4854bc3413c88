"""The PROXY protocol: whom a proxy asks for, and not a byte too many."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livesync_trio.transport.proxy_header import SIGNATURE, V2_MAX_BYTES, BadProxyHeader, missing, source

BEHIND = b"GET / HTTP/1.1\r\n\r\n"


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2) + body


def taken(stream: bytes) -> bytes:
    """Read a header from a stream as the server does."""
    header = b""
    while more := missing(header):
        assert more > 0
        read = stream[len(header) : len(header) + more]
        if not read:
            raise EOFError
        header += read
    return header


V4 = ipaddress.IPv4Address("203.0.113.7").packed
V6 = ipaddress.IPv6Address("2001:db8::7").packed
HEADERS = {
    b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n": "203.0.113.7:51234",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 443\r\n": "[2001:db8::7]:65535",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    v2(0x21, 0x11, V4 + V4 + (51234).to_bytes(2) + (443).to_bytes(2)): "203.0.113.7:51234",
    v2(0x21, 0x21, V6 + V6 + (51234).to_bytes(2) + (443).to_bytes(2) + b"\x03\0\4abcd"): "[2001:db8::7]:51234",
    v2(0x20, 0x00, b""): None,
    v2(0x20, 0x11, b"x" * 40): None,
    v2(0x21, 0x31, b"\0" * 216): None,
    v2(0x21, 0x00, b""): None,
}


@pytest.mark.parametrize(("header", "client"), HEADERS.items())
def test_it_names_the_client_and_takes_nothing_behind_it(header: bytes, client: str | None) -> None:
    assert taken(header + BEHIND) == header
    assert source(header) == client


@pytest.mark.parametrize(
    "stream",
    [
        BEHIND,
        b"PROXY\r\n" + BEHIND,
        b"PROXY TCP4 203.0.113.7 192.0.2.1 51234\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 70000 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP5 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 2\r\n",
        b"PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 ٢٠٣.0.113.7 192.0.2.1 1 2\r\n".encode(),
        b"PROXY UNKNOWN" + b"x" * 200 + b"\r\n",
        b"PROXY TCP4 " + b"9" * 200,
        v2(0x31, 0x11, V4 + V4 + b"\0" * 4),
        v2(0x22, 0x11, V4 + V4 + b"\0" * 4),
        v2(0x21, 0x11, V4 + V4),
        v2(0x21, 0x21, V4 + V4 + b"\0" * 4),
        SIGNATURE + b"\x21\x11" + (V2_MAX_BYTES + 1).to_bytes(2) + b"x" * 9_000,
    ],
)
def test_what_is_none_is_refused(stream: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        source(taken(stream))


@given(
    st.binary(max_size=200)
    | st.sampled_from([b"PROXY ", SIGNATURE]).flatmap(lambda begin: st.binary().map(begin.__add__))
)
@example(b"PROXY UNKNOWN\r\n")
@example(b"")
def test_whatever_comes_is_a_header_or_refused_or_waited_for(stream: bytes) -> None:
    try:
        header = taken(stream)
    except EOFError:
        assert len(stream) < 16 + V2_MAX_BYTES
        return
    except BadProxyHeader:
        return
    assert stream.startswith(header)
    try:
        client = source(header)
    except BadProxyHeader:
        return
    if client is not None:
        host, _, port = client.rpartition(":")
        assert ipaddress.ip_address(host.strip("[]")) is not None
        assert 0 <= int(port) <= 0xFFFF


@given(st.ip_addresses(), st.integers(0, 0xFFFF), st.binary(max_size=100), st.sampled_from([1, 2]))
def test_what_a_proxy_sends_is_understood(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, behind: bytes, version: int
) -> None:
    if version == 1:
        header = b"PROXY TCP%d %b %b %d 443\r\n" % (address.version, str(address).encode(), str(address).encode(), port)
    else:
        body = address.packed * 2 + port.to_bytes(2) + b"\1\xbb"
        header = v2(0x21, 0x11 if address.version == 4 else 0x21, body)
    assert taken(header + behind) == header
    assert source(header) == (f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}")
