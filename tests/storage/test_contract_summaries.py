"""What every engine promises about summaries of stores, and about who pushed an event."""

import pytest

from livesync_trio.model import Batch, LogState, StoreId
from livesync_trio.storage.base import Rank, StoreOrder, StoreSummary, rank_of
from tests.storage.making import CREATED_AT, Database, append, chain, run_of

LATER = "2026-12-31T23:59:59.999Z"


def summary(db: Database, store: str) -> StoreSummary:
    found = db.reader.summary(StoreId(store))
    assert found is not None
    return found


def names(db: Database, after: str | None = None, limit: int = 1_000, containing: str = "") -> list[str]:
    behind = None if after is None else StoreId(after)
    return [str(store.store_id) for store in db.reader.stores(behind, limit, containing)]


def size_bytes(*batches: Batch) -> int:
    return sum(batch.size_bytes for batch in batches)


# --- one store ---------------------------------------------------------------------------------------------------


def test_an_empty_store_has_a_birthday_and_nothing_else(db: Database) -> None:
    state = db.open("s")
    found = summary(db, "s")
    assert (found.store_id, found.state, found.text_bytes, found.last_push_at) == ("s", state, 0, None)
    assert found.created_at[:2] == "20"
    assert (found.created_at[10], found.created_at[-1], len(found.created_at)) == ("T", "Z", len(CREATED_AT))


def test_a_store_that_does_not_exist_has_no_summary_and_is_not_made(db: Database) -> None:
    db.open("s\0")
    assert db.reader.summary(StoreId("s")) is None
    assert names(db) == ["s\0"]


def test_a_summary_follows_the_log(db: Database) -> None:
    first, second = run_of(3, args=b'"1"'), run_of(1, after=3, args='"ä"'.encode())
    born = db.open("s")
    created_at = summary(db, "s").created_at
    state = db.append("s", born, first)
    assert summary(db, "s") == StoreSummary(StoreId("s"), state, size_bytes(first), created_at, CREATED_AT)
    state = db.append("s", state, second, created_at=LATER)
    db.restart()
    assert summary(db, "s") == StoreSummary(StoreId("s"), state, size_bytes(first, second), created_at, LATER)


def test_an_append_that_was_refused_leaves_the_summary_alone(db: Database) -> None:
    empty = db.open("s")
    db.append("s", empty, run_of(3))
    before = summary(db, "s")
    db.refused("s", empty, run_of(7))
    db.commit(append("s", before.state, chain(9, after=8), created_at=LATER))
    assert summary(db, "s") == before


def test_a_group_counts_for_each_of_its_stores(db: Database) -> None:
    stores = [f"s{i}" for i in range(12)]
    states = [db.open(store) for store in stores]
    batches = [(run_of(i + 1), run_of(200 * (i % 2) + 1, after=i + 1)) for i in range(12)]
    db.commit(
        *(append(s, state, *run, created_at=LATER) for s, state, run in zip(stores, states, batches, strict=True))
    )
    for store, run in zip(stores, batches, strict=True):
        assert (summary(db, store).text_bytes, summary(db, store).last_push_at) == (size_bytes(*run), LATER)


def test_a_long_append_counts_whole(db: Database) -> None:
    batch = run_of(5_000)
    db.filled("s", batch)
    assert summary(db, "s").text_bytes == batch.size_bytes


def test_a_reset_begins_anew(db: Database) -> None:
    db.filled("s", run_of(5))
    before = summary(db, "s")
    state = db.reset("s")
    found = summary(db, "s")
    assert (found.state, found.text_bytes, found.last_push_at) == (state, 0, None)
    assert found.created_at >= before.created_at
    db.append("s", state, run_of(2))
    assert summary(db, "s").text_bytes == run_of(2).size_bytes


# --- all stores --------------------------------------------------------------------------------------------------

NAMES = ["", "A", "B", "a", "a\0", "a\0b", "a ", "ab", "b", "z", "~", "ä", "€", "\ufb01", "😀"]
"""In ascending order of their UTF-8 bytes; in another one by UTF-16, and in yet another by most collations."""


def test_stores_come_in_the_order_of_their_bytes(db: Database) -> None:
    for name in reversed(NAMES):
        db.open(name)
    assert names(db) == sorted(NAMES, key=str.encode)


def test_pages_of_stores_join_without_gap_or_overlap(db: Database) -> None:
    for name in NAMES:
        db.open(name)
    for limit in (1, 2, 7):
        found: list[str] = []
        while page := names(db, found[-1] if found else None, limit):
            assert len(page) <= limit
            found += page
        assert found == sorted(NAMES, key=str.encode)


def test_the_store_to_begin_behind_need_not_exist(db: Database) -> None:
    for name in ("a", "b", "c"):
        db.open(name)
    assert names(db, "aa") == ["b", "c"]
    assert names(db, "") == ["a", "b", "c"]
    assert names(db, "c") == []


@pytest.mark.parametrize(
    ("containing", "found"),
    [
        ("", ["TEAM-1", "a%b", "a_b", "a\0b", "axb", "team-1", "team-12"]),
        ("team", ["team-1", "team-12"]),
        ("-1", ["TEAM-1", "team-1", "team-12"]),
        ("team-12", ["team-12"]),
        ("a_b", ["a_b"]),
        ("%", ["a%b"]),
        ("\0", ["a\0b"]),
        ("team-123", []),
        ("'", []),
    ],
)
def test_a_search_is_for_this_text_exactly(db: Database, containing: str, found: list[str]) -> None:
    for name in ("team-12", "team-1", "TEAM-1", "a_b", "axb", "a%b", "a\0b"):
        db.open(name)
    assert sorted(names(db, containing=containing)) == sorted(found)


