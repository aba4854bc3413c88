"""Every table that a client can fill has an end, and stands in `docs/hardening.md` with its bound.

The source is searched for containers that live longer than a call. Each is either a row of that page, or is named here
with what fills it instead. A new one fails this test until somebody has thought about it.
"""

from __future__ import annotations

import re
from pathlib import Path

import livesync_trio

PACKAGE = Path(livesync_trio.__file__).parent
PAGE = PACKAGE.parent / "docs" / "hardening.md"
LOOKED_AT = (
    "access",
    "fairness",
    "transport",
    "connection",
    "store",
    "telemetry",
    "admin",
    "operators",
    "delivery",
    "hooks.py",
    "audit.py",
)
CONTAINER = re.compile(
    r"^\s*(?:self\.)?(_?[a-z_]+)(?:: [^=\n]+)? = "
    r"(?:\{\}|\[\]|set\(\)|dict\(\)|Counter\(|deque\(|OrderedDict\(|defaultdict\(|attrs\.field\(factory=(?:dict|set|list|Counter))",
    re.MULTILINE,
)
CACHE = re.compile(r"@functools\.(?:lru_)?cache[^\n]*\n(?:async )?def (\w+)")

TABLES = {
    "fairness/buckets.py _full_at_s": "rates",
    "fairness/buckets.py _known": "wrong tokens",
    "fairness/rules.py _of": "stores used by users",
    "fairness/rules.py _held": "connections held",
    "telemetry/logs.py _periods": "repeated log lines",
    "transport/http.py _shared_text": "texts of headers",
    "connection/peers.py _peers": "open WebSockets",
    "connection/store_peer.py _open": "requests of a connection",
    "connection/store_peer.py _queue": "requests of a connection",
    "connection/outbox.py _messages": "bytes for a peer",
    "transport/websocket.py _fragments": "fragments of a message",
    "transport/websocket.py _control": "pongs for a peer",
    "store/registry.py _actors": "active stores",
    "store/registry.py _crashes": "stores that crashed",
    "store/followers.py members": "followers of a store",
    "store/actor.py _taken": "commands for a store",
    "store/known_log.py ids": "commands for a store",
    "store/mailbox.py _commands": "commands for a store",
    "store/mailbox.py _posters": "requests of a connection",
    "store/history.py _kept": "history kept",
    "store/history.py _ends": "history kept",
    "delivery/queue.py _items": "stores that wait for a webhook",
    "delivery/queue.py _queue": "stores that wait for a webhook",
    "admin/server_view.py tails": "tails",
    "connection/event_stream.py _queue": "tails",
    "connection/plain_session.py _queue": "requests of a connection",
    "admin/serving.py _open": "connections to the control plane",
    "connection/http_rpc.py _queue": "bytes for a peer",
    "transport/websocket.py _unsent": "bytes for a peer",
}
"""Where it is, and its row of the page."""

ELSEWHERE = {
    "keys of an SQLite writer",
    *("stores in the database", "wrong passwords", "operators, their sessions, tokens"),
    "passwords being compared",
}
"""Rows about what is in a storage engine, in the database, or waits in Trio."""

NOT_FILLED_BY_CLIENTS = {
    "audit.py recent": "the last acts, of a fixed number, with the console",
    "telemetry/logs.py _kept": "the last lines, of a fixed number, with the console",
    "admin/declaring.py answer_headers": "a cookie of one answer",
    "admin/web.py _needs": "the routes and pages",
    "access/jwks.py _open": "the connections of one download",
    "access/jwks.py _keys": "the issuer's keys, of at most 1 MiB of JSON",
    "fairness/rules.py slots": "two at most for a connection",
    "transport/arrivals.py _listening": "one for each open WebSocket",
    "transport/arrivals.py _calls": "one for each answer of the writer",
    "connection/peers.py by_generation": "three generations",
    "connection/peers.py _to_remind": "one for each connection of the last second",
    "connection/peers.py _with_work": "open WebSockets again, and answers that follow a store",
    "store/shared.py _stores": "active stores again",
    "store/readers.py _idle": "one for each reader thread",
    "store/writer.py _appends": "commands of active stores, one append for each",
    "store/writer.py _openings": "the same",
    "store/writer.py _underway": "the same",
    "store/writer.py _outgoing": "the same",
    "store/registry.py _on_change": "services of the server",
    "telemetry/counting.py webhooks": "webhooks, which operators make",
    "delivery/service.py _running": "the same",
    "telemetry/counting.py connections_closed": "kinds of `errors.Kind`",
    "telemetry/counting.py refusals": "kinds of `errors.Kind`",
    "telemetry/counting.py storage_errors": "two kinds",
    "telemetry/logs.py _loggers": "modules",
    "telemetry/output.py _outputs": "standard output and standard error",
    "admin/plane.py _listeners": "addresses",
}


def sources() -> list[Path]:
    return [
        path for name in LOOKED_AT for path in ([PACKAGE / name] if "." in name else (PACKAGE / name).rglob("*.py"))
    ]


def containers() -> set[str]:
    """Every container of the source that outlives a call: attributes of objects and modules, and caches."""
    found = set()
    for path in sources():
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(PACKAGE).as_posix()
        for match in CONTAINER.finditer(text):
            line = match[0]
            outlives = "self." in line or "attrs.field" in line or not line.lstrip("\n").startswith(" ")
            if outlives and not line.lstrip().startswith("self._queued"):
                found.add(f"{where} {match[1]}")
        found |= {f"{where} {match[1]}" for match in CACHE.finditer(text)}
    return found


def rows() -> set[str]:
    """First cells of the page's table."""
    section = PAGE.read_text(encoding="utf-8").partition("## Tables that clients fill")[2].partition("\n## ")[0]
    cells = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    return set(cells) - {"table", "---"}


def test_every_table_is_accounted_for() -> None:
    known = TABLES.keys() | NOT_FILLED_BY_CLIENTS.keys()
    assert containers() - known == set(), "who fills it, and where does it end? Then name it here and in hardening.md"
    assert known - containers() == set(), "it is gone: so should its name be"


def test_the_page_lists_what_clients_can_fill() -> None:
    assert rows() == set(TABLES.values()) | ELSEWHERE
