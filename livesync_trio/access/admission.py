"""Who may come in: everybody who may object is asked, the cheap ones first.

Owns the order of asking. Who is asked: which web pages may (`pages`), names of stores, rates and counts (`fairness`),
identity and claims (`authentication`). For whom a proxy asks is said by `X-Forwarded-For` or `Forwarded` (RFC 7239),
believed from configured proxies only. One of the two headers is looked at, never both: a proxy that sets the one passes
the other on as strangers wrote it.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs
import trio

from livesync_trio.access.authentication import Authentication
from livesync_trio.access.client import Client
from livesync_trio.access.pages import Pages
from livesync_trio.access.store_ids import StoreIdPolicy
from livesync_trio.config import Config
from livesync_trio.config.checks import networks
from livesync_trio.errors import Refusal
from livesync_trio.fairness import Fairness, Held, Slot, address_group
from livesync_trio.hooks import HookContext, HookRunner, host_of

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


@attrs.define(eq=False)
class Access:
    """The rules of one door. A reload exchanges `authentication` and `pages`; the rest stays as it was at the start.

    Attributes:
        authentication: whose identity and claims count.
        pages: which web pages may use the server.
        proxies: who is believed about the address of a client.
        store_ids: which names of stores are taken.
        fairness: rates, and connections held.
    """

    authentication: Authentication
    pages: Pages
    proxies: Proxies = attrs.field(factory=Proxies)
    store_ids: StoreIdPolicy = attrs.field(factory=StoreIdPolicy)
    fairness: Fairness = attrs.field(factory=Fairness)

    @classmethod
    def of(cls, config: Config, hooks: HookRunner) -> "Access":
        """The rules that a configuration says.

        Raises:
            StartupError: the file with the keys of tokens cannot be used.
        """
        pattern = None if config.store_id_pattern is None else re.compile(config.store_id_pattern)
        return cls(
            Authentication.of(config, hooks),
            Pages.of(config, hooks.hooks.decide_who_connects),
            Proxies.of(config.trusted_proxies, config.forwarded_header),
            StoreIdPolicy(pattern, config.store_id_max_bytes),
            Fairness.of(config),
        )

    def client_address(self, peer: str, headers: Mapping[str, str]) -> str:
        """Who really asks. `peer`: `host:port` of the socket's other end; see `Proxies.client`."""
        return self.proxies.client(peer, host_of(peer), headers)

    # --- connections -----------------------------------------------------------------------------------------------

    def hold_connection(self, peer: str) -> Held | Refusal:
        """Count a connection for its address, as long as it lasts; one of a trusted proxy counts for nobody."""
        return self.fairness.hold(self._slots_of(peer))

    def hold_in_crowd(self, peer: str) -> Held | Refusal:
        """Count a connection that is one too many for its address, and is only told so."""
        group = address_group(host_of(peer))
        return self.fairness.hold([] if group is None else [("crowd", group)])

    def _slots_of(self, peer: str) -> list[Slot]:
        host = host_of(peer)
        group = None if self.proxies.trusts(host) else address_group(host)
        return [] if group is None else [("address", group)]

    # --- requests --------------------------------------------------------------------------------------------------

    def arrive(self, address: str) -> Refusal | None:
        """Charge a request that asks for no store to the address it comes from; None when it may go on."""
        return self.fairness.arrival_from(host_of(address), trio.current_time())

    async def admit(
        self, context: HookContext, websocket_of: str | None = None, *, to_store: bool = True
    ) -> Client | Refusal:
        """Decide about one WebSocket or HTTP request.

        Args:
            context: what is known of it.
            websocket_of: for a WebSocket, `host:port` of its socket's other end, which has been counted already: the
                client holds what else it counts for. None for a request.
            to_store: whether it asks for a store; else who it is decides alone, and whoever asked looks at the claims.

        Returns:
            The client, to be released when it ends; or the first refusal, and then nothing is held.
        """
        host = context.client_host
        refusal: Refusal | None = (
            self.pages.refusal(context.headers)
            or (self.store_ids.refusal(context.store_id) if to_store else None)
            or self.fairness.arrival_from(host, trio.current_time())
        )
        if refusal is not None:
            return refusal
        rights = await (self.authentication.check(context) if to_store else self.authentication.identify(context))
        if isinstance(rights, Refusal):
            return rights
        user = None if rights.user is None else rights.user.id
        refusal = self.fairness.arrival_at(user, context.store_id, trio.current_time())
        if refusal is not None:
            return refusal
        held = self.fairness.hold([] if websocket_of is None else self._slots_behind(websocket_of, host, user))
        if isinstance(held, Refusal):
            return held
        meter = self.fairness.meter(user, host, context.store_id)
        return Client(attrs.evolve(context, user=rights.user), rights, meter, self.fairness, held)

    def _slots_behind(self, peer: str, host: str, user: str | None) -> list[Slot]:
        """What a WebSocket counts for besides its socket: its user, and the address that a proxy told."""
        slots: list[Slot] = [] if user is None else [("user", user)]
        group = address_group(host)
        if group is not None and host != host_of(peer):
            slots.append(("address", group))
        return slots
