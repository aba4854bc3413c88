"""What every engine promises about reading: byte for byte, bounded, never from a log that was replaced."""

import json
import uuid

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from livesync_trio.errors import LogReplaced
from livesync_trio.model import BackendId, Batch, Event, LogState, StoredEvent
from tests.storage.making import Database, chain, event_json, run_of, stored

ARGS = {
    "huge integer": b"123456789012345678901234567890",
    "more digits than a double has": b"0.1000000000000000055511151231257827",
    "exponents": b"[1e21,1E+400,-0.0,-0,1.0,1.50]",
    "order of keys": b'{"z":1,"a":2,"\xc3\xa4":3,"A":4}',
    "duplicate keys": b'{"a":1,"a":2,"a":1}',
    "escaped U+0000": b'"\\u0000 and \\u0001"',
    "escaped lone surrogates": b'"\\ud83d \\udc00"',
    "escaped pair": b'"\\ud83d\\ude00"',
    "U+2028, U+2029, U+FEFF": '"\u2028\u2029\ufeff"'.encode(),
    "beyond the BMP": '"😀𝒳"'.encode(),
    "NFC and NFD": '["\u00e9","e\u0301"]'.encode(),
    "white space": b'{ "a" :\t[ 1 ,\r\n 2 ] }',
    "solidus both ways": b'"\\/ /"',
    "quotes of SQL": b'"\'; DROP TABLE livesync_7_events; --"',
    "separators of pages": b'"a,b|c\\u001e\\u001f"',
    "nesting": b"[" * 2_000 + b"]" * 2_000,
    "empty": b'""',
}


@pytest.mark.parametrize("args", ARGS.values(), ids=ARGS)
def test_args_come_back_byte_for_byte(db: Database, args: bytes) -> None:
    batches = chain(1, args=args), chain(2, 3, after=1, args=args)
    state = db.filled("s", *batches)
    assert db.read(state) == stored(batches)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(), min_size=1, max_size=6), plain=st.booleans())
@example(texts=["\x7f", "\x00", "\u2028"], plain=False)
def test_any_text_comes_back_byte_for_byte(db: Database, texts: list[str], plain: bool) -> None:
    args = [json.dumps(text, ensure_ascii=not plain).encode() for text in texts]
    batch = Batch(tuple(Event(i, i - 1, event_json(i, i - 1, each)) for i, each in enumerate(args, 1)))
    store = uuid.uuid4().hex
    assert db.read(db.filled(store, batch)) == stored([batch])


def test_a_large_event_comes_back_byte_for_byte(db: Database) -> None:
    batch = chain(1, args=b'"%b"' % (b"0123456789abcdef" * 200_000))
    state = db.filled("s", batch)
    assert db.read(state) == stored([batch])


# --- ranges ------------------------------------------------------------------------------------------------------


@pytest.fixture
def gaps(db: Database) -> LogState:
    """A log with the numbers 10, 20, 21, 30."""
    return db.filled("s", chain(10, 20), chain(21, 30, after=20))


@pytest.mark.parametrize(
    ("after", "up_to", "numbers"),
    [
        (0, 30, [10, 20, 21, 30]),
        (0, 2**53 - 1, [10, 20, 21, 30]),
        (-(2**53) + 1, 30, [10, 20, 21, 30]),  # a client may send any cursor
        (10, 30, [20, 21, 30]),
        (11, 29, [20, 21]),  # neither end exists
        (9, 10, [10]),
        (20, 21, [21]),
        (30, 30, []),
        (30, 2**53 - 1, []),
        (2**53 - 1, 30, []),
        (21, 20, []),
        (0, 9, []),
    ],
)
def test_a_range_excludes_its_start_and_includes_its_end(
    db: Database, gaps: LogState, after: int, up_to: int, numbers: list[int]
) -> None:
    assert db.numbers(gaps, after, up_to) == numbers


def test_ordinals_count_from_the_beginning_wherever_reading_starts(db: Database, gaps: LogState) -> None:
    assert [event.ordinal for event in db.read(gaps, after=20)] == [3, 4]


def test_an_empty_log_has_no_events(db: Database) -> None:
    assert db.read(db.open("s")) == []


def test_only_the_number_of_the_log_matters(db: Database, gaps: LogState) -> None:
    assert db.numbers(attrs.evolve(gaps, head=0, event_count=0, backend_id=BackendId("?"))) == [10, 20, 21, 30]


