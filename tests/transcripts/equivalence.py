"""When two servers have said the same thing. This is the one place where that is decided.

Equal must be: for every request the events in order (``args`` byte for byte), that a pull announced its end, how the
request ended (tags and numbers exact), and that no other request was answered. Kept strictly on the live side
(ledger.py): chunks of a request before its Exit, nothing after it, ids echoed with their JSON type, PushAck before
the broadcast on a pushing 0.3 socket, every field a client needs.

Free is, because no client can tell or SPEC leaves it open:

* server identities: bound on first sight, recorded to live, one per store, the same ever after (replay.py);
* ``createdAt``: any text of the right form. Error prose that nobody reads; what a hook said is compared;
* the order of answers to different requests, and of live chunk and push Exit on a pushing 0.4 socket;
* where a history is split into pages, as long as the limits of SPEC 3.5 hold and ``remaining`` counts down correctly;
* when a page comes: the reference waits for Acks, a server need not (SPEC 3.3). Unasked-for Pongs;
* key order, white space outside ``args``, ``fiberId`` and nesting of an Interrupt, the 64 digits of
  ``durableObjectId``;
* ``"value":null`` of a finished pull for 0.4;
* what follows a client's Close: the reference goes on to write Exits into the closing socket, nothing is owed there;
* and always better than recorded: Close frames are answered (SPEC 7, no. 9), CORS on every HTTP answer (no. 8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .ledger import BROADCASTS, Answer, Ledger, Outcome, Page, shorten

PAGE_EVENTS = 100
PAGE_BYTES = 900_000
ENVELOPE_BYTES = 200


def covered(expected: Ledger, actual: Ledger) -> bool:
    """Whether the live server has said at least as much as the recorded one: the condition for the next frame."""
    return actual.pongs >= expected.pongs and all(
        _covered(answer, actual.answers.get(request, Answer())) for request, answer in expected.answers.items()
    )


def _covered(expected: Answer, actual: Answer) -> bool:
    if len(actual.events) < len(expected.events) or len(actual.outcomes) < len(expected.outcomes):
        return False
    return bool(actual.pages) >= bool(expected.pages) and actual.complete >= expected.complete


def differences(expected: Ledger, actual: Ledger) -> Iterator[str]:
    """Every difference that matters, in words; nothing when the ledgers are equivalent."""
    if actual.pongs < expected.pongs:
        yield f"{actual.pongs} Pongs instead of {expected.pongs}"
    for request in sorted(expected.answers.keys() | actual.answers.keys()):
        wanted, given = expected.answers.get(request, Answer()), actual.answers.get(request, Answer())
        for difference in _differences(wanted, given, broadcasts=request == BROADCASTS):
            yield f"request {request}: {difference}"


def _differences(expected: Answer, actual: Answer, *, broadcasts: bool) -> Iterator[str]:
    for index, (wanted, given) in enumerate(zip(expected.events, actual.events, strict=False)):
        if wanted != given:
            yield f"event {index} is {shorten(repr(given))} instead of {shorten(repr(wanted))}"
            break
    if len(expected.events) != len(actual.events):
        yield f"{len(actual.events)} events instead of {len(expected.events)}"
    if bool(expected.pages) != bool(actual.pages) or expected.complete != actual.complete:
        yield f"pages {actual.pages} instead of {expected.pages}"
    if len(expected.outcomes) != len(actual.outcomes) or not all(
        map(_same_outcome, expected.outcomes, actual.outcomes)
    ):
        yield f"ended with {actual.outcomes} instead of {expected.outcomes}"
    yield from _page_faults(actual.pages, broadcasts=broadcasts)


def _same_outcome(expected: Outcome, actual: Outcome) -> bool:
    if (expected.kind, expected.facts) != (actual.kind, actual.facts):
        return False
    if expected.text is None:
        return isinstance(actual.text, str) and bool(actual.text)
    if isinstance(expected.text, re.Pattern):
        return isinstance(actual.text, str) and expected.text.search(actual.text) is not None
    return expected.text == actual.text


def _page_faults(pages: list[Page], *, broadcasts: bool) -> Iterator[str]:
    for page in pages:
        if page.events > PAGE_EVENTS and not broadcasts:
            yield f"a page of {page.events} events"
        if page.events > 1 and page.frame_bytes > PAGE_BYTES + ENVELOPE_BYTES and not broadcasts:
            yield f"a page of {page.frame_bytes} bytes"
    last = next((index for index, page in enumerate(pages) if page.remaining == 0), len(pages) - 1)
    history = pages[: last + 1]
    if not broadcasts and [page.remaining for page in history] != [
        sum(p.events for p in history[i + 1 :]) for i in range(len(history))
    ]:
        yield f"`remaining` does not count down: {history}"
    if not all(page.events for page in (pages if broadcasts else [*history[1:], *pages[last + 1 :]])):
        yield f"an empty page besides the one that answers an empty history: {pages}"
