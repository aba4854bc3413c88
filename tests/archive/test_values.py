"""What a source says comes in as it is, or is refused: nothing is changed on the way, and no value is a fault."""

import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from livesync_trio.archive import files, moving
from livesync_trio.archive.entries import Broken, Columns, Entry, checked_moment, entry_of_columns, moment_of
from livesync_trio.archive.jsonl import Header, Sections
from livesync_trio.archive.jsonl_reading import line_of
from livesync_trio.archive.sources.cloudflare import CloudflareFiles, SqlDump
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.staging import Target, adopt
from livesync_trio.errors import CommandError, Kind, StorageUnavailable
from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.wording import shown_url
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.archive.test_cloudflare_tables import CHAIN, make, rows


class Free(NamedTuple):
    """A disk, as far as anybody asks."""

    free: int


def test_a_user_is_kept_where_the_event_holds_half_a_character() -> None:
    (entry,) = plain_log(1)
    odd = entry._replace(json=entry.json.replace(b'"n":1', b'"n":"\\ud83d"'))
    line = Sections().entry(odd).replace(b'"event"', b'"user":"\\ud83d\\ude00","event"')
    found = line_of(line)
    assert isinstance(found, Entry)
    assert (found.user, found.json) == ("\U0001f600", odd.json)


def test_an_identity_that_is_not_unicode_is_refused() -> None:
    line = Sections().begin(Header(StoreId("a"), BackendId("XY"), 0, 0)).replace(b"XY", b"\\ud83d")
    with pytest.raises(Broken):
        line_of(line)