def test_what_was_appended_later_is_within_a_later_range_only(db: Database, gaps: LogState) -> None:
    later = db.append("s", gaps, chain(31, after=30))
    assert db.numbers(gaps, 20, gaps.head) == [21, 30]
    assert db.numbers(gaps, 20, later.head) == [21, 30, 31]


def test_logs_of_stores_do_not_mix(db: Database) -> None:
    one, two = db.filled("one", run_of(3, args=b"1")), db.filled("two", run_of(5, args=b"2"))
    one = db.append("one", one, run_of(2, after=3, args=b"1"))
    assert db.read(one) == stored([run_of(5, args=b"1")]) != db.read(two)
    assert db.read(two) == stored([run_of(5, args=b"2")])


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "given"), [(1, 1), (2, 2), (9, 9), (10, 10), (11, 10)])
def test_at_most_so_many_events(db: Database, limit: int, given: int) -> None:
    state = db.filled("s", run_of(10))
    assert db.numbers(state, limit_events=limit) == list(range(1, given + 1))


def test_pages_join_without_gap_or_overlap(db: Database) -> None:
    batch = run_of(25)
    state = db.filled("s", batch)
    events: list[StoredEvent] = []
    while page := db.read(state, after=events[-1].seq_num if events else 0, limit_events=4):
        events += page
    assert events == stored([batch])


@pytest.mark.parametrize(
    ("limit", "given"),
    [
        (0, 1),  # the first one is always given
        (1, 1),
        (299, 1),
        (300, 1),
        (599, 1),
        (600, 2),
        (601, 2),
        (899, 2),
        (900, 3),
        (3_000, 10),
        (3_001, 10),
    ],
)
def test_reading_stops_before_the_event_that_exceeds_the_bytes(db: Database, limit: int, given: int) -> None:
    args = b'"%b"' % (b"x" * (300 - len(event_json(1, 0, b'""'))))
    state = db.filled("s", *(chain(i, after=i - 1, args=args) for i in range(1, 10)), _sized(10, 300))
    assert {len(event.json) for event in db.read(state)} == {300}
    assert len(db.read(state, limit_bytes=limit)) == given


def _sized(seq_num: int, size_bytes: int) -> Batch:
    empty = event_json(seq_num, seq_num - 1, b'""')
    return chain(seq_num, after=seq_num - 1, args=b'"%b"' % (b"x" * (size_bytes - len(empty))))


def test_bytes_are_counted_not_characters(db: Database) -> None:
    args = '"ääää"'.encode()
    state = db.filled("s", run_of(4, args=args))
    assert len(db.read(state, limit_bytes=2 * len(event_json(1, 0, args)))) == 2


def test_a_single_event_above_the_limit_is_given_alone(db: Database) -> None:
    state = db.filled("s", _sized(1, 200), _sized(2, 5_000), _sized(3, 200))
    assert db.numbers(state, after=0, limit_bytes=1_000) == [1]
    assert db.numbers(state, after=1, limit_bytes=1_000) == [2]
    assert db.numbers(state, after=2, limit_bytes=1_000) == [3]


def test_both_limits_hold_at_once(db: Database) -> None:
    state = db.filled("s", *(_sized(i, 500) for i in range(1, 7)))
    assert db.numbers(state, limit_events=2, limit_bytes=2_000) == [1, 2]
    assert db.numbers(state, limit_events=5, limit_bytes=2_000) == [1, 2, 3, 4]


# --- logs that are gone ------------------------------------------------------------------------------------------


def test_a_replaced_log_is_not_read_whether_its_rows_are_still_there_or_not(db: Database) -> None:
    old = db.filled("s", run_of(10))
    db.reset("s")
    for _ in range(2):
        with pytest.raises(LogReplaced):
            db.read(old)
        with pytest.raises(LogReplaced):
            db.read(old, limit_bytes=0)
        db.writer.clear_replaced(1_000)


def test_a_replaced_log_is_not_read_even_where_nothing_is_asked_of_it(db: Database) -> None:
    old = db.open("s")
    db.reset("s")
    with pytest.raises(LogReplaced):
        db.read(old, after=5, up_to=5)


def test_the_state_of_an_unknown_store_is_none_and_asking_does_not_create_it(db: Database) -> None:
    assert db.state("s") is None
    assert db.state("s") is None
