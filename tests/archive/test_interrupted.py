"""`livesync import` is taken away with kill -9 and run again: the result is that of one run."""

import subprocess
import time
from pathlib import Path

import pytest

from livesync_trio.archive.export import export
from livesync_trio.archive.staging import STAGED
from livesync_trio.errors import LivesyncError
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import command, environment

EVENTS = 30_000
LIMIT_S = 60


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of one long store."""
    path = tmp_path_factory.mktemp("export") / "out.jsonl"
    with Opened(MemoryEngine()) as target:
        export(target.reader, [(StoreId("notes"), put(target, "notes", plain_log(EVENTS)))], str(path))
    return path


def states(database: Path) -> tuple[LogState | None, LogState | None]:
    """Of the store and of what is staged of it, read beside whoever writes."""
    engine = SqliteEngine(database)
    try:
        engine.open_to_read()
    except LivesyncError:
        return None, None
    reader = engine.reader()
    try:
        return reader.state(StoreId("notes")), reader.state(StoreId(f"{STAGED}notes"))
    finally:
        reader.close()
        engine.close()


def test_an_import_that_is_killed_again_and_again_comes_to_the_same_end(file: Path, run: Run, tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    url = f"sqlite:///{database}"
    seen = [0]
    for wanted in (1, EVENTS // 3, EVENTS - 2_000):
        process = subprocess.Popen(
            command("import", str(file), "--database-url", url),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            store, staged = states(database)
            assert store is None, "half a store is to be seen"
            if staged is not None and staged.event_count >= max(wanted, seen[-1]):
                break
        process.kill()
        process.wait()
        store, staged = states(database)
        assert store is None
        assert staged is not None
        seen.append(staged.event_count)
    assert seen == sorted(seen), "what was there is kept"
    assert 0 < seen[1] <= seen[-1] <= EVENTS
    assert run("import", str(file), "--database-url", url)[0] == 0
    store, staged = states(database)
    assert store is not None
    assert (store.event_count, store.backend_id, staged) == (EVENTS, "identity", None)
    assert run("export", str(tmp_path / "again.jsonl"), "--database-url", url)[0] == 0
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_what_was_staged_of_another_source_is_thrown_away(file: Path, run: Run, tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    with Opened(database) as target:
        other = [entry._replace(json=entry.json.replace(b'"n":', b'"m":')) for entry in plain_log(100)]
        put(target, f"{STAGED}notes", other)
    assert run("import", str(file), "--database-url", f"sqlite:///{database}")[0] == 0
    store, staged = states(database)
    assert store is not None
    assert (store.event_count, staged) == (EVENTS, None)
