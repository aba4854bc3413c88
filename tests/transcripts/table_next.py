"""Rows for the recordings of generation next (LiveStore's repository HEAD, Effect 4)."""

from __future__ import annotations

from .answers import ahead, closes, defect, done, interrupted, pushed, refused
from .changes import after, echo, reply, status, to
from .table import Row, better, client_only, same

PONG = {"_tag": "SyncMessage.Pong"}

ROWS: dict[str, Row] = {
    "http-01-ping": same(),
    "http-02-push-pull": same(),
    "http-03-live-poll": same(),
    "http-04-raw": better(
        "An unknown tag and an invalid payload are refused with UnknownError instead of Die; missing `headers` do not"
        " matter (the reference takes 10 s to answer 500); a body that names no request gets 400 with its Defect.",
        [reply(conn, 400, defect()) for conn in (5, 9)],
        [reply(conn, 200, refused(7)) for conn in (6, 7)],
        reply(8, 200, done(7, PONG)),
    ),
    "ws-01-connect": same(),
    "ws-02-pull-empty": same(),
    "ws-03-push-pull-cursor": same(),
    "ws-04-live-fanout": same(),
    "ws-05-pull-1000": same(),
    "ws-06-server-ahead": same(),
    "ws-07-backend-mismatch": same(),
    "ws-08-hooks-throw": same(),
    "ws-09-args-shapes": better(
        "The reference dies of an event without `args`. It is taken as null here (SPEC 1), so the same event pushed "
        "again meets its own first copy: ServerAheadError, and the client recognises it by content.",
        to(1, 26, echo(25, 27), pushed(26)),
        to(1, 27, ahead(27, 1, 0)),
    ),
    "ws-10-reconnect": client_only(
        "The proxy cuts the line; the client's waiting until it reconnects is not replayed."
    ),
    "ws-11-close-1001": client_only("The proxy closes towards both sides; to the server it is the client that leaves."),
    "ws-12-silent-server": client_only(
        "The proxy hides what the server says; a next client is never closed on purpose (SPEC 4)."
    ),
    "ws-13-auth-failure": better(
        "A refused client gets 401 or 403 and a short reason, not 400 and the name of an error.",
        status((1, 2, 3), 401, 403),
    ),
    "ws-14-raw-frames": better(
        "A request that can be named is refused by its Exit instead of Die; what names none closes the socket instead"
        " of a Defect, which would kill every request, or silence. An Ack or Interrupt for a request that this "
        "connection does not know is answered with an Exit Failure, so that nobody waits for ever (LiveStore #1365).",
        [after(conn, 0, closes()) for conn in (3, 6, 7)],
        [after(conn, 0, refused(7)) for conn in (5, 8)],
        after(10, 0, interrupted(99)),
        after(12, 0, pushed(7)),
        [after(conn, 1, refused(7)) for conn in (3, 6, 7, 10, 13, 14)],
        deviations=["held-exit"],
    ),
}
