"""Rows for the WebSocket recordings of generation 0.4 (`@livestore/sync-cf` 0.4.0)."""

from __future__ import annotations

from .answers import above_the_head, ahead, closes, done, interrupted, page, pushed, refused, todo
from .changes import Change, after, close_answered, echo, seeded, status, to, without_acks
from .table import Row, better, client_only, same

REFUSED = (401, 403)
SILENCED = "The proxy closes towards both sides; to the server it is the client that leaves."


def answered(conn: int, nth: int, request: str | int) -> Change:
    """A pull of the empty store is answered, where the reference had gone deaf or sent a Defect."""
    return after(conn, nth, page(request), done(request))


def not_taken(conn: int, *answer_to_next: dict[str, object]) -> tuple[Change, ...]:
    """ws-35: push 2 of the case is refused whole, so push 3 meets the empty log and pull 4 finds nothing."""
    return (to(conn, "2", refused("2")), to(conn, "3", *answer_to_next), to(conn, "4", page("4")))


ROWS: dict[str, Row] = {
    "ws-01-connect-no-payload": same(),
    "ws-02-connect-with-payload": same(),
    "ws-03-connect-url-with-path-and-query": same(),
    "ws-04-ping-repeat": same(),
    "ws-05-pull-empty-nonlive": same(),
    "ws-06-pull-empty-live": same(),
    "ws-07-push-1": same(),
    "ws-08-push-100": same(),
    "ws-09-push-250-in-one-call": same(),
    "ws-10-push-args-shapes": better(
        "An event that came without `args` is sent live with null.", deviations=["args-null"]
    ),
    "ws-11-live-fanout": same(),
    "ws-12-pull-with-cursor": better(
        "Who stands above the head of the log that it names has lost events, and starts over (decision 0010). The"
        " reference answers an empty page, upon which a client waits for ever.",
        to(1, "28", above_the_head("28", "_Ml2L3wCy-lfi_IbXTDT3")),
        after(1, 9),
    ),
    "ws-13-pull-1000-nonlive": same(seeded(1)),
    "ws-14-pull-1000-live": same(seeded(1)),
    "ws-15-pull-no-ack-raw": better(
        "The reference sends the next page only after an Ack, and without Acks waits for ever (SPEC 3.3). We send all"
        " pages and the Exit; here no Ack is ever sent.",
        seeded(1),
        without_acks(),
    ),
    "ws-16-size-split-300kB": same(),
    "ws-17-oversize-single-event-client": client_only(
        "The client refuses the oversize event itself; only its Ping reaches the server."
    ),
    "ws-18-oversize-single-event-raw": better(
        "The second pull ends although it is acknowledged only once.", deviations=["held-exit"]
    ),
    "ws-19-oversize-frame-1MiB-raw": same(),
    "ws-20-server-ahead": same(),
    "ws-21-backend-id-mismatch-pull": same(),
    "ws-22-backend-id-mismatch-push": better(
        "Pull 8 has ended: the push after it is not sent to it.", deviations=["late-chunk"]
    ),
    "ws-23-mismatch-and-stale-parent-raw": same(),
    "ws-24-onpush-throws": same(),
    "ws-25-onpull-throws": same(),
    "ws-26-onpush-effect-fail-raw": better(
        "What a plain hook raises is passed on as what an async one does; the reference masks a synchronous throw "
        "(SPEC 3.2).",
        to(2, "1", refused("1", "^effect failure$")),
    ),
    "ws-27-hook-context-raw": better(
        "A request without a payload of its own has that of the URL in its hook's context; the reference's hook sees "
        "none (SPEC 3.6).",
        to(
            1,
            "2",
            refused(
                "2", r'^\{"payload":\{"from":"url"\},"headers":\[\["authorization","Bearer t"\],\["x-demo","1"\]\]'
            ),
        ),
    ),
    "ws-28-auth-failure-real": better(
        "A refused client gets 401 or 403 and a short reason, not 400 and the print of an exception.",
        status((1, 2, 3), *REFUSED),
    ),
    "ws-29-auth-failure-raw": better(
        "A refused client gets 401 or 403 and a short reason, not 400 and the print of an exception.",
        status((1, 2), *REFUSED),
    ),
    "ws-30-bad-query-raw": better(
        "Bad sync parameters are told as 400 instead of 200 and the info page, and an empty storeId is refused (SPEC "
        "7, 0.4 no. 10). A handshake on the HTTP transport is none of its methods.",
        status((2, 3, 5, 6, 7, 10, 11, 14, 15, 16), 400),
        status(8, 400, 405),
    ),
    "ws-31-disabled-transport-raw": better(
        "The recorded worker was told to disable the transport, or had no backend (500, 424). We have no such state: "
        "any path is served.",
        status((1, 2), 101),
    ),
    "ws-32-bad-frames-raw": better(
        "The reference answers with a Defect, which kills every request of the client, or goes deaf without the "
        "client noticing (SPEC 7, 0.4 no. 6 and 7). We refuse a request that can be named by its Exit, and close the "
        "socket for what names none: a client that is closed comes back and is served. Arrays and number ids are "
        "understood (SPEC 4), `headers` of any kind too.",
        [to(conn, "1", refused("1")) for conn in (1, 2, 3)],
        [after(conn, 0, closes()) for conn in (4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 16, 17, 25, 26, 28, 29)],
        answered(10, 0, "7"),
        answered(12, 0, 1),
        answered(21, 0, "23"),
        after(24, 0, closes(1001)),
        after(27, 0, interrupted("78")),
        [answered(conn, 1, "90") for conn in (8, 12, 13, 14, 15, 16, 17, 21, 25, 26, 28)],
        deviations=["held-exit"],
    ),
    "ws-33-binary-frame-raw": better("The pull ends without an Ack.", deviations=["held-exit"]),
    "ws-34-schema-invalid-payload-raw": better(
        "A payload that is not valid is refused with UnknownError; the reference dies (Exit Die, and every refused "
        "pull stays subscribed: SPEC 7, 0.4 no. 5). A pull that does not say whether it is live is not.",
        [
            to(1, str(n), refused(str(n)))
            for n in (1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26)
        ],
        to(1, "2", page("2"), done("2")),
        to(1, "21", pushed("21")),
        to(1, "28", pushed("28")),
    ),
    "ws-35-batch-shape-raw": better(
        "The reference stores batches that are not ascending and chained, and wedges the store (SPEC 7, 0.4 no. 2). "
        "We refuse them whole and the log goes on from the head it had; a number out of range is refused, not died "
        "of.",
        not_taken(3, ahead("3", 0, 1)),
        to(4, "2", refused("2")),
        not_taken(5, ahead("3", 0, 3)),
        to(6, "2", refused("2")),
        to(6, "3", echo("1", "3"), pushed("3")),
        to(6, "4", page("4", todo(1, 0))),
        not_taken(7, ahead("3", 0, -5)),
        to(8, "2", refused("2")),
        to(9, "3", refused("3")),
        to(10, "2", refused("2")),
        to(10, "3", refused("3")),
    ),
    "ws-36-empty-batch-raw": same(),
    "ws-37-interrupt-live-pull-raw": same(),
    "ws-38-storeid-mismatch-raw": better(
        "The reference ignores the storeId inside a request. We refuse a request for another store than the URL's: a "
        "token was checked for that one only, and a client that mixes its stores up would write into the wrong one.",
        to(1, "1", refused("1")),
        to(1, "2", page("2"), done("2")),
        to(1, "3", refused("3")),
        after(1, 4),
        deviations=["held-exit"],
    ),
    "ws-39-request-id-reuse-raw": better(
        "The reference is blocked for ever by an id that is still open (SPEC 7, 0.4 no. 6). An Exit would end the "
        "live pull that owns the id, so the socket is closed: the client pulls again, and its push is served.",
        after(1, 2, closes(1008)),
        to(1, "2", pushed("2")),
    ),
    "ws-40-two-live-pulls-one-socket-raw": better(
        "Pull 3 is not live: the push is not sent to it.", deviations=["late-chunk"]
    ),
    "ws-41-concurrent-push-same-parent": same(),
    "ws-42-push-order-chunk-vs-exit": same(),
    "ws-43-push-during-history-pull-raw": better(
        "The reference sends the new event between two pages of the history and again at its end, which kills the "
        "pull (SPEC 7, 0.4 no. 1). We send every event once, in order.",
        to(1, "2", pushed("2")),
        seeded(1),
    ),
    "ws-44-partial-batch-write-raw": better(
        "The reference stores 14 of 20 events, refuses the batch, and every later push fails: wedged (SPEC 7, 0.4 no."
        " 3). We store nothing of a refused batch, and the correct push is taken.",
        to(1, "1", refused("1")),
        to(1, "2", page("2")),
        to(1, "3", pushed("3")),
        to(1, "4", ahead("4", 1, 14)),
    ),
    "ws-45-interrupt-push-raw": same(),
    "ws-46-interrupt-push-real": same(),
    "ws-47-close-handshake-raw": better(
        "The reference never answers a Close frame (SPEC 7, 0.4 no. 9).", close_answered()
    ),
    "ws-48-pull-then-socket-drop-leaves-no-ghost-raw": same(),
    "ws-49-poison-oversize-event-raw": better(
        "The reference acknowledges an event that it can neither broadcast nor ever read again (SPEC 7, 0.4 no. 4). "
        "An event above the page limit is a page of its own: it is sent live, and the history can be read.",
        to(1, "2", echo("1", "2"), pushed("2")),
        to(1, "4", echo("4", "2", "3"), done("4")),
    ),
    "ws-50-reconnect-after-tcp-drop": client_only(
        "The proxy cuts the line; the client's waiting until it reconnects is not replayed."
    ),
    **{f"ws-51-server-close-{code}": client_only(SILENCED) for code in (1000, 1001, 1011, 1012, 4000)},
    "ws-52-silent-server-ping-timeout": client_only(
        "The proxy hides what the server says; the client gives up and leaves its live pull orphaned on the new "
        "connection. We help it by closing such a connection, but only when it is older than one that pinged and "
        "pulled could be (SPEC 3.6): that is waited for in the connection's own tests under a mock clock, not here.",
    ),
    "ws-53-connection-refused-then-ok": client_only("The proxy refuses two attempts, which never reach the server."),
    "ws-54-push-in-flight-when-dropped": client_only(
        "The proxy cuts the line before the client has seen the Exit of its push."
    ),
    "ws-55-request-while-disconnected": client_only(
        "The proxy cuts the line and refuses an attempt, which never reaches the server."
    ),
    "ws-56-default-ping-interval": client_only(
        "The proxy hides what the server says; 40 s of waiting for Pings are not replayed."
    ),
}
