"""Random commits, upstream batches, rebases, lost acknowledgements and restarts: the tables are the fold of the log."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from livesync_trio.livestore.datafile import DataFile
from livesync_trio.livestore.events import LogEvent
from livesync_trio.livestore.faults import BadEvent, EventFailed, LogReplaced
from livesync_trio.livestore.replica import Replica
from livesync_trio.livestore.tables import Tables

from . import notebook
from .model import Folder, ModelServer

TITLES = st.sampled_from(["a", "b", "c", "ä"])
EVENTS = st.one_of(
    st.builds(notebook.NoteWritten, TITLES),
    st.builds(notebook.NoteTagged, TITLES, st.sampled_from(["x", "y"])),
    st.builds(notebook.NoteStarred, TITLES, st.sampled_from([0.5, -0.0, 1e300])),
    st.builds(notebook.NoteDropped, TITLES),
    st.builds(notebook.AllDropped),
    st.builds(notebook.SettingSet, st.sampled_from(["k", "l"]), st.one_of(st.none(), st.integers(0, 3), TITLES)),
)
BACKEND = "identity"


class Stores(RuleBasedStateMachine):
    """One store, and a server at which others commit as well."""

    @initialize()
    def begin(self) -> None:
        self.schema = notebook.make_schema()
        self.server, self.committed = ModelServer(), list[tuple[str, str]]()
        self.ending = ExitStack()
        self.path = Path(self.ending.enter_context(tempfile.TemporaryDirectory())) / "notes.db"
        self.file: DataFile | None = None
        self.reopen(version="")

    def teardown(self) -> None:
        if getattr(self, "file", None):
            self.file.__exit__()  # type: ignore[union-attr]
            self.ending.close()

    @rule(version=st.sampled_from(["", "", "2"]))
    def reopen(self, version: str) -> None:
        """Another version makes the tables anew."""
        if self.file is not None:
            self.file.__exit__()
        self.schema = notebook.make_schema(version=version)
        self.file = DataFile(self.path, "store", "me", "process")
        self.replica = Replica(self.file, self.schema, Tables(self.file, self.schema, "fail"))
        self.replica.open_tables(lambda done, total: None, rebuild=False)

    @rule(events=st.lists(EVENTS, min_size=1, max_size=3))
    def commit(self, events: list[object]) -> None:
        self.replica.commit(events)
        self.committed += [self.schema.encode(event) for event in events]

    @rule(events=st.lists(EVENTS, min_size=1, max_size=3))
    def others_commit(self, events: list[object]) -> None:
        for event in events:
            name, args = self.schema.encode(event)
            self.server.write(name, args.replace('{"', '{ "'))

    @rule(at_once=st.integers(1, 4), overlap=st.integers(0, 2))
    def pull(self, at_once: int, overlap: int) -> None:
        """A page, which may begin with what is known already."""
        news = [event for event in self.server.log if event.seq_num > self.replica.upstream_head - overlap]
        self.replica.receive(news[: at_once + overlap], BACKEND)

    @rule(limit=st.integers(1, 3), answer_comes=st.booleans())
    def push(self, limit: int, answer_comes: bool) -> None:
        batch, rebases = self.replica.pending_events(limit), self.replica.rebases
        if self.server.push(batch) and answer_comes:
            self.replica.acknowledge(batch, rebases)

    @rule(limit=st.integers(1, 3))
    def push_meets_a_page(self, limit: int) -> None:
        """The acknowledgement comes behind the page that has the events, and those of others behind them."""
        batch, rebases = self.replica.pending_events(limit), self.replica.rebases
        if self.server.push(batch):
            self.server.write(*self.schema.encode(notebook.NoteWritten("late")))
            self.replica.receive([e for e in self.server.log if e.seq_num > self.replica.upstream_head], BACKEND)
            self.replica.acknowledge(batch, rebases)

    @rule()
    def start_over(self) -> None:
        """What is confirmed is forgotten, and comes again; not when the server has, unknown to us, what is pending."""
        mine = sum(event.client_id == "me" for event in self.server.log)
        if mine + self.replica.pending == len(self.committed):
            self.replica.start_over(lambda done, total: None)

    @invariant()
    def tables_are_the_fold_of_the_log(self) -> None:
        assert self.file is not None
        log = read_log(self.file)
        upstream = self.replica.upstream_head
        assert [e for e in log if e.seq_num <= upstream] == [e for e in self.server.log if e.seq_num <= upstream]
        assert [(e.parent_seq_num, e.seq_num) for e in log if e.seq_num > upstream] == [
            (number, number + 1) for number in range(upstream, self.replica.head)
        ]
        assert self.replica.pending == self.replica.head - upstream
        folded = Folder(self.schema).fold(log, notebook.READ)
        assert folded == {table: self.file.connection.execute(sql).fetchall() for table, sql in notebook.READ.items()}

    @invariant()
    def nothing_committed_is_lost_or_doubled(self) -> None:
        assert self.file is not None
        pending = [event for event in read_log(self.file) if event.seq_num > self.replica.upstream_head]
        mine = [(event.name, event.args) for event in self.server.log if event.client_id == "me"]
        unseen = max(0, len(mine) + len(pending) - len(self.committed))
        assert mine + [(event.name, event.args) for event in pending][unseen:] == self.committed


def read_log(file: DataFile) -> list[LogEvent]:
    rows = file.connection.execute(
        "SELECT seq_num, parent_seq_num, name, args, client_id, session_id FROM livesync_log ORDER BY seq_num"
    )
    return [LogEvent._make(row) for row in rows]


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


MakeReplica = Callable[[], Replica]


@pytest.fixture
def file(tmp_path: Path) -> DataFile:  # type: ignore[misc]
    with DataFile(tmp_path / "notes.db", "store", "me", "process") as opened:
        yield opened


@pytest.fixture
def replica(file: DataFile) -> Replica:
    schema = notebook.make_schema()
    made = Replica(file, schema, Tables(file, schema, "fail"))
    made.open_tables(lambda done, total: None, rebuild=False)
    return made


def foreign(seq_num: int, name: str, args: str) -> LogEvent:
    return LogEvent(seq_num, seq_num - 1, name, args, "other", "static")


def test_a_commit_is_applied_as_a_whole_or_not_at_all(replica: Replica, file: DataFile) -> None:
    replica.commit([notebook.NoteWritten("a")])
    with pytest.raises(BadEvent, match=r"v1\.NoteStarred: Expected `float`"):
        replica.commit([notebook.NoteWritten("b"), notebook.NoteStarred("a", None)])  # type: ignore[arg-type]
    with pytest.raises(EventFailed) as failure:
        replica.commit([notebook.NoteWritten("b"), notebook.SettingSet("k", "x" * 50)])
    assert (failure.value.event, failure.value.seq_num) == ("v1.SettingSet", 3)
    assert failure.value.statement is not None
    assert failure.value.statement.startswith("INSERT INTO settings")
    assert (replica.head, file.query("SELECT title FROM notes")) == (1, [{"title": "a"}])


def test_a_log_that_is_another_is_refused(replica: Replica) -> None:
    replica.receive([foreign(1, "v1.NoteWritten", '{"title":"a"}')], BACKEND)
    with pytest.raises(LogReplaced, match="identity"):
        replica.receive([foreign(2, "v1.NoteWritten", '{"title":"b"}')], "another")
    with pytest.raises(LogReplaced, match="event 1"):
        replica.receive([foreign(1, "v1.NoteWritten", '{"title":"b"}')], BACKEND)
    with pytest.raises(LogReplaced, match="behind 3"):
        replica.receive(
            [foreign(3, "v1.NoteWritten", '{"title":"b"}'), foreign(2, "v1.NoteWritten", '{"title":"c"}')], BACKEND
        )
    assert replica.upstream_head == 1
