"""The table of endpoints, from which routing, reading of requests and the OpenAPI document are made."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from livesync_trio.admin import (
    access,
    altering,
    backups,
    connections,
    events,
    log,
    openapi,
    operators,
    process,
    rewriting,
    sessions,
    stores,
    tail,
    tokens,
    walking,
    webhooks,
)
from livesync_trio.admin.declaring import (
    EVENT_STREAM,
    JSON_LINES,
    Caller,
    Nothing,
    Raw,
    Request,
    Route,
    StoreName,
    Stream,
    refused,
)
from livesync_trio.admin.server_view import ServerView
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import LAST_EVENT_ID_MAX_DIGITS, SEQ_NUM_MAX
from livesync_trio.model import StoreId
from livesync_trio.operators.roles import Right

ADMIN_TAILS_MAX: Final = 64
"""Tails open at the same time; each follows a store and may hold a queue."""


class TailStore(Request, frozen=True):
    """Which store to follow, and from where."""

    store_id: StoreName
    after: (
        Annotated[
            int,
            Meta(ge=-SEQ_NUM_MAX, le=SEQ_NUM_MAX, description="Begin behind this number; at the head when absent."),
        ]
        | UnsetType
    ) = UNSET


async def tail_store(server: ServerView, asked: TailStore, caller: Caller) -> Stream | Refusal:
    """Events as they come, as server-sent events; resumes behind `Last-Event-ID`.

    A tail counts from here on, until its answer has ended: many may be asked for before the first is open.
    """
    after = None if asked.after is UNSET else asked.after
    last = caller.headers.get("last-event-id", "")
    if last:
        if not (last.isascii() and last.isdigit()) or len(last) > LAST_EVENT_ID_MAX_DIGITS or int(last) > SEQ_NUM_MAX:
            return refused("Last-Event-ID is not the number of an event.")
        after = int(last)
    if server.tails_admitted >= ADMIN_TAILS_MAX:
        return Refusal(Kind.TOO_MANY_REQUESTS, f"{ADMIN_TAILS_MAX} tails are open already.")

    def ended() -> None:
        server.tails_admitted -= 1

    server.tails_admitted += 1
    caller.until_answered.callback(ended)
    return await tail.follow(server, StoreId(asked.store_id), after)


async def show_document(_server: ServerView, _asked: Nothing, _caller: Caller) -> Raw:
    """This interface as an OpenAPI 3.1 document."""
    return Raw(msgspec.json.encode(openapi.document(ROUTES)))


ROUTES: Final = (
    Route("GET", "/api/v1/info", process.info),
    Route("GET", "/api/v1/stores", stores.list_stores),
    Route("GET", "/api/v1/store", stores.show_store),
    Route("GET", "/api/v1/store/events", events.list_events, needs=Right.PAYLOADS),
    Route("GET", "/api/v1/store/sessions", events.list_sessions),
    Route("GET", "/api/v1/store/tail", tail_store, EVENT_STREAM, needs=Right.PAYLOADS),
    Route("GET", "/api/v1/store/growth", stores.show_growth),
    Route("GET", "/api/v1/store/verify", walking.verify_store, EVENT_STREAM),
    Route("GET", "/api/v1/store/export", walking.export_store, JSON_LINES, needs=Right.PAYLOADS),
    Route("POST", "/api/v1/store/append", stores.append_test),
    Route("POST", "/api/v1/store/reset", altering.reset_store),
    Route("POST", "/api/v1/store/delete", altering.delete_store),
    Route("POST", "/api/v1/store/rename", altering.rename_store),
    Route("POST", "/api/v1/store/freeze", altering.freeze_store),
    Route("POST", "/api/v1/store/rewind", rewriting.rewind_store),
    Route("POST", "/api/v1/store/erase", rewriting.erase_events),
    Route("GET", "/api/v1/connections", connections.list_connections),
    Route("GET", "/api/v1/connections/lost", connections.list_lost_upgrades),
    Route("POST", "/api/v1/connections/close", connections.close_connection),
    Route("POST", "/api/v1/connections/close/many", connections.close_connections),
    Route("GET", "/api/v1/webhooks", webhooks.list_webhooks),
    Route("GET", "/api/v1/webhooks/deliveries", webhooks.list_deliveries),
    Route("POST", "/api/v1/webhooks/define", webhooks.define_webhook),
    Route("POST", "/api/v1/webhooks/remove", webhooks.remove_webhook),
    Route("POST", "/api/v1/webhooks/switch", webhooks.switch_webhook),
    Route("POST", "/api/v1/webhooks/test", webhooks.test_webhook),
    Route("POST", "/api/v1/webhooks/replay", webhooks.replay_webhook),
    Route("GET", "/api/v1/series", process.show_series, console=True),
    Route("GET", "/api/v1/series/live", process.follow_series, EVENT_STREAM, console=True),
    Route("GET", "/api/v1/log", log.list_log, console=True),
    Route("GET", "/api/v1/audit", log.list_acts, console=True),
    Route("POST", "/api/v1/access/explain", access.explain_access),
    Route("POST", "/api/v1/access/token", access.make_token),
    Route("GET", "/api/v1/backups", backups.list_backups),
    Route("POST", "/api/v1/backups/make", backups.make_backup),
    Route("POST", "/api/v1/backups/cancel", backups.cancel_backup),
    Route("GET", "/api/v1/backups/file", backups.fetch_backup, backups.GZIP, needs=Right.PAYLOADS),
    Route("GET", "/api/v1/feed", process.show_feed),
    Route("GET", "/api/v1/config", process.show_config),
    Route("GET", "/api/v1/config/reload", process.look_at_reload),
    Route("POST", "/api/v1/config/reload", process.reload),
    Route("GET", "/api/v1/openapi.json", show_document),
    Route("GET", "/metrics", process.show_metrics, "text/plain"),
    Route("POST", "/api/v1/login", operators.login, needs=None, console=True),
    Route("POST", "/api/v1/logout", operators.logout, needs=Right.ENTER, console=True),
    Route("POST", "/api/v1/logout/everywhere", operators.logout_everywhere, needs=Right.ENTER, console=True),
    Route("POST", "/api/v1/operators/first", operators.make_first_operator, needs=None, console=True),
    Route("GET", "/api/v1/whoami", operators.who_am_i, needs=Right.ENTER, console=True),
    Route("GET", "/api/v1/operators", operators.list_operators, needs=Right.ADMINISTER, console=True),
    Route("POST", "/api/v1/operators/create", operators.create_operator, needs=Right.ADMINISTER, console=True),
    Route("POST", "/api/v1/operators/role", operators.set_operator_role, needs=Right.ADMINISTER, console=True),
    Route("POST", "/api/v1/operators/password", operators.set_operator_password, needs=Right.ENTER, console=True),
    Route("POST", "/api/v1/operators/remove", operators.remove_operator, needs=Right.ADMINISTER, console=True),
    Route("GET", "/api/v1/operators/sessions", sessions.list_sign_ins, needs=Right.ENTER, console=True),
    Route("POST", "/api/v1/operators/sessions/end", sessions.end_sign_in, needs=Right.ENTER, console=True),
    Route("GET", "/api/v1/tokens", tokens.list_tokens, needs=Right.ENTER, console=True),
    Route("POST", "/api/v1/tokens/create", tokens.create_token, needs=Right.ENTER, console=True),
    Route("POST", "/api/v1/tokens/revoke", tokens.revoke_token, needs=Right.ENTER, console=True),
)