def test_a_search_is_bounded_and_goes_on(db: Database) -> None:
    for i in range(20):
        db.open(f"{'even' if i % 2 == 0 else 'odd'}-{i:02}")
    first = names(db, limit=4, containing="even")
    assert first == ["even-00", "even-02", "even-04", "even-06"]
    assert names(db, first[-1], 9, "even")[:2] == ["even-08", "even-10"]


def test_listed_and_asked_for_alone_a_store_is_the_same(db: Database) -> None:
    for i in range(1, 4):
        db.filled(f"s{i}", run_of(i))
    assert db.reader.stores(None, 9) == [summary(db, f"s{i}") for i in range(1, 4)]


@pytest.mark.parametrize("containing", ["\ud800", "a\udfff"])
def test_a_search_for_what_is_not_unicode_is_refused(db: Database, containing: str) -> None:
    db.open("s")
    with pytest.raises(ValueError, match="surrogates"):
        db.reader.stores(None, 9, containing)
    with pytest.raises(ValueError, match="surrogates"):
        db.reader.stores(StoreId(containing), 9)


@pytest.mark.parametrize(
    ("order", "ranked"),
    [
        ("size", ["long", "twice", "also", "late", "ä", "empty"]),
        ("head", ["twice", "long", "also", "late", "ä", "empty"]),
        ("last push", ["late", "also", "long", "twice", "ä", "empty"]),
    ],
)
def test_stores_are_ranked_page_by_page(db: Database, order: StoreOrder, ranked: list[str]) -> None:
    db.append("long", db.open("long"), run_of(2, args=b'"%b"' % (b"x" * 500)))
    db.append("twice", db.open("twice"), run_of(3))
    for name in ("ä", "also"):
        db.append(name, db.open(name), run_of(1))
    db.append("late", db.open("late"), run_of(1), created_at=LATER)
    db.open("empty")
    found: list[str] = []
    after: Rank | None = None
    while page := db.reader.ranked(order, after, 2):
        found += [store.store_id for store in page]
        after = rank_of(page[-1], order)
    assert found == ranked
    assert [store.store_id for store in db.reader.ranked(order, None, 9, "l")] == [
        each for each in ranked if "l" in each
    ]


def test_with_no_stores_there_is_nothing_to_list(db: Database) -> None:
    assert db.reader.stores(None, 9) == []


# --- who pushed --------------------------------------------------------------------------------------------------


def by(user: str | None, batch: Batch) -> Batch:
    return Batch(batch.events, user)


def users(db: Database, state: LogState, after: int = 0, **limits: int) -> list[str | None]:
    return [event.user for event in db.read(state, after, **limits)]


def test_nobody_is_named_unless_the_batch_names_somebody(db: Database) -> None:
    assert users(db, db.filled("s", run_of(3))) == [None] * 3


def test_each_batch_of_an_append_keeps_its_own_user(db: Database) -> None:
    batches = (
        by("ann", run_of(2)),
        by(None, run_of(1, after=2)),
        by("bob", run_of(1, after=3)),
        by("ann", run_of(1, after=4)),
    )
    state = db.filled("s", *batches)
    db.restart()
    assert users(db, state) == ["ann", "ann", None, "bob", "ann"]
    assert users(db, state, after=2, limit_events=2) == [None, "bob"]
    assert users(db, state, after=3, limit_bytes=1) == ["bob"]


def test_users_of_several_stores_in_one_group_do_not_mix(db: Database) -> None:
    states = [db.open(f"s{i}") for i in range(3)]
    outcomes = db.commit(
        append("s0", states[0], by("zoe", run_of(2))),
        append("s1", states[1], run_of(2)),
        append("s2", states[2], by("yan", run_of(1)), run_of(1, after=1)),
    )
    assert len(outcomes) == 3
    assert [users(db, state) for state in states] == [["zoe"] * 2, [None] * 2, ["yan", None]]


def test_a_long_append_keeps_its_users(db: Database) -> None:
    state = db.filled("s", by("ann", run_of(3_000)), by("bob", run_of(2_000, after=3_000)))
    assert users(db, state, 2_999, limit_events=2) == ["ann", "bob"]


@pytest.mark.parametrize("user", ["a,b", "", "NULL", "ä😀", "x" * 5_000, "'; --", "line\nline", "0x41"])
def test_any_name_of_a_user_comes_back_as_it_is(db: Database, user: str) -> None:
    state = db.filled("s", by(user, run_of(2)))
    assert users(db, state) == [user, user]
    state = db.append("s", state, by(None, run_of(1, after=2)), by("other", run_of(1, after=3)))
    assert users(db, state) == [user, user, None, "other"]


def test_a_user_that_is_not_unicode_fails_alone(db: Database) -> None:
    bad, good = db.open("bad"), db.open("good")
    outcomes = db.commit(append("bad", bad, by("\ud800", run_of(1))), append("good", good, run_of(1)))
    assert isinstance(outcomes[0], ValueError)
    assert (db.state("bad"), db.read(good)[0].user) == (bad, None)
