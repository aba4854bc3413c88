"""The screens: each is a path, and a function that asks the control plane's handlers for what it shows.

A screen's URL takes the parameters of the endpoint behind it, so that filters are shared with the address.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs
import msgspec

from livesync_trio.admin import (
    access,
    backups,
    connections,
    events,
    log,
    operators,
    process,
    sessions,
    stores,
    tokens,
    webhooks,
)
from livesync_trio.admin.declaring import Caller, Nothing, Request
from livesync_trio.admin.server_view import ServerView
from livesync_trio.console.formats import differences
from livesync_trio.errors import Kind, Refusal
from livesync_trio.openapi import read_query
from livesync_trio.operators.roles import SCOPES, Right, Role
from livesync_trio.telemetry import LOG_LEVELS, recent_lines

ARGS_SHOWN_MAX_BYTES: Final = 256 * 1024
"""Args that a page shows; longer ones are cut, and offered as they are by the API."""

_R = TypeVar("_R", bound=Request)
_STORE_TABS: Final = ("events", "live", "growth", "sessions", "connections", "actions")
_LOG_TABS: Final = ("log", "audit")


@attrs.frozen
class Shown:
    """What a screen shows.

    Attributes:
        values: for its template.
        connects: origins that the page may connect to, besides its own, for the policy.
        moved: another address that answers instead; None: this one does.
    """

    values: Mapping[str, Any] = attrs.field(factory=dict)
    connects: str = ""
    moved: str | None = None


Show = Callable[[ServerView, Mapping[str, str], Caller], Awaitable[Shown | Refusal]]
"""Makes a screen: the server, the parameters that are not empty, who looks. Raises ValueError for a wrong one."""


def _always(_server: ServerView) -> bool:
    return True


@attrs.frozen
class Screen:
    """One screen.

    Attributes:
        path: below the root of the control plane.
        name: of its template, and of its view.
        label: in the navigation; empty: it is reached from another screen.
        show: makes it.
        there: whether this server has it.
        needs: what one must be allowed to.
    """

    path: str
    name: str
    label: str
    show: Show
    there: Callable[[ServerView], bool] = _always
    needs: Right = Right.LOOK

    @property
    def template(self) -> str:
        """The file that renders it."""
        return f"{self.name}.html"


async def overview(server: ServerView, _given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """How the server is."""
    return Shown({"info": await process.info(server, Nothing(), caller), "public_url": server.public_url()})


async def store_list(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """Stores, page by page."""
    asked = _asked(stores.ListStores, given)
    page = await stores.list_stores(server, asked, caller)
    return page if isinstance(page, Refusal) else Shown({"asked": asked, "page": page})


async def store(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """One store: its events, live or looked up, its sessions and connections, and what can be done with it."""
    found = await stores.show_store(server, _asked(stores.ShowStore, given), caller)
    if isinstance(found, Refusal):
        return found
    tab = given.get("tab", "events" if caller.may(Right.PAYLOADS) else "sessions")
    if tab in ("events", "live") and not caller.may(Right.PAYLOADS):
        return Refusal(Kind.NOT_ALLOWED, "Your role does not see the events of stores.")
    values: dict[str, Any] = {"store": found, "tab": tab if tab in _STORE_TABS else "events", "tabs": _STORE_TABS}
    asked: Any = None
    page: Any = None
    if values["tab"] == "events":
        asked = _asked(events.ListEvents, {"order": "descending", **given})
        page = await events.list_events(server, asked, caller)
        values["users"] = server.config().store_user
    elif values["tab"] == "growth":
        page = await stores.show_growth(server, _asked(stores.AskGrowth, given), caller)
    elif values["tab"] == "sessions":
        asked = _asked(events.ListSessions, given)
        page = await events.list_sessions(server, asked, caller)
    elif values["tab"] == "connections":
        asked = _asked(connections.ListConnections, {**given, "storeId": found.store_id})
        page = await connections.list_connections(server, asked, caller)
    if isinstance(page, Refusal):
        return page
    if values["tab"] == "events":
        values["events"] = [_event(raw) for raw in page.events]
    elif values["tab"] == "growth":
        values["points"] = [(datetime.fromisoformat(one.at).timestamp(), one.events) for one in page.points]
    return Shown({**values, "asked": asked, "page": page})


async def event(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """One event."""
    found = await _one_event(server, given["storeId"], int(given.get("seqNum", "0")), caller)
    return found if isinstance(found, Refusal) else Shown({"event": found, "store_id": given["storeId"]})


async def compare(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """What differs between the args of two events."""
    found = []
    for name in ("a", "b"):
        one = await _one_event(server, given["storeId"], int(given.get(name, "0")), caller)
        if isinstance(one, Refusal):
            return one
        found.append(one)
    rows, more = differences(*(msgspec.json.decode(one["args"]) for one in found))
    return Shown({"store_id": given["storeId"], "a": found[0], "b": found[1], "rows": rows, "more": more})


async def connection_list(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """Who is connected."""
    asked = _asked(connections.ListConnections, given)
    page = await connections.list_connections(server, asked, caller)
    return page if isinstance(page, Refusal) else Shown({"asked": asked, "page": page})


async def connect(server: ServerView, given: Mapping[str, str], _caller: Caller) -> Shown | Refusal:
    """How an app connects, and whether it gets through."""
    url = given.get("url") or server.public_url()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.netloc or set(url) & set(" ;,'\"<>\t\r\n"):
        raise ValueError("the URL of a server begins with https:// or http://")
    tls = parts.scheme in ("https", "wss")
    http, ws = (f"{scheme}{'s' if tls else ''}://{parts.netloc}" for scheme in ("http", "ws"))
    config = server.config()
    values = {
        "url": f"{http}{parts.path.rstrip('/')}",
        "socket_url": f"{ws}{parts.path.rstrip('/')}",
        "store_id": given.get("storeId", "hello"),
        "asks_for_tokens": config.asks_for_tokens,
        "makes_tokens": config.jwt_secret is not None,
        "api": config.api,
    }
    return Shown(values, f" {http} {ws}")


async def access_screen(server: ServerView, _given: Mapping[str, str], _caller: Caller) -> Shown | Refusal:
    """Who may connect and why."""
    config = server.config()
    rules = None if server.access is None else server.access()
    hooks = [] if rules is None else sorted(name for name, hook in _hooks_of(rules) if hook is not None)
    pages = () if rules is None else rules.pages.origins
    return Shown({"config": config, "hooks": hooks, "pages": pages, "hours": access.TOKEN_HOURS_MAX})


async def configuration(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """Every setting."""
    settings = (await process.show_config(server, Nothing(), caller)).settings
    wanted = given.get("containing", "").casefold()
    shown = [
        one
        for one in settings
        if (given.get("only") != "given" or one.origin != "default")
        and (wanted in f"{one.name} {one.env} {one.meaning} {one.group}".casefold())
    ]
    groups: dict[str, list[process.Setting]] = {}
    for one in shown:
        groups.setdefault(one.group, []).append(one)
    reload = await process.look_at_reload(server, Nothing(), caller) if given.get("reload") else None
    return Shown({"groups": groups, "total": len(settings), "reload": reload, "remarks": server.config().remarks})


async def log_screen(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """The last lines of the log, or the last acts."""
    tab = given.get("tab", "log")
    if tab == "audit":
        acts = _asked(log.ListActs, given)
        return Shown({"tab": tab, "tabs": _LOG_TABS, "asked": acts, "page": await log.list_acts(server, acts, caller)})
    asked = _asked(log.ListLog, {"level": "info", **given})
    page = await log.list_log(server, asked, caller)
    components = sorted({line.component for line in recent_lines.newest_first()})
    values = {"tab": "log", "tabs": _LOG_TABS, "asked": asked, "page": page}
    return Shown({**values, "levels": LOG_LEVELS, "components": components})


async def backup_list(server: ServerView, _given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """Scheduled backups."""
    state = await backups.list_backups(server, Nothing(), caller)
    return state if isinstance(state, Refusal) else Shown({"state": state})


async def webhook_list(server: ServerView, given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """Webhooks, and the stores of one that was chosen."""
    page = await webhooks.list_webhooks(server, webhooks.ListWebhooks(), caller)
    deliveries = None
    if "webhook" in given:
        deliveries = await webhooks.list_deliveries(server, _asked(webhooks.ListDeliveries, given), caller)
    refusal = next((each for each in (page, deliveries) if isinstance(each, Refusal)), None)
    return refusal or Shown({"page": page, "deliveries": deliveries})


async def feed(server: ServerView, _given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """The change feed."""
    state = await process.show_feed(server, Nothing(), caller)
    return state if isinstance(state, Refusal) else Shown({"state": state, "table": server.config().feed})


async def operator_list(server: ServerView, _given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """Who may sign in."""
    page = await operators.list_operators(server, Nothing(), caller)
    return page if isinstance(page, Refusal) else Shown({"page": page, "roles": list(Role)})


async def account(server: ServerView, _given: Mapping[str, str], caller: Caller) -> Shown | Refusal:
    """One's own sessions, tokens and password."""
    signed_in = await sessions.list_sign_ins(server, sessions.ListSignIns(), caller)
    if isinstance(signed_in, Refusal):
        return signed_in
    made = await tokens.list_tokens(server, Nothing(), caller)
    scopes = [right for right in SCOPES if caller.may(right)]
    return Shown({"sessions": signed_in.sessions, "tokens": made.tokens, "scopes": scopes})


