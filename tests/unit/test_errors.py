"""The table of errors is whole and consistent; `docs/errors.md` is made from it, and tests/bad_input shows it true."""

from __future__ import annotations

import inspect
import logging
import re

import pytest

from livesync_trio import errors
from livesync_trio.errors import RULES, BackendIdMismatch, Kind, LivesyncError, Refusal, ServerAhead, StartupError

ANY_KIND = pytest.mark.parametrize("kind", Kind)

OF_RPC = {"UnknownError", "ServerAheadError", "BackendIdMismatchError"}
"""The errors a client can decode; any other shape kills its request (SPEC 3.2)."""

IN_MESSAGES = {Kind.WRITE_REFUSED}
"""Told by name inside a message, which goes on."""

OF_COMMANDS_TOO = {Kind.STORAGE_UNAVAILABLE, Kind.NO_SUCH_STORE, Kind.ALREADY_THERE}
"""What a server answers, and what a command ends with when it meets the same."""


def test_every_kind_has_a_rule_and_every_rule_a_kind() -> None:
    assert set(RULES) == set(Kind)


@ANY_KIND
def test_a_rule_tells_somebody_something(kind: Kind) -> None:
    rule = RULES[kind]
    assert re.fullmatch(r"[A-Z`].*\.", rule.meaning), rule.meaning
    told = (rule.wire_tag, rule.http_status, rule.close_code, rule.exit_code)
    assert (kind in IN_MESSAGES) ^ any(value is not None for value in told), "nobody would ever be told"
    of_server = rule.exit_code is not None and kind not in OF_COMMANDS_TOO
    assert not of_server or told[:3] == (None, None, None), "a process that ends tells its clients nothing"


@ANY_KIND
def test_the_numbers_are_ones_that_may_be_used(kind: Kind) -> None:
    rule = RULES[kind]
    assert rule.wire_tag is None or rule.wire_tag in OF_RPC
    assert rule.http_status is None or rule.http_status == 200 or 400 <= rule.http_status < 600
    # RFC 6455, 7.4: those of the standard that an endpoint may send, and the ranges for everybody's use.
    may_be_sent = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    assert rule.close_code is None or rule.close_code in may_be_sent
    assert rule.exit_code is None or 1 < rule.exit_code < 126
    assert rule.log_level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def test_exit_codes_tell_kinds_apart() -> None:
    codes = [rule.exit_code for rule in RULES.values() if rule.exit_code is not None]
    assert len(codes) == len(set(codes))


def test_only_typed_errors_have_typed_tags() -> None:
    typed = {kind for kind, rule in RULES.items() if rule.wire_tag not in (None, "UnknownError")}
    assert typed == {Kind.SERVER_AHEAD, Kind.BACKEND_ID_MISMATCH}


@pytest.mark.parametrize(
    "kind",
    [Kind.BAD_FRAME, Kind.BAD_TEXT, Kind.FRAME_TOO_BIG, Kind.PROTOCOL_ERROR, Kind.ID_IN_USE, Kind.BAD_HTTP,
     Kind.BAD_SYNC_URL, Kind.INVALID_BATCH, Kind.INVALID_REQUEST, Kind.UNKNOWN_RPC, Kind.STORE_MISMATCH,
     Kind.UNAUTHENTICATED, Kind.NOT_ALLOWED, Kind.HOOK_REFUSED, Kind.TOO_MANY_REQUESTS, Kind.STALLED],
)  # fmt: skip
def test_a_mistake_of_a_client_is_no_error_of_ours(kind: Kind) -> None:
    assert RULES[kind].log_level < logging.ERROR


@pytest.mark.parametrize(
    "kind", [Kind.STORAGE_UNAVAILABLE, Kind.STORE_FAILED, Kind.STORE_DAMAGED, Kind.INTERNAL, Kind.BAD_CONFIG]
)
def test_trouble_of_ours_is_logged_as_such(kind: Kind) -> None:
    assert RULES[kind].log_level >= logging.ERROR


def test_what_is_retried_is_told_with_a_status_that_says_so() -> None:
    for kind, rule in RULES.items():
        if rule.http_status in (429, 503):
            assert rule.retry, kind
        if rule.http_status in (400, 403, 404, 405, 413, 426, 431):
            assert not rule.retry, kind


def test_refusals_are_values_with_their_rule() -> None:
    assert Refusal(Kind.DRAINING, "x") == Refusal(Kind.DRAINING, "x")
    assert Refusal(Kind.DRAINING, "x").rule is RULES[Kind.DRAINING]
    ahead = ServerAhead.of(head=7, provided=5)
    assert (ahead.kind, ahead.head, ahead.provided) == (Kind.SERVER_AHEAD, 7, 5)
    assert "e7" in ahead.message
    assert "e5" in ahead.message
    mismatch = BackendIdMismatch.of(expected="a", received="b")
    assert (mismatch.kind, mismatch.expected, mismatch.received) == (Kind.BACKEND_ID_MISMATCH, "a", "b")


def test_a_startup_error_carries_its_exit_code() -> None:
    error = StartupError(Kind.CANNOT_LISTEN, "why")
    assert str(error) == "why"
    assert RULES[error.kind].exit_code == 5


def test_the_tree_at_the_top_of_the_exceptions_is_the_real_one() -> None:
    drawn = re.findall(r"^(.*?)(\w+)  +\S", (inspect.getdoc(LivesyncError) or ""), re.MULTILINE)
    names = {name for _, name in drawn}
    real = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, LivesyncError) and value is not LivesyncError
    }
    assert names == real
