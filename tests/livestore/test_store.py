"""A store on Trio, with a server in memory: syncing, rebasing, waiting, watching, stopping."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from livesync_trio.client import InvalidPush
from livesync_trio.livestore import (
    BadEvent,
    BadQuery,
    EventFailed,
    LogReplaced,
    Store,
    StoreClosed,
    StoreError,
    StoreInUse,
    StoreStopped,
    Unknown,
    UnknownEvent,
    WrongFile,
    open_store,
)

from . import notebook
from .memory_server import MemoryServer
from .notebook import NoteDropped, NoteStarred, NoteWritten, SettingSet

ROOT = Path(__file__).resolve().parents[2]
TITLES = "SELECT title FROM notes ORDER BY id"


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


def opened(
    server: MemoryServer | None, path: Path | str = ":memory:", **options: Any
) -> AbstractAsyncContextManager[Store]:
    backend = None if server is None else server.open()
    return open_store(path, notebook.make_schema(), store_id="s", backend=backend, **options)


def titles(store: Store) -> list[str]:
    return [row["title"] for row in store.query(TITLES)]


async def test_two_stores_converge_through_offline_work(
    autojump_clock: MockClock, server: MemoryServer, tmp_path: Path
) -> None:
    async with opened(server, tmp_path / "a.db") as anna, opened(server, tmp_path / "b.db") as ben:
        anna.commit(NoteWritten("a"), SettingSet("k", 1))
        await anna.synced()
        await trio.sleep(1)
        assert titles(ben) == ["a"]
        server.cut()
        anna.commit(NoteWritten("b"), SettingSet("k", 2))
        ben.commit(NoteWritten("c"), NoteDropped("a"), SettingSet("k", 3))
        assert (titles(anna), titles(ben)) == (["a", "b"], ["c"])
        await trio.sleep(3600)
        assert (anna.sync_status.pending, ben.sync_status.pending) == (2, 3)
        server.restore()
        await anna.synced()
        await ben.synced()
        await trio.sleep(1)
        for sql in notebook.READ.values():
            assert anna.query(sql) == ben.query(sql)
        assert len(server.log) == 7
        assert sorted(titles(anna)) == ["b", "c"]
        status = ben.sync_status
        assert (status.head, status.upstream_head, status.pending, status.last_error) == (7, 7, 0, None)


async def test_an_acknowledgement_that_is_lost_is_made_up_for_by_the_pull(
    autojump_clock: MockClock, server: MemoryServer
) -> None:
    server.lost_answers = 1
    async with opened(server) as store:
        store.commit(NoteWritten("a"))
        await store.synced()
        store.commit(NoteWritten("b"))
        await store.synced()
    assert [event.args for event in server.log] == [b'{"title":"a"}', b'{"title":"b"}']


async def test_a_long_history_is_applied_with_what_is_pending_behind_it(
    autojump_clock: MockClock, server: MemoryServer
) -> None:
    for number in range(450):
        server.write("v1.NoteWritten", b'{"title":"%d"}' % number)
    async with opened(server) as store:
        store.commit(NoteWritten("mine"))
        await store.synced()
        assert titles(store)[-1] == "mine"
        assert store.sync_status.head == 451
    assert server.pushes[-1] == 1


async def test_pushes_have_at_most_fifty_events(autojump_clock: MockClock, server: MemoryServer) -> None:
    server.cut()
    async with opened(server) as store:
        store.commit(*[NoteWritten(str(number)) for number in range(120)])
        server.restore()
        await store.synced()
    assert server.pushes == [50, 50, 20]


async def test_what_is_pending_outlives_the_program(
    autojump_clock: MockClock, server: MemoryServer, tmp_path: Path
) -> None:
    server.cut()
    async with opened(server, tmp_path / "a.db", client_id="anna") as store:
        store.commit(NoteWritten("a"))
    server.restore()
    server.write("v1.NoteWritten", b'{"title":"first"}')
    async with opened(server, tmp_path / "a.db") as store:
        assert titles(store) == ["a"]
        await store.synced()
        assert (titles(store), store.client_id) == (["first", "a"], "anna")
    assert [event.client_id for event in server.log] == ["other", "anna"]
    assert server.log[1].session_id


async def test_a_refused_push_is_told_and_tried_again(autojump_clock: MockClock, server: MemoryServer) -> None:
    server.refusal = InvalidPush("no more than 3 notes")
    async with opened(server) as store:
        store.commit(NoteWritten("a"))
        await trio.sleep(100)
        status = store.sync_status
        assert (status.pending, status.last_error) == (1, "no more than 3 notes")
        assert 5 <= len(server.pushes) <= 8
        server.refusal = None
        await store.synced()
        assert store.sync_status.last_error is None


# --- queries --------------------------------------------------------------------------------------------------------


async def test_a_query_runs_again_only_when_a_table_it_reads_has_changed(
    autojump_clock: MockClock, server: MemoryServer
) -> None:
    async with opened(server) as store:
        seen: list[list[dict[str, Any]]] = []
        rows = store.watch("SELECT * FROM starred")
        seen.append(await anext(rows))
        store.commit(SettingSet("k", 1))
        store.commit(NoteStarred("nobody", 1.0))
        await store.synced()
        with trio.move_on_after(60) as nothing:
            await anext(rows)
        assert nothing.cancelled_caught
        rows = store.watch("SELECT * FROM starred")
        seen.append(await anext(rows))
        store.commit(NoteWritten("a"))
        seen.append(await anext(rows))
        store.commit(NoteStarred("a", 1.0))
        store.commit(NoteWritten("b"))
        seen.append(await anext(rows))
        await store.synced()
        server.write("v1.NoteStarred", b'{"title":"b"}')
        seen.append(await anext(rows))
        assert seen == [[], [], [], [{"title": "a"}], [{"title": "a"}, {"title": "b"}]]


async def test_a_rebase_wakes_the_queries_whose_tables_it_has_changed(
    autojump_clock: MockClock, server: MemoryServer
) -> None:
    server.cut()
    async with opened(server) as store:
        store.commit(SettingSet("k", 1))
        settings = store.watch("SELECT * FROM settings")
        await anext(settings)
        server.restore()
        server.write("v1.SettingSet", b'{"key":"l"}')
        assert [row["key"] for row in await anext(settings)] == ["l", "k"], "as the log has them"


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM notes",
        "SELECT 1; SELECT 2",
        "PRAGMA user_version = 3",
        "SELECT * FROM nowhere",
        "COMMIT",
        "nonsense",
    ],
)
async def test_a_query_only_reads(sql: str) -> None:
    async with opened(None) as store:
        store.commit(NoteWritten("a"))
        for ask in (store.query, store.watch):
            with pytest.raises(BadQuery):
                ask(sql)
        with pytest.raises(BadQuery):
            store.query("SELECT * FROM notes WHERE id = ?", ())
        assert titles(store) == ["a"]


async def test_events_come_in_their_final_order_once_the_server_has_them(
    autojump_clock: MockClock, server: MemoryServer
) -> None:
    server.write("v1.NoteWritten", b'{"title":"first"}')
    server.write("v9.Strange", b"[1]")
    async with opened(server, on_unknown="ignore") as store:
        store.commit(NoteWritten("mine"))
        events = store.events(after=1)
        strange, mine = await anext(events), await anext(events)
        assert (strange.seq_num, strange.event, strange.args) == (2, None, "[1]")
        assert (mine.seq_num, mine.event, mine.client_id) == (3, NoteWritten("mine"), store.client_id)
        server.reset()
        with trio.move_on_after(60), pytest.raises(StoreStopped):
            await anext(events)


# --- what goes wrong ------------------------------------------------------------------------------------------------


async def test_a_materializer_that_fails_at_a_rebase_stops_the_store_and_loses_nothing(
    autojump_clock: MockClock, server: MemoryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.db"

    def strict(*, repaired: bool) -> Any:
        schema = notebook.make_schema(version="2" if repaired else "1")

        @schema.materializer(NoteStarred)
        def only_once(event: NoteStarred) -> Any:
            return "INSERT INTO settings VALUES (?, 1)" + (" ON CONFLICT DO NOTHING" if repaired else ""), (
                event.title,
            )

        return schema

    server.cut()
    async with open_store(path, strict(repaired=False), store_id="s", backend=server.open()) as store:
        store.commit(NoteWritten("mine"), NoteStarred("k", 1.0))
        server.write("v1.SettingSet", b'{"key":"k"}')
        server.restore()
        with pytest.raises(StoreStopped) as stopped:
            await store.synced()
        cause = stopped.value.cause
        assert isinstance(cause, EventFailed)
        assert (cause.event, cause.seq_num, cause.arguments) == ("v1.NoteStarred", 3, '{"title":"k","stars":1.0}')
        assert cause.statement == "INSERT INTO settings VALUES (?, 1)"
        assert "v1.NoteStarred" in str(stopped.value)
        with pytest.raises(StoreStopped):
            store.commit(NoteWritten("too late"))
        with pytest.raises(StoreStopped):
            await anext(store.watch(TITLES))
        assert "v1.NoteStarred" in (store.sync_status.last_error or "")
        assert titles(store) == ["mine"], "as it was before"
    assert "has stopped" in caplog.text
    async with open_store(path, strict(repaired=True), store_id="s", backend=server.open()) as store:
        await store.synced()
        assert [event.name for event in server.log] == ["v1.SettingSet", "v1.NoteWritten", "v1.NoteStarred"]


async def test_unknown_events(
    autojump_clock: MockClock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    met: list[Unknown] = []
    for _ in range(2):
        server.write("v9.Strange", b'{"a": 1.0}')
    async with opened(server, on_unknown="fail") as store:
        with pytest.raises(StoreStopped) as stopped:
            await store.synced()
        assert isinstance(stopped.value.cause, UnknownEvent)
    assert "v9.Strange" in caplog.text
    caplog.clear()
    async with opened(server, on_unknown=met.append) as store:
        await store.synced()
        assert met == [Unknown(1, "v9.Strange", '{"a": 1.0}'), Unknown(2, "v9.Strange", '{"a": 1.0}')]
        assert store.query("SELECT args FROM livesync_log")[1] == {"args": '{"a": 1.0}'}
    async with opened(server, on_unknown="ignore") as store:
        await store.synced()
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        async with opened(server, on_unknown="warn") as store:
            await store.synced()
    assert [record.getMessage() for record in caplog.records] == [
        "no event 'v9.Strange' is declared; such events change no table"
    ]


async def test_arguments_that_do_not_fit_stop_the_store(autojump_clock: MockClock, server: MemoryServer) -> None:
    server.write("v1.NoteWritten", b'{"title": 7}')
    async with opened(server) as store:
        with pytest.raises(StoreStopped, match=r"event 1 \(v1\.NoteWritten\)"):
            await store.synced()


async def test_arguments_are_read_tolerantly(autojump_clock: MockClock, server: MemoryServer) -> None:
    server.write("v1.NoteWritten", b'{"title": "\\ud83d", "more": [1e400]}')
    server.write("v1.NoteStarred", '{"title": "\ufffd", "stars": "2"}'.encode())
    server.write("v1.\ud83d", b"null")
    async with opened(server, on_unknown="ignore") as store:
        await store.synced()
        assert store.query("SELECT title, stars FROM notes") == [{"title": "\ufffd", "stars": 2.0}]


async def test_a_reset_of_the_server_stops_the_store(
    autojump_clock: MockClock, server: MemoryServer, tmp_path: Path
) -> None:
    async with opened(server, tmp_path / "a.db") as store:
        store.commit(NoteWritten("a"))
        await store.synced()
        server.cut()
        store.commit(NoteWritten("b"))
        server.reset()
        server.restore()
        with pytest.raises(StoreStopped) as stopped:
            await store.synced()
        assert isinstance(stopped.value.cause, LogReplaced)
        assert titles(store) == ["a", "b"]
    assert not server.log


async def test_a_reset_of_the_server_is_followed_if_asked(autojump_clock: MockClock, server: MemoryServer) -> None:
    async with opened(server, on_reset="restart") as store:
        store.commit(NoteWritten("a"))
        await store.synced()
        server.cut()
        store.commit(NoteWritten("b"))
        server.reset()
        server.write("v1.NoteWritten", b'{"title":"new"}')
        events = store.events()
        assert (await anext(events)).event == NoteWritten("a")
        server.restore()
        with pytest.raises(LogReplaced):
            await anext(events)
        await store.synced()
        assert titles(store) == ["new", "b"]
    assert [event.args for event in server.log] == [b'{"title":"new"}', b'{"title":"b"}']


async def test_a_reset_that_push_and_pull_are_told_of_in_one_moment_is_followed_once(
    autojump_clock: MockClock, server: MemoryServer
) -> None:
    """Starting over twice would give what was pushed in between another session, and so commit it twice."""
    async with opened(server, on_reset="restart") as store:
        store.commit(NoteWritten("a"))
        await store.synced()
        await trio.sleep(1)  # the pull waits for news
        server.resets_at_push = 1
        store.commit(NoteWritten("b"))
        await store.synced()
        await trio.sleep(10)
        assert titles(store) == ["b"]
    assert [event.args for event in server.log] == [b'{"title":"b"}']


async def test_a_server_that_has_lost_events_is_another_log(autojump_clock: MockClock, server: MemoryServer) -> None:
    async with opened(server) as store:
        store.commit(NoteWritten("a"), NoteWritten("b"))
        await store.synced()
        del server.log[1]
        store.commit(NoteWritten("c"))
        with pytest.raises(StoreStopped) as stopped:
            await store.synced()
        assert isinstance(stopped.value.cause, LogReplaced)


# --- opening and closing ----------------------------------------------------------------------------------------------


async def test_a_file_has_one_store_at_a_time_and_always_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(None, path) as store:
        with pytest.raises(StoreInUse):
            async with opened(None, path):
                pass
        store.commit(NoteWritten("a"))
    with pytest.raises(WrongFile, match="holds 's', not 't'"):
        async with open_store(path, notebook.make_schema(), store_id="t"):
            pass
    with pytest.raises(WrongFile):
        async with opened(None, tmp_path / "nowhere" / "a.db"):
            pass
    (tmp_path / "text.db").write_text("no database, but rather more than a hundred bytes of text" * 5)
    with pytest.raises(WrongFile, match="cannot be opened"):
        async with opened(None, tmp_path / "text.db"):
            pass
    async with opened(None, path) as store:
        assert titles(store) == ["a"]


async def test_a_closed_store_lets_everybody_go(autojump_clock: MockClock, server: MemoryServer) -> None:
    seen: list[str] = []
    async with trio.open_nursery() as nursery, opened(server) as store:

        async def watch() -> None:
            async for _ in store.watch(TITLES):
                pass
            seen.append("watch ended")

        async def read() -> None:
            async for _ in store.events():
                pass
            seen.append("events ended")

        async def wait() -> None:
            with pytest.raises(StoreClosed):
                await store.synced()
            seen.append("synced raised")

        server.cut()
        store.commit(NoteWritten("a"))
        for each in (watch, read, wait):
            nursery.start_soon(each)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(seen) == ["events ended", "synced raised", "watch ended"]
    for use in (lambda: store.commit(NoteWritten("b")), lambda: store.query(TITLES)):
        with pytest.raises(StoreClosed):
            use()


async def test_the_errors_of_the_program_are_its_own(autojump_clock: MockClock, server: MemoryServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened(server):
            raise ZeroDivisionError
    with pytest.raises(ExceptionGroup):
        async with opened(server):
            raise ExceptionGroup("several", [ValueError()])
    with trio.move_on_after(1) as limit:
        async with opened(server):
            await trio.sleep_forever()
    assert limit.cancelled_caught


async def test_without_a_server_there_is_nothing_to_wait_for() -> None:
    async with opened(None) as store:
        store.commit(NoteWritten("a"))
        with pytest.raises(StoreError, match="without a server"):
            await store.synced()
        assert store.sync_status.pending == 1


async def test_tables_are_made_anew_when_their_declarations_have_changed(tmp_path: Path) -> None:
    path, told = tmp_path / "a.db", list[tuple[int, int]]()

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    async with opened(None, path) as store:
        store.commit(*[NoteWritten(str(number)) for number in range(1200)])
    async with opened(None, path, progress=tell):
        assert told == []
    async with opened(None, path, progress=tell, rebuild=True):
        assert told == [(500, 1200), (1000, 1200), (1200, 1200)]
    schema = notebook.make_schema()
    schema.tables = schema.tables.replace("by_stars ON notes (stars)", "by_size ON notes (size)")
    told.clear()
    async with open_store(path, schema, store_id="s", progress=tell) as store:
        assert told[-1] == (1200, 1200)
        assert len(titles(store)) == 1200
        store.commit(NoteWritten("more"))


async def test_tables_that_somebody_has_dropped_or_altered_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(None, path) as store:
        store.commit(NoteWritten("a"), SettingSet("k", 1))
        client_id, columns = store.client_id, list(store.query("SELECT * FROM notes")[0])
    of_tables = ("DROP TABLE settings", "ALTER TABLE notes ADD COLUMN more")
    for harm in (*of_tables, "DROP INDEX by_stars", "DROP VIEW starred"):
        with contextlib.closing(apsw.Connection(str(path))) as foreign:
            foreign.execute(harm)
        async with opened(None, path) as store:
            assert titles(store) == ["a"]
            assert store.query("SELECT * FROM settings") == [{"key": "k", "value": f"1 {client_id}"}]
            assert list(store.query("SELECT * FROM notes")[0]) == columns
            assert store.query("SELECT * FROM starred") == []


async def test_a_file_that_was_deleted_is_pulled_again(
    autojump_clock: MockClock, server: MemoryServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    async with opened(server, path) as store:
        store.commit(NoteWritten("a"))
        await store.synced()
    for name in ("a.db", "a.db.lock"):
        await trio.Path(tmp_path / name).unlink()
    async with opened(server, path) as store:
        await store.synced()
        assert titles(store) == ["a"]
        store.commit(NoteWritten("b"))
        await store.synced()
    assert len(server.log) == 2


async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(None, path) as store:
        store.commit(NoteWritten("a"))
    with contextlib.closing(apsw.Connection(str(path))) as newer:
        newer.execute("UPDATE livesync_store SET version = 2")
    before = path.read_bytes()
    with pytest.raises(WrongFile, match="newer version"):
        async with opened(None, path):
            pass
    assert path.read_bytes() == before


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    program = (
        "import sys, trio\nfrom tests.livestore import notebook\nfrom livesync_trio.livestore import open_store\n"
        "async def main():\n"
        "    async with open_store(sys.argv[1], notebook.make_schema(), store_id='s'): pass\n"
        "trio.run(main)"
    )
    command = [sys.executable, "-c", program, str(path)]
    async with opened(None, path):
        refused = await trio.run_process(command, cwd=ROOT, check=False, capture_stderr=True)
        assert refused.returncode == 1
        assert b"StoreInUse" in refused.stderr
    await trio.run_process(command, cwd=ROOT)


async def test_what_could_never_be_pushed_is_not_committed() -> None:
    async with opened(None) as store:
        with pytest.raises(BadEvent, match="890000 are the most"):
            store.commit(NoteWritten("small"), NoteWritten("x" * 890_000))
        store.commit(NoteWritten("x" * 880_000))
        assert store.sync_status.head == 1


async def test_a_bar_is_shown_on_a_terminal_while_tables_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    path = tmp_path / "a.db"
    async with opened(None, path) as store:
        store.commit(*[NoteWritten(str(number)) for number in range(1200)])
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    async with opened(None, path, rebuild=True) as store:
        assert len(titles(store)) == 1200
    assert "making the tables anew" in shown.getvalue()
    for thread in threading.enumerate():
        if "Refresh" in type(thread).__name__:  # the bar's own thread: told to end, and nobody waits for it
            thread.join(60)
            assert not thread.is_alive()


async def test_making_tables_anew_can_be_cancelled_and_is_done_by_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(None, path) as store:
        store.commit(*[NoteWritten(str(number)) for number in range(1200)])
    with trio.CancelScope() as scope:

        def tell(done: int, total: int) -> None:
            trio.from_thread.run_sync(scope.cancel)

        async with opened(None, path, progress=tell, rebuild=True):
            raise AssertionError("it was opened")
    assert scope.cancelled_caught
    async with opened(None, path) as store:
        assert len(titles(store)) == 1200