SCREENS: Final = (
    Screen("/", "overview", "Overview", overview),
    Screen("/stores", "stores", "Stores", store_list),
    Screen("/store", "store", "", store),
    Screen("/store/event", "event", "", event, needs=Right.PAYLOADS),
    Screen("/store/compare", "compare", "", compare, needs=Right.PAYLOADS),
    Screen("/connections", "connections", "Connections", connection_list),
    Screen("/connect", "connect", "Connect an app", connect),
    Screen("/access", "access", "Access", access_screen),
    Screen("/webhooks", "webhooks", "Webhooks", webhook_list, lambda server: server.webhooks is not None),
    Screen("/feed", "feed", "Change feed", feed, lambda server: server.feed is not None),
    Screen("/backups", "backups", "Backups", backup_list, lambda server: server.backups is not None),
    Screen("/configuration", "configuration", "Configuration", configuration),
    Screen("/log", "log", "Log & audit", log_screen),
    Screen("/operators", "operators", "Operators", operator_list, needs=Right.ADMINISTER),
    Screen("/account", "account", "Sessions & tokens", account, needs=Right.ENTER),
)
"""Every screen, in the order of the navigation."""


def _asked(takes: type[_R], given: Mapping[str, str]) -> _R:
    """Of the parameters of a screen, those that an endpoint takes. Raises ValueError."""
    names = {field.encode_name for field in msgspec.structs.fields(takes)}
    try:
        return read_query(takes, {name: [value] for name, value in given.items() if name in names})
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


