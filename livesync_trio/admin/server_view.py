"""What the control plane is given of the server: ways in and snapshots of the layers below, never their insides."""

import datetime
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import trio

from livesync_trio.access.admission import Access
from livesync_trio.audit import Audit
from livesync_trio.backups import Backups
from livesync_trio.config import Config, Secret
from livesync_trio.connection.peers import Peers
from livesync_trio.delivery import Webhooks
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import Attempts
from livesync_trio.memory import Budget
from livesync_trio.model import StoreId
from livesync_trio.openapi import wire_time
from livesync_trio.store.handle import StoreHandle
from livesync_trio.store.persistence import BulkWriter
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.telemetry import Counters
from livesync_trio.transport.upgrading import LostUpgrades

if TYPE_CHECKING:
    from livesync_trio.operators.entrance import Entrance

ADMIN_TAILS_MAX_BYTES: Final = 32 * 1024 * 1024
"""History that all tails together hold; a single event may be larger."""

MetricsPage = Callable[[], tuple[bytes, str]]
"""Renders the metrics: body and content type."""


class Recorder(Protocol):
    """Who records what the server does, second by second (`console.recorder`)."""

    streams: int

    def kept(self, after: float) -> Any:
        """What is kept, behind a moment of Unix time, as `series.Series`."""

    def follow(self) -> AsyncGenerator[bytes, None]:
        """Rows as they come, as server-sent events."""


class Reloading(Protocol):
    """What a reload would change, or has changed (`reloading.Reloading`)."""

    @property
    def changed(self) -> list[str]:
        """Settings that take effect at once."""

    @property
    def needs_restart(self) -> list[str]:
        """Settings that differ, but stay as they are."""

    @property
    def problem(self) -> str | None:
        """Why nothing can change; None: nothing is in the way."""


class Reloads(Protocol):
    """Who reads the configuration again (`reloading.Reloader`)."""

    def takes_effect(self, name: str) -> bool:
        """Whether a reload changes a setting."""

    async def look(self) -> Reloading:
        """What a reload would change now."""

    async def reload(self) -> Reloading:
        """Reload."""


UNAVAILABLE: Final = Refusal(Kind.STORAGE_UNAVAILABLE, "The server's database cannot be read at the moment. Try again.")


@attrs.define(eq=False)
class ServerView:
    """The server, as the control plane sees it.

    Attributes:
        config: the configuration in force; asked anew each time, since it may be reloaded.
        engine: name of the storage engine.
        database: where the data is, without secrets; asked anew each time.
        counters: totals since the start.
        health: whether all is well, and what /health says.
        peers: the open WebSockets of this server.
        open_store: gives the handle of a store.
        active: whether a store has an actor in this server now.
        writer: by which a log is written anew.
        readers: reading handles of the control plane's own.
        audit: the record of who did what.
        secret: the admin secret in force.
        trusts: whether an address is that of a proxy which is believed.
        client_address: who really asks, from the address of the socket, its host, and the headers (proxies).
        metrics: renders the metrics; None: there are none.
        webhooks: the webhooks; None: there can be none.
        access: the rules by which clients come in.
        public_url: where clients reach the server, as far as it knows itself; asked anew each time.
        reloads: reads the configuration again.
        backups: the scheduled ones; None: there are none.
        feed: tells how the change feed is; None: there is none.
        recorder: records what the console plots; None: there is no console.
        entrance: how operators get in; None: there are none, since the console is off.
        attempts: wrong secrets so far at its own address, by who sent them.
        public_attempts: those under `/admin` of the public port; apart, so that strangers there keep nobody out here.
        lost_upgrades: WebSocket requests that lost a header on the way.
        started_s: when the server started, on Trio's clock.
        ending: the server has begun to shut down: tails take their leave.
        tails: tails open now, in the order in which they came.
        tails_admitted: how many were let in and have not ended; one of these may not be open yet.
        walks: stores that are being read as a whole (`walking`).
        rewriting: a log is being written anew; one at a time.
        tails_memory: what all tails together may hold of history.
    """

    config: Callable[[], Config]
    engine: str
    database: Callable[[], str]
    counters: Counters
    health: Callable[[], tuple[bool, dict[str, Any]]]
    peers: Peers
    open_store: Callable[[StoreId], StoreHandle]
    active: Callable[[StoreId], bool]
    readers: ThreadReaders
    writer: BulkWriter
    audit: Audit
    secret: Callable[[], Secret | None]
    trusts: Callable[[str], bool]
    client_address: Callable[[str, str, Mapping[str, str]], str]
    metrics: MetricsPage | None = None
    webhooks: Webhooks | None = None
    access: Callable[[], Access] | None = None
    public_url: Callable[[], str] = str
    reloads: Reloads | None = None
    backups: Backups | None = None
    feed: Callable[[], dict[str, Any]] | None = None
    recorder: Recorder | None = None
    entrance: "Entrance | None" = None
    attempts: Attempts = attrs.field(factory=Attempts)
    public_attempts: Attempts = attrs.field(factory=Attempts)
    lost_upgrades: LostUpgrades = attrs.field(factory=LostUpgrades)
    started_s: float = attrs.field(factory=trio.current_time)
    ending: bool = False
    tails: dict["Ending", None] = attrs.field(factory=dict)
    tails_admitted: int = 0
    walks: int = 0
    rewriting: bool = False
    tails_memory: Budget = attrs.field(factory=lambda: Budget(ADMIN_TAILS_MAX_BYTES))

    def end(self) -> None:
        """The server begins to shut down."""
        self.ending = True
        for tail in tuple(self.tails):
            tail.end_soon()


class Ending(Protocol):
    """Somebody who waits."""

    def end_soon(self) -> None:
        """Take leave."""


def moment(at_s: float) -> str:
    """A moment of Trio's clock as the wire writes it, `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    ago = datetime.timedelta(seconds=trio.current_time() - at_s)
    return wire_time(datetime.datetime.now(datetime.UTC) - ago)


def wire_time_of(at: float) -> str:
    """A moment in seconds of the Unix epoch in the same form."""
    return wire_time(datetime.datetime.fromtimestamp(at, datetime.UTC))
