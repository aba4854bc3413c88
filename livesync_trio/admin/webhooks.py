"""Webhooks: which there are, how far each has delivered, and what an operator does with them.

No answer holds a secret or the value of a header: who has lost them makes new ones.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from livesync_trio.admin.declaring import PAGE, Answer, Caller, Limit, Request, StoreName, Time, refused
from livesync_trio.admin.server_view import ServerView, wire_time_of
from livesync_trio.delivery import Webhooks
from livesync_trio.delivery.messages import Failed, Gone, Taken, Wrong
from livesync_trio.delivery.records import Mode, from_plain
from livesync_trio.errors import Refusal
from livesync_trio.limits import SEQ_NUM_MAX, WEBHOOK_BATCH, WEBHOOK_BATCH_MAX
from livesync_trio.model import StoreId

if TYPE_CHECKING:
    from livesync_trio.delivery.service import Deliveries, Known

WebhookId = Annotated[str, Meta(min_length=1, max_length=64, description="The webhook's `id`.")]


class ListWebhooks(Request, frozen=True):
    """All of them."""


class Webhook(Answer, frozen=True):
    """One webhook; the counts are those of this server since it started."""

    id: str
    url: str
    stores: list[str]
    events: list[str]
    headers: list[str]
    batch: int
    start: Literal["now", "beginning"]
    secrets: int
    source: Literal["configuration", "control plane"]
    mode: str
    delivered: int
    delivered_events: int
    failed: int
    stores_behind: int
    lag_seconds: float
    stores_parked: int


class WebhookPage(Answer, frozen=True):
    """All webhooks, and whether this server is the one that delivers them."""

    webhooks: list[Webhook]
    delivering: bool
    next: None = None


class ListDeliveries(Request, frozen=True):
    """Which webhook."""

    webhook: WebhookId
    after: Annotated[str, Meta(description="Stores whose name comes after this one only; what `next` said.")] = ""
    limit: Limit = PAGE


class Delivery(Answer, frozen=True):
    """How far a store was delivered. `reason` and `nextAt` are of the last attempt, if it failed."""

    store_id: str
    backend_id: str | None
    seq_num: int
    attempts: int
    parked: bool
    next_at: Time | None
    reason: str


class DeliveryPage(Answer, frozen=True):
    """Some stores, and where the next page begins."""

    stores: list[Delivery]
    next: str | None


class DefineWebhook(Request, frozen=True):
    """A webhook as a whole; one of the same `id` is replaced and goes on where it was."""

    id: WebhookId
    url: str
    secret: str
    old_secret: str = ""
    stores: list[str] = msgspec.field(default_factory=lambda: ["*"])
    events: list[str] = msgspec.field(default_factory=lambda: ["*"])
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    batch: Annotated[int, Meta(ge=1, le=WEBHOOK_BATCH_MAX)] = WEBHOOK_BATCH
    start: Literal["now", "beginning"] = "now"

    def __repr__(self) -> str:
        """Without what must not be seen."""
        return f"DefineWebhook({self.id})"


class RemoveWebhook(Request, frozen=True):
    """Which webhook to remove; its id twice."""

    webhook: WebhookId
    confirm: str


class SwitchWebhook(Request, frozen=True):
    """Which webhook to pause, or to let go on."""

    webhook: WebhookId
    on: bool


class TestWebhook(Request, frozen=True):
    """Which webhook to send a test message."""

    webhook: WebhookId


class ReplayWebhook(Request, frozen=True):
    """From where a store is delivered again."""

    webhook: WebhookId
    store_id: StoreName
    after: Annotated[int, Meta(ge=0, le=SEQ_NUM_MAX, description="Events behind this number are sent again.")] = 0


class Done(Answer, frozen=True):
    """It is done; the server that delivers puts it into effect within seconds."""

    webhook: str


class Tested(Answer, frozen=True):
    """What became of a test message."""

    webhook: str
    taken: bool
    told: str


async def list_webhooks(server: ServerView, _asked: ListWebhooks, _caller: Caller) -> WebhookPage | Refusal:
    """The webhooks, those of the configuration and those made at run time."""
    deliveries = _deliveries(server)
    known = await deliveries.known()
    return WebhookPage(webhooks=[_told(deliveries, each) for each in known], delivering=deliveries.delivering)


async def list_deliveries(server: ServerView, asked: ListDeliveries, _caller: Caller) -> DeliveryPage | Refusal:
    """How far a webhook has delivered each store, page by page."""
    deliveries = _deliveries(server)
    try:
        await deliveries.find(asked.webhook)
    except Wrong as wrong:
        return refused(str(wrong))
    found = await deliveries.places(asked.webhook, asked.after or None, asked.limit + 1)
    stores = [
        Delivery(
            store_id=store_id,
            backend_id=cursor.place.backend_id,
            seq_num=cursor.place.seq_num,
            attempts=cursor.place.attempts,
            parked=cursor.place.parked,
            next_at=wire_time_of(cursor.place.next_at) if cursor.place.next_at and not cursor.place.parked else None,
            reason=cursor.place.reason,
        )
        for store_id, cursor in found[: asked.limit]
    ]
    return DeliveryPage(stores=stores, next=stores[-1].store_id if len(found) > asked.limit else None)


async def define_webhook(server: ServerView, asked: DefineWebhook, caller: Caller) -> Done | Refusal:
    """Make a webhook, or change one that was made at run time."""
    webhooks = _webhooks(server)
    plain = msgspec.structs.asdict(asked) | {"old_secret": asked.old_secret or None}
    try:
        webhook = from_plain(plain)
        _record(server, caller, asked.id, "define")
        await webhooks.deliveries().define(webhook)
    except (ValueError, Wrong) as wrong:
        return refused(str(wrong))
    webhooks.want()
    return Done(webhook=asked.id)


async def remove_webhook(server: ServerView, asked: RemoveWebhook, caller: Caller) -> Done | Refusal:
    """Remove a webhook that was made at run time, and how far it had delivered."""
    if asked.confirm != asked.webhook:
        return refused("`confirm` must repeat `webhook`. Nothing was changed.")
    _record(server, caller, asked.webhook, "remove")
    try:
        await _deliveries(server).remove(asked.webhook)
    except Wrong as wrong:
        return refused(str(wrong))
    return Done(webhook=asked.webhook)


async def switch_webhook(server: ServerView, asked: SwitchWebhook, caller: Caller) -> Done | Refusal:
    """Pause a webhook, or let it go on where it was, also after a 410."""
    _record(server, caller, asked.webhook, "switch on" if asked.on else "switch off")
    try:
        await _deliveries(server).switch(asked.webhook, on=asked.on)
    except Wrong as wrong:
        return refused(str(wrong))
    return Done(webhook=asked.webhook)


async def test_webhook(server: ServerView, asked: TestWebhook, caller: Caller) -> Tested | Refusal:
    """Send a test message once, and tell what the receiver says."""
    _record(server, caller, asked.webhook, "test")
    try:
        answer = await _deliveries(server).test(asked.webhook)
    except Wrong as wrong:
        return refused(str(wrong))
    match answer:
        case Taken():
            return Tested(webhook=asked.webhook, taken=True, told=f"it answered {answer.status}")
        case Failed():
            return Tested(webhook=asked.webhook, taken=False, told=answer.reason)
        case Gone():
            return Tested(webhook=asked.webhook, taken=False, told="it answered 410")


async def replay_webhook(server: ServerView, asked: ReplayWebhook, caller: Caller) -> Done | Refusal:
    """Deliver the events of a store behind a number again, also where it was given up."""
    _record(server, caller, asked.webhook, "replay", asked.store_id)
    try:
        await _deliveries(server).replay(asked.webhook, StoreId(asked.store_id), asked.after)
    except Wrong as wrong:
        return refused(str(wrong))
    return Done(webhook=asked.webhook)


def _webhooks(server: ServerView) -> Webhooks:
    assert server.webhooks is not None
    return server.webhooks


def _deliveries(server: ServerView) -> "Deliveries":
    return _webhooks(server).deliveries()


def _record(server: ServerView, caller: Caller, webhook_id: str, did: str, store: str = "") -> None:
    server.audit.record("webhook", store=store, address=caller.address, user=caller.user, webhook=webhook_id, did=did)


def _told(deliveries: "Deliveries", known: "Known") -> Webhook:
    webhook, counts = known.webhook, deliveries.counts(known.webhook.id)
    return Webhook(
        id=webhook.id,
        url=webhook.url.partition("?")[0],
        stores=list(webhook.stores),
        events=list(webhook.events),
        headers=sorted(webhook.headers),
        batch=webhook.batch,
        start=webhook.start,
        secrets=len(webhook.secrets),
        source=known.source,
        mode=str(Mode.STARTING if known.standing is None else known.standing.mode),
        delivered=counts.delivered,
        delivered_events=counts.events,
        failed=counts.failed,
        stores_behind=int(counts.behind()),
        lag_seconds=round(counts.lag_s(), 3),
        stores_parked=counts.parked,
    )