async def _one_event(server: ServerView, store_id: str, seq_num: int, caller: Caller) -> dict[str, Any] | Refusal:
    page = await events.list_events(
        server, events.ListEvents(store_id=store_id, after=seq_num - 1, limit=1, order="ascending"), caller
    )
    if isinstance(page, Refusal):
        return page
    found = [_event(raw) for raw in page.events]
    if not found or found[0]["seqNum"] != seq_num:
        return Refusal(Kind.NOT_FOUND, f"This store has no event {seq_num}.")
    return found[0]


class _Stored(msgspec.Struct, rename="camel"):
    """A stored event, with its args as they came."""

    seq_num: int
    parent_seq_num: int
    name: str
    client_id: str
    session_id: str
    created_at: str
    args: msgspec.Raw
    user: str | None = None


_stored: Final = msgspec.json.Decoder(_Stored)


def _event(raw: Any) -> dict[str, Any]:
    """An event for a template: its fields, its args as text, how long they are and whether they were cut."""
    try:
        stored = _stored.decode(raw)
    except msgspec.DecodeError:  # half a surrogate pair, which a JavaScript client may send and UTF-8 cannot hold
        whole = json.loads(bytes(raw))
        args_text = json.dumps(whole.pop("args"))
        rest = json.dumps(whole, ensure_ascii=False)[:-1]
        stored = _stored.decode(f'{rest},"args":{args_text}}}'.encode(errors="replace"))
    args = bytes(stored.args)
    shown = args[:ARGS_SHOWN_MAX_BYTES].decode(errors="replace")
    return {
        **{field.encode_name: getattr(stored, field.name) for field in msgspec.structs.fields(_Stored)},
        "args": shown,
        "bytes": len(args),
        "cut": len(args) > ARGS_SHOWN_MAX_BYTES,
    }


def _hooks_of(rules: Any) -> list[tuple[str, Any]]:
    hooks = rules.authentication.hooks.hooks
    return [(field.name, getattr(hooks, field.name)) for field in attrs.fields(type(hooks))]