@pytest.mark.parametrize("text", ["9999-99-99T99:99:99.999Z", "\uff12026-11-20T12:00:00Z", "2026-02-30T00:00:00.000Z"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Broken):
        checked_moment(text)
    with pytest.raises(Broken):
        moment_of(text)
    with pytest.raises(Broken):
        moment_of("0001-01-01T00:00:00+14:00")


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("value", [b"\xff", 1.5, "\ud800", 2**70])
def test_no_value_in_any_column_is_rewritten(place: int, value: object) -> None:
    good: list[object] = [5, 0, "name", "5", "client", "session", "2026-11-20T12:00:00.000Z"]
    good[place] = value
    with pytest.raises(Broken):
        entry_of_columns(Columns(*good))  # type: ignore[arg-type]


def test_stores_that_share_a_table_by_case_are_told(tmp_path: Path) -> None:
    make(tmp_path / "d1.sqlite", {"eventlog_7_Notes": rows(CHAIN)}, [])
    make(tmp_path / "do1.sqlite", {}, [("Notes", 3, "one")])
    make(tmp_path / "do2.sqlite", {}, [("notes", 3, "two")])
    source = CloudflareFiles(sorted(tmp_path.iterdir()), "files")
    assert any("share this table" in problem for store in source.stores() for problem in store.problems)
    source.close()


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_a_changed_byte_of_a_compressed_file_is_no_fault(tmp_path: Path, place: int) -> None:
    content = bytearray(gzip.compress(b"".join(b"%d,\n" % number for number in range(400))))
    content[-1 - place if place % 2 else place] ^= 0x41
    (tmp_path / "f.gz").write_bytes(content)
    source = JsonlFile(tmp_path / "f.gz")
    with pytest.raises(CommandError):
        source.sections()
    source.close()


@pytest.mark.parametrize("name", ["", "livesync-staged/x", "x" * 2_000, "a\0b"])
def test_a_store_that_no_client_can_open_is_not_imported(run: Run, tmp_path: Path, name: str) -> None:
    with Opened(tmp_path / "one.db") as target:
        put(target, "other", plain_log(1), "second")
        put(target, name, plain_log(2))
    export = ("export", str(tmp_path / "f"), "--database-url", f"sqlite:///{tmp_path}/one.db")
    assert run(*export, "--store", name, "--store", "other")[0] == 0
    code, out, _ = run("import", str(tmp_path / "f"), "--json", "--database-url", f"sqlite:///{tmp_path}/two.db")
    assert (code, out.count('"refused"'), out.count('"imported"')) == (7, 1, 1)


def test_a_backup_says_what_it_leaves_out(run: Run, tmp_path: Path) -> None:
    with Opened(tmp_path / "one.db") as target:
        put(target, "livesync-staged/s", plain_log(2))
    _, _, error = run("backup", str(tmp_path / "f"), "--database-url", f"sqlite:///{tmp_path}/one.db")
    assert "Left out: 1 store" in error


@pytest.mark.parametrize("more", [("--rename", "a=x", "--rename", "a=y"), ("--backend-id", "another")])
def test_a_wish_that_contradicts_is_refused(run: Run, tmp_path: Path, more: tuple[str, ...]) -> None:
    with Opened(tmp_path / "one.db") as target:
        put(target, "a", plain_log(2))
    assert run("export", str(tmp_path / "f"), "--database-url", f"sqlite:///{tmp_path}/one.db")[0] == 0
    assert run("import", str(tmp_path / "f"), *more, "--database-url", f"sqlite:///{tmp_path}/two.db")[0] in {2, 7}


def test_a_restore_is_decided_for_all_stores_before_the_first(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/one.db"
    with Opened(tmp_path / "one.db") as target:
        put(target, "a", plain_log(2), "first")
        put(target, "b", plain_log(2), "second")
    assert run("backup", str(tmp_path / "f"), "--store", "a", "--database-url", url)[0] == 0
    assert run("reset", "a", "--yes", "--database-url", url)[0] == 0
    with Opened(tmp_path / "one.db") as target:
        put(target, "c", plain_log(2), "first")
    code, _, error = run("restore", str(tmp_path / "f"), "--complete", "--yes", "--database-url", url)
    assert (code, "'c' has its identity already" in error) == (8, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--file", "F", "nosuchstore"),
        ("events", "a", "--since", "yesterday"),
        ("events", "a", "--after", "9" * 40),
        ("stores", "\udcff"),
        ("stores", "--url", "http://h:99999"),
        ("import", "http://h:99999/", "--store", "a"),
        ("import", "ftp://user:pass@h/\x1b]0;x"),
        ("import", "http://[", "--store", "a"),
        ("reset", "nosuch"),
    ],
)
def test_no_argument_is_a_fault_of_the_program(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path}/one.db"
    with Opened(tmp_path / "one.db") as target:
        put(target, "a", plain_log(2), "first")
    assert run("backup", str(tmp_path / "F"), "--database-url", url)[0] == 0
    given = (str(tmp_path / "F") if one == "F" else one for one in arguments)
    code, out, error = run(*given, "--database-url", url)
    assert (code not in {0, 1}, "pass" in error, "\x1b" in error, out) == (True, False, False, ""), error


def test_a_place_shows_no_secret() -> None:
    assert shown_url("https://me:p@ss@h:1/x?payload=tok#f") == "https://h:1/x"


def test_a_store_that_cannot_come_in_keeps_no_other_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three meets somebody who uses it meanwhile."""
    with Opened(tmp_path / "one.db") as target:
        for store in ("a", "b", "c"):
            put(target, store, plain_log(2), f"identity-{store}")
    file = str(tmp_path / "all.jsonl")
    assert run("export", file, "--database-url", f"sqlite:///{tmp_path}/one.db")[0] == 0

    def adopt_others(target: Target, store_id: StoreId, *rest: Any) -> LogState:
        if store_id == "b":
            raise CommandError(Kind.ALREADY_THERE, "Store 'b' was used while its events came in")
        return adopt(target, store_id, *rest)

    monkeypatch.setattr(moving, "adopt", adopt_others)
    code, out, error = run("import", file, "--json", "--database-url", f"sqlite:///{tmp_path}/two.db")
    outcomes = {one["storeId"]: one["outcome"] for one in map(json.loads, out.splitlines())}
    assert outcomes == {"a": "imported", "b": "in the way", "c": "imported"}
    assert code == 8
    assert "'b'" in error


def test_a_small_file_cannot_fill_the_disk_before_its_first_line_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gzip bomb: 200 MB of one letter in 200 kB. What is unpacked is checked line by line before it is kept."""
    bomb, kept = tmp_path / "bomb.jsonl.gz", []
    with gzip.open(bomb, "wb", 1) as file:
        for _ in range(200):
            file.write(b"x" * 1_000_000)
    made = tempfile.TemporaryFile

    def watched(*args: Any, **more: Any) -> Any:
        kept.append(made(*args, **more))
        return kept[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    monkeypatch.setattr(files, "ARCHIVE_LINE_MAX_BYTES", 1_000_000)
    source = JsonlFile(bomb)
    with pytest.raises(CommandError):
        source.sections()
    assert all(file.closed or file.seek(0, 2) == 0 for file in kept)
    source.close()
    for file in kept:
        file.close()


def test_a_bomb_of_good_lines_leaves_room_for_others(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line is one of the format: only their number is too large for where they are unpacked."""
    with Opened(tmp_path / "one.db") as target:
        put(target, "a", plain_log(3_000))
    file, two = str(tmp_path / "a.jsonl.gz"), f"sqlite:///{tmp_path}/two.db"
    assert run("export", file, "--database-url", f"sqlite:///{tmp_path}/one.db")[0] == 0
    kept, made = [], tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: kept.append(made()) or kept[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Free(200_000))
    code, _, error = run("import", file, "--database-url", two)
    assert (code, "unpacks to more than 100,000 bytes" in error, "TMPDIR" in error) == (2, True, True), error
    assert kept[0].closed
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Free(100_000_000))
    assert run("import", file, "--database-url", two)[0] == 0


def test_a_dump_that_multiplies_itself_fills_no_disk(tmp_path: Path) -> None:
    dump = tmp_path / "dump.sql"
    double = "INSERT INTO t SELECT * FROM t;\n"
    dump.write_text("CREATE TABLE t (a);\nINSERT INTO t VALUES ('" + "x" * 1_000 + "');\n" + double * 40)
    with pytest.raises(CommandError, match="full"):
        SqlDump(dump)


def test_what_came_in_is_told_although_the_rest_could_not(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Opened(tmp_path / "one.db") as target:
        for store in ("a", "b"):
            put(target, store, plain_log(2), f"identity-{store}")
    file = str(tmp_path / "all.jsonl")
    assert run("export", file, "--database-url", f"sqlite:///{tmp_path}/one.db")[0] == 0

    def adopt_one(target: Target, store_id: StoreId, *rest: Any) -> LogState:
        if store_id == "b":
            raise StorageUnavailable("the disk is full")
        return adopt(target, store_id, *rest)

    monkeypatch.setattr(moving, "adopt", adopt_one)
    code, out, error = run("import", file, "--database-url", f"sqlite:///{tmp_path}/two.db")
    assert code == 11
    assert "imported" in out
    assert "the disk is full" in error


def test_a_rename_that_would_be_ignored_is_refused(run: Run, tmp_path: Path) -> None:
    with Opened(tmp_path / "one.db") as target:
        for store in ("a", "b"):
            put(target, store, plain_log(2), f"identity-{store}")
    file, two = str(tmp_path / "all.jsonl"), f"sqlite:///{tmp_path}/two.db"
    assert run("export", file, "--database-url", f"sqlite:///{tmp_path}/one.db")[0] == 0
    code, _, error = run("import", file, "--store", "a", "--rename", "b=c", "--database-url", two)
    assert code == 2
    assert "--rename of 'b'" in error
