"""A log comes in as a whole, as its source has it, or not at all."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from livesync_trio.archive.entries import Broken, Entry
from livesync_trio.archive.staging import STAGED, adopt, stage
from livesync_trio.errors import CommandError
from livesync_trio.limits import LOAD_MAX_EVENTS
from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage.base import OpenStore
from livesync_trio.storage.memory import MemoryEngine
from tests.archive.logs import Opened, plain_log, put
from tests.storage.making import append, run_of

NOTES = StoreId("notes")


class Wavering:
    """A source that gives another answer each time."""

    def __init__(self, *answers: list[Entry]) -> None:
        self._answers = iter(answers)

    def __call__(self) -> Iterator[Entry]:
        return iter(next(self._answers))


CHANGED = [entry._replace(json=entry.json.replace(b'"n":7', b'"n":8')) for entry in plain_log(10)]
OTHER_TIME = [entry._replace(created_at="2026-11-20T13:00:00.000Z") for entry in plain_log(10)]


@pytest.mark.parametrize(
    "again",
    [CHANGED, OTHER_TIME, plain_log(9), plain_log(11), [entry._replace(user="ann") for entry in plain_log(10)]],
)
def test_a_source_that_changes_its_mind_is_refused(again: list[Entry]) -> None:
    with Opened(MemoryEngine()) as target:
        with pytest.raises(Broken, match="when the source is asked again"):
            stage(target, NOTES, Wavering(plain_log(10), again))
        assert target.reader.state(NOTES) is None


def test_what_was_staged_is_gone_on_with(tmp_path: Path) -> None:
    log = plain_log(3 * LOAD_MAX_EVENTS)
    with Opened(tmp_path / "live.db") as target:
        told: list[int] = []

        def stop(events: int) -> None:
            told.append(events)
            if sum(told) > LOAD_MAX_EVENTS:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stage(target, NOTES, lambda: iter(log), stop)
        staged = target.reader.state(StoreId(f"{STAGED}notes"))
        assert staged is not None
        assert staged.event_count == 2 * LOAD_MAX_EVENTS
        told.clear()
        state = stage(target, NOTES, lambda: iter(log), told.append)
        assert told == [2 * LOAD_MAX_EVENTS, LOAD_MAX_EVENTS]
        assert (state.log_id, state.event_count) == (staged.log_id, len(log))


def test_each_event_keeps_its_time_and_its_user() -> None:
    log = [
        entry._replace(user=None if number % 3 else "ann", created_at=f"2026-11-20T12:00:00.{number // 4:03d}Z")
        for number, entry in enumerate(plain_log(40))
    ]
    with Opened(MemoryEngine()) as target:
        state = put(target, "notes", log)
        events = target.reader.read(state, 0, state.head, 100, 10**9)
    assert [(event.created_at, event.user, event.json) for event in events] == [
        (entry.created_at, entry.user, entry.json) for entry in log
    ]
    assert all(before.seq_num < after.seq_num for before, after in pairwise(events))


def test_a_store_that_is_used_meanwhile_stays_as_it_is() -> None:
    with Opened(MemoryEngine()) as target:
        empty = target.one(OpenStore(NOTES))
        assert isinstance(empty, LogState)
        staged = stage(target, NOTES, lambda: iter(plain_log(5)))
        target.one(append("notes", empty, run_of(2)))
        with pytest.raises(CommandError, match="was used while its events came in"):
            adopt(target, NOTES, staged, BackendId("identity"), empty)
        found = target.reader.state(NOTES)
        assert found is not None
        assert found.event_count == 2


def test_whoever_writes_to_a_staged_log_stops_the_import() -> None:
    with Opened(MemoryEngine()) as target:

        def meddle() -> Iterator[Entry]:
            for entry in plain_log(2 * LOAD_MAX_EVENTS):
                if entry.seq_num == LOAD_MAX_EVENTS + 10:
                    staged = target.reader.state(StoreId(f"{STAGED}notes"))
                    assert staged is not None
                    target.one(append(f"{STAGED}notes", staged, run_of(1, after=staged.head)))
                yield entry

        with pytest.raises(CommandError, match="another import"):
            stage(target, NOTES, meddle)
        assert target.reader.state(NOTES) is None
