"""For whom a proxy asks: `X-Forwarded-For`, or `Forwarded` (RFC 7239), believed from configured proxies only.

One of the two headers is looked at, never both: a proxy that sets the one passes the other on as strangers wrote it.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from livesync_trio.config.checks import networks

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORWARDED: Final = "forwarded"
_FOR: Final = re.compile(r'(?:^|;)\s*for=(?:"([^"]*)"|([^;,"\s]*))', re.IGNORECASE)


@attrs.frozen
class Proxies:
    """The proxies that are believed.

    Attributes:
        trusted: their networks.
        header: the header they set, in lower case.
    """

    trusted: Sequence[Network] = ()
    header: str = "x-forwarded-for"

    @classmethod
    def of(cls, trusted: tuple[str, ...], header: str) -> "Proxies":
        """From the settings."""
        return cls(networks(trusted), header)

    def trusts(self, host: str) -> bool:
        """Whether an address is that of a proxy."""
        address = _address(host)
        return address is not None and any(
            address in network for network in self.trusted if network.version == address.version
        )

    def client(self, peer: str, peer_host: str, headers: Mapping[str, str]) -> str:
        """Who really asks.

        Args:
            peer: address and port of the socket's other end.
            peer_host: the address alone.
            headers: of the request; several of one name joined by commas.

        Returns:
            `peer` when that is no trusted proxy, or says nothing usable; else the nearest address that is none.
            Whatever stands further left was written by strangers.
        """
        if not self.trusted or not self.trusts(peer_host):
            return peer
        nearest = peer
        for host in reversed(tuple(self._hops(headers.get(self.header, "")))):
            address = _address(host)
            if address is None:
                break
            nearest = str(address)
            if not self.trusts(nearest):
                break
        return nearest

    def _hops(self, header: str) -> Iterator[str]:
        for element in header.split(","):
            if self.header == FORWARDED:
                found = _FOR.search(element.strip())
                yield _without_port((found[1] or found[2] or "").strip()) if found else ""
            elif header:
                yield _without_port(element.strip())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
