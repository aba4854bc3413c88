"""Rows for the HTTP recordings of generation 0.4 (`@livestore/sync-cf` 0.4.0)."""

from __future__ import annotations

import re

from .answers import defect, done, page, pushed, refused, todo
from .changes import Change, reply
from .table import Row, better, same

PONG = {"_tag": "SyncMessage.Pong"}


def echoed(payload: str, store: str) -> str:
    """What the hook of the recording said: its context (hooks.py)."""
    return re.escape(f'{{"payload":{payload},"headers":[["authorization","Bearer abc"]],"storeId":"{store}')


def unreadable(conn: int) -> Change:
    """Nothing can be named in this body: 400, with a Defect that the client decodes (SPEC 3.7)."""
    return reply(conn, 400, defect())


ROWS: dict[str, Row] = {
    "http-01-ping-connect": same(),
    "http-02-auto-ping": same(),
    "http-03-pull-empty": same(),
    "http-04-push-1-and-pull-cursor": same(),
    "http-05-push-100-and-250": same(),
    "http-06-pull-1000": same(),
    "http-07-live-poll": same(),
    "http-08-args-shapes": same(),
    "http-09-size-split-300kB": same(),
    "http-10-server-ahead": same(),
    "http-11-backend-id-mismatch": same(),
    "http-12-onpush-throws": better(
        "The reference does not hand the payload of an HTTP push to the hook (SPEC 7, 0.4 no. 8). What a hook refuses"
        " has status 403, for proxies and their logs: the client looks at the body only (SPEC 3.7).",
        reply(1, 403, refused("47", "^push rejected by hook$")),
        reply(2, 403, refused("48", echoed('{"who":"me"}', "s-r251jh"))),
    ),
    "http-13-onpull-throws": better(
        "What a hook refuses has status 403, for proxies and their logs: the client looks at the body only (SPEC 3.7).",
        reply(1, 403, refused("49", "^pull rejected by hook$")),
        reply(2, 403, refused("50", echoed('{"pull":"echo"}', "s-50qi7u"))),
    ),
    "http-14-auth-failure": better(
        "A refused client gets 401 or 403 and a body in which it finds the Exit of its request; the reference's text "
        "of status 400 tells it nothing (SPEC 3.7).",
        [
            reply(conn, (401, 403), refused(request, "^Invalid auth token$"))
            for conn, request in ((1, "51"), (2, "52"), (3, "53"))
        ],
    ),
    "http-15-raw-bad-requests": better(
        "A request that can be named is answered by its Exit, with UnknownError where it is refused; the reference "
        "answers with a Defect, Die or 500. Arrays and number ids are understood (SPEC 4), `headers` may be missing "
        "(SPEC 7, 0.4 no. 8). What names no request gets 400 and a Defect: an empty array, as recorded for a stray "
        "Ack, would leave a client waiting for ever (SPEC 3.7). RPC is a POST: other methods are 405. What is no sync"
        " request is 400, 404 or 405.",
        reply(2, 200, done("1", PONG)),
        reply(3, 200, done("1", PONG), done("2", PONG)),
        reply(4, 200, pushed("1"), page("2", todo(1, 0)), done("2")),
        [unreadable(conn) for conn in (5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 18, 19)],
        [reply(conn, 200, refused("1")) for conn in (11, 12, 22, 23, 24)],
        reply(17, 200, done(1, PONG)),
        [reply(conn, 200, done("1", PONG)) for conn in (20, 21)],
        [reply(conn, 405) for conn in (28, 29, 30)],
        [reply(conn, (400, 404, 405)) for conn in (35, 36, 37, 38, 41)],
        reply(42, (200, 400, 405)),
    ),
    "http-16-raw-batch-shapes": better(
        "The reference stores batches that are not ascending and chained (SPEC 7, 0.4 no. 2). We refuse them whole; "
        "the log stays empty.",
        [reply(conn, 200, refused("1")) for conn in (3, 5, 7)],
        [reply(conn, 200, page("2"), done("2")) for conn in (4, 8)],
    ),
    "http-17-disabled-transport": better(
        "The recorded worker was told to disable the transport, or had no backend (500, 424). We have no such state: "
        "any path is served.",
        [reply(conn, 200, done("1", PONG)) for conn in (1, 2)],
    ),
    "http-18-cors-disabled-preflight": better(
        "The recorded worker had CORS switched off and took a preflight for a sync request. Ours are always answered.",
        [reply(conn, 204) for conn in (1, 2)],
    ),
    "http-19-slow-hook-timeout": same(),
    "http-20-concurrent-push": same(),
}
