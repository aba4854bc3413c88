"""The export format: what goes out comes in again byte for byte, and what is not whole is refused."""

import gzip
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync_trio.archive.entries import Entry
from livesync_trio.archive.export import export
from livesync_trio.archive.moving import Wishes, move_in
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import READ_MAX_EVENTS
from livesync_trio.model import StoreId
from livesync_trio.storage.memory import MemoryEngine
from tests.archive.logs import Opened, logs, plain_log, put, store_ids


def exported(opened: Opened, path: Path) -> bytes:
    """All stores of a database as a file."""
    reader = opened.engine.snapshot()
    stores = [(one.store_id, one.state) for one in reader.stores(None, 1_000)]
    export(reader, stores, str(path), overwrite=True)
    reader.close()
    return path.read_bytes()


def imported(opened: Opened, path: Path) -> Sequence[str]:
    """Bring a file in; what came of its stores."""
    source = JsonlFile(path)
    with opened as target:
        outcomes = [one.outcome for one in move_in(target, source, Wishes())]
    source.close()
    return outcomes


@settings(max_examples=60, deadline=None)
@given(stores=st.dictionaries(store_ids, logs(), max_size=3))
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_what_goes_out_comes_in_and_goes_out_the_same(engine: str, stores: dict[str, list[Entry]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        one = Opened(MemoryEngine() if engine == "memory" else directory / "one.db")
        two = Opened(MemoryEngine() if engine == "memory" else directory / "two.db")
        with one as target:
            for number, (store, entries) in enumerate(stores.items()):
                put(target, store, entries, f"identity-{number}")
            first = exported(one, directory / "out.jsonl")
        assert imported(two, directory / "out.jsonl") == ["imported"] * len(stores)
        with two:
            assert exported(two, directory / "again.jsonl") == first
        assert all(
            entry.json in first or b"\n" in entry.json or b"\r" in entry.json
            for log in stores.values()
            for entry in log
        )
        assert imported(two, directory / "out.jsonl") == ["already there"] * len(stores)


def test_the_lines_are_as_documented(tmp_path: Path) -> None:
    opened = Opened(MemoryEngine())
    with opened as target:
        put(target, "notes", [*plain_log(1), plain_log(1, 2)[0]._replace(user="ann")])
        lines = exported(opened, tmp_path / "out.jsonl").decode().splitlines()
    assert lines[:3] == [
        '{"format":"livesync-jsonl","version":1,"storeId":"notes","backendId":"identity","head":2,"events":2}',
        '{"createdAt":"2026-11-20T12:00:00.001Z","event":{"name":"todoAdded","args":{"n":1},"seqNum":1,"parentSeqNum":0,'
        '"clientId":"c","sessionId":"s"}}',
        '{"createdAt":"2026-11-20T12:00:00.002Z","user":"ann","event":{"name":"todoAdded","args":{"n":2},"seqNum":2,'
        '"parentSeqNum":1,"clientId":"c","sessionId":"s"}}',
    ]
    assert lines[3].startswith('{"end":"notes","events":2,"head":2,"sha256":"')
    assert lines[4].startswith('{"endOfFile":true,"stores":1,"sha256":"')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two stores of five events."""
    opened = Opened(MemoryEngine())
    with opened as target:
        put(target, "one", plain_log(5), "first")
        put(target, "two", plain_log(5), "second")
        exported(opened, tmp_path / "out.jsonl")
    return tmp_path / "out.jsonl"


def refusal(path: Path) -> str:
    """Why a file is refused; nothing of it may have come in."""
    opened = Opened(MemoryEngine())
    source = JsonlFile(path)
    with opened as target, pytest.raises(CommandError) as refused:
        list(move_in(target, source, Wishes()))
    source.close()
    assert refused.value.kind is Kind.BAD_ARCHIVE
    assert opened.engine.reader().stores(None, 9) == []
    return str(refused.value)


def test_a_file_that_ends_early_is_refused_wherever_it_ends(file: Path) -> None:
    whole = file.read_bytes()
    for end in range(0, len(whole) - 1, 7):
        file.write_bytes(whole[:end])
        assert refusal(file)


def test_a_changed_byte_is_noticed_wherever_it_is(file: Path) -> None:
    whole = file.read_bytes()
    for place in range(0, len(whole), 5):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert refusal(file)


def test_a_missing_line_is_noticed_whichever_it_is(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    for number in range(len(lines)):
        file.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
        assert refusal(file)


def test_the_reason_names_the_line(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert "line 3: e3 continues e2, but stands behind e1: events are missing before it" in refusal(file)


def test_a_file_of_a_later_version_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":2', 1))
    assert "version 2" in refusal(file)


def test_a_store_that_comes_twice_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"two"', b'"one"'))
    assert "twice" in refusal(file)


def test_a_compressed_file_is_the_same_file(file: Path, tmp_path: Path) -> None:
    opened = Opened(MemoryEngine())
    assert imported(opened, file) == ["imported", "imported"]
    packed = exported(opened, tmp_path / "out.jsonl.gz")
    assert gzip.decompress(packed) == file.read_bytes()
    assert imported(opened, tmp_path / "out.jsonl.gz") == ["already there", "already there"]
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-20])
    assert "cannot be read" in refusal(tmp_path / "cut.jsonl.gz")


class Interrupted(Exception):
    """As a kill would: nothing is tidied up."""


@pytest.mark.parametrize("after_events", [0, 1_500, 4_999, 5_000, 7_000, 9_999])
def test_an_export_that_was_interrupted_goes_on(tmp_path: Path, after_events: int) -> None:
    opened = Opened(MemoryEngine())
    with opened as target:
        stores = [(StoreId(name), put(target, name, plain_log(5_000))) for name in ("one", "two")]
        whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
        export(target.reader, stores, str(whole))
        seen = 0

        def stop(events: int) -> None:
            nonlocal seen
            seen += events
            if seen > after_events:
                raise Interrupted

        with pytest.raises(Interrupted):
            export(target.reader, stores, str(resumed), on_events=stop)
        assert not resumed.exists()
        part = resumed.with_name("resumed.jsonl.part")
        part.write_bytes(part.read_bytes()[:-3])  # the last line was cut by the kill
        done = export(target.reader, stores, str(resumed))
    assert resumed.read_bytes() == whole.read_bytes()
    assert done.events == 10_000
    assert done.resumed_events > after_events - READ_MAX_EVENTS
    assert not part.exists()


def test_what_was_begun_of_another_log_is_begun_anew(tmp_path: Path) -> None:
    opened = Opened(MemoryEngine())
    path = tmp_path / "out.jsonl"
    with opened as target:
        state = put(target, "one", plain_log(50), "old")
        export(target.reader, [(StoreId("one"), state)], str(path))
        part = path.rename(path.with_name("out.jsonl.part"))
        part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:20]))
        other = put(target, "other", plain_log(50), "new")
        done = export(target.reader, [(StoreId("other"), other)], str(path))
    assert done.resumed_events == 0
    assert imported(Opened(MemoryEngine()), path) == ["imported"]


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    opened = Opened(MemoryEngine())
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    with opened as target, pytest.raises(CommandError) as refused:
        export(target.reader, [], str(path))
    assert refused.value.kind is Kind.ALREADY_THERE
    assert path.read_text() == "precious"
