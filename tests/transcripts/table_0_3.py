"""Rows for the recordings of generation 0.3 (`@livestore/sync-cf` 0.3.1)."""

from __future__ import annotations

from .answers import ack_v3, error_v3, pong_v3, pulled_v3, todo
from .changes import after, echo, pushed_aside, reply, seeded, status, to
from .table import Row, better, client_only, same

REFUSED = (401, 403)
PARENT = "^Invalid parent event number. Received e{} but expected e{}$".format
RESET_PUSH = "ou8mldxP_gJSRyDbNaoEw"
REJECTED, NEXT_PUSH = "dUB84pkHLQ7sOWwSFK_Xx", "e70tbOJU3-X24TgR4VtgZ"

ROWS: dict[str, Row] = {
    "ws-01-connect-ping": same(),
    "ws-02-connect-no-payload": same(),
    "ws-03-pull-empty": same(),
    "ws-04-push-1": same(),
    "ws-05-push-100-and-300": same(),
    "ws-06-pull-with-cursor": same(seeded(1)),
    "ws-07-pull-paginated": same(seeded(1, 2)),
    "ws-08-push-conflict": same(),
    "ws-09-empty-batch": same(),
    "ws-10-broadcast-order": same(),
    "ws-11-broadcast-without-pull-raw": same(),
    "ws-12-push-before-pull-stash": same(),
    "ws-13-admin-info": same(),
    "ws-14-admin-reset": better(
        "The reference clears only the stored head: the events stay and so does the head in memory (SPEC 7, 0.3 no. "
        "4). After our reset the log is empty: a pull finds nothing, a push on the old head is refused, one from the "
        "root is taken.",
        to(2, "q1", pulled_v3("q1")),
        to(1, RESET_PUSH, error_v3(RESET_PUSH, PARENT(3, 0))),
        to(2, "p9", ack_v3("p9"), echo(None, "p9"), elsewhere=[(1, echo(None, "p9"))]),
    ),
    "ws-15-invalid-messages-raw": better(
        "A Ping is parsed, so member order and white space do not matter (SPEC 5.3). A request that names itself but "
        "is not valid is answered with an Error instead of silence (a client has no timeout and would hang); a null "
        "cursor counts as none. What names no request is ignored, as recorded.",
        [after(conn, 0, error_v3("x")) for conn in (9, 11, 13, 14, 15)],
        after(10, 0, pulled_v3("x")),
        [after(conn, 0, pong_v3()) for conn in (18, 19)],
    ),
    "ws-16-binary-frame-raw": same(),
    "ws-17-auth-failure": better(
        "A refused client gets 401 or 403 and a short reason, not 400 and the print of an exception.",
        status(range(1, 7), *REFUSED),
    ),
    "ws-18-http-surface-raw": better(
        "Bad sync parameters are the client's mistake: 400, not 500 and a schema; an empty storeId is refused as a "
        "missing one is; what is no sync request is 404 or 405 where it is not the page at `/`; a refused client gets"
        " 401 or 403.",
        reply(3, 400),
        reply(6, (400, 404)),
        reply(7, (400, 404, 405)),
        reply(8, (200, 400, 405)),
        reply(12, (400, 404)),
        status((13, 14, 15, 18, 19), 400),
        status(16, *REFUSED),
        status(22, 400, 404),
    ),
    "ws-19-reconnect": client_only(
        "The proxy cuts the line and refuses three attempts: not replayed. e2 and e3 are pushed by somebody the "
        "recording does not show.",
        pushed_aside("e2 was pushed", "o1", todo(2, 1)),
        pushed_aside("after reconnect saw", "o2", todo(3, 2)),
    ),
    **{
        f"ws-20-server-close-{code}": client_only(
            "The proxy closes towards both sides; to the server it is the client that leaves."
        )
        for code in (1000, 1001, 1011, 4000)
    },
    "ws-21-silent-server": client_only(
        "The proxy hides everything the server says after a while, for 42 s: the waiting is not replayed."
    ),
    "ws-22-push-in-flight-dropped": client_only("The proxy cuts the line before the client has seen the PushAck."),
    "ws-23-onpush-throws": better(
        "The reference's Error carries a stack trace (SPEC 7, 0.3 no. 6) and its push lock is never released, so that"
        " the next push hangs (no. 3). We pass the hook's message on and serve the next push.",
        after(1, 1, pong_v3(), error_v3(REJECTED, "^push rejected by hook$")),
        to(1, NEXT_PUSH, ack_v3(NEXT_PUSH), echo(None, NEXT_PUSH)),
    ),
    "ws-24-onpull-throws": better(
        "The Error carries the hook's message without the reference's stack trace (SPEC 7, 0.3 no. 6).",
        after(1, 1, pong_v3(), error_v3("VTnY3RyihwOuuiVpIoWG1", "^pull rejected by hook$")),
    ),
    "ws-25-args-shapes": better("An event that came without `args` is broadcast with null.", deviations=["args-null"]),
    "ws-26-batch-shapes-raw": better(
        "The reference stores and broadcasts batches that are not ascending and chained, some of them half (SPEC 7, "
        "0.3 no. 5 and no. 1). We refuse them whole: the log stays empty, and the push that follows is told so.",
        [
            change
            for conn, parent in ((3, 2), (4, 1), (5, 2), (6, -5))
            for change in (
                to(conn, "p1", error_v3("p1")),
                to(conn, "p2", error_v3("p2", PARENT(parent, 0))),
                to(conn, "q1", pulled_v3("q1")),
            )
        ],
    ),
    "ws-27-concurrent-push": same(),
    "ws-28-store-id-collision-raw": better(
        "The reference turns `a-b` and `a_b` into one table: one store reads the other's events and loses its own "
        "(SPEC 7, 0.3 no. 2). Store ids are compared byte for byte here: the second store is empty, and its push "
        "succeeds.",
        to(2, "q1", pulled_v3("q1")),
        to(2, "p2", ack_v3("p2"), echo(None, "p2")),
    ),
    "ws-29-large-push": same(),
    "ws-30-two-pulls-same-backend": same(),
}
