"""How files appear: one writer at a time, never over the database, and nothing is left of what failed."""

import os
import stat
from pathlib import Path

import pytest

from livesync_trio.archive.export import export
from livesync_trio.archive.files import OutFile, part_of
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.errors import CommandError
from livesync_trio.model import StoreId
from livesync_trio.storage.memory import MemoryEngine
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put


def test_a_second_run_for_one_file_is_refused_and_the_first_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    with Opened(MemoryEngine()) as target:
        stores = [(StoreId("notes"), put(target, "notes", plain_log(2_000)))]

        def meanwhile(_events: int) -> None:
            with pytest.raises(CommandError, match="another process"):
                export(target.reader, stores, str(path), overwrite=True, resume=False)

        export(target.reader, stores, str(path), resume=False, on_events=meanwhile)
    file = JsonlFile(path)
    assert len(file.sections()) == 1
    file.close()


def test_what_took_the_name_of_the_part_meanwhile_is_not_given_the_name(tmp_path: Path) -> None:
    with OutFile(str(tmp_path / "b")) as out:
        out.write(b"ours")
        part_of(tmp_path / "b").unlink()
        part_of(tmp_path / "b").write_bytes(b"theirs")
        with pytest.raises(CommandError, match="meanwhile"):
            out.finish()
    assert part_of(tmp_path / "b").read_bytes() == b"theirs"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_part_that_is_a_link_is_not_followed(tmp_path: Path, link: object) -> None:
    (tmp_path / "precious").write_text("precious")
    assert callable(link)
    link(tmp_path / "precious", part_of(tmp_path / "b"))
    with pytest.raises(CommandError):
        OutFile(str(tmp_path / "b"))
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
def test_the_file_is_private_whatever_an_old_part_was(run: Run, tmp_path: Path, kind: str) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(3))
    part_of(tmp_path / "out").write_text("old")
    part_of(tmp_path / "out").chmod(0o644)
    url = f"sqlite:///{tmp_path}/live.db"
    assert run("export", str(tmp_path / "out"), "--format", kind, "--database-url", url)[0] == 0
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600


@pytest.mark.parametrize("command", [("backup",), ("export",), ("export", "--format", "sqlite")])
@pytest.mark.parametrize("name", ["live.db", "link.db", "hard.db", "live.db-wal", "live.db-shm", "live.db.lock", "x"])
def test_the_database_is_never_replaced(run: Run, tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    database = tmp_path / ("x.part" if name == "x" else "live.db")
    with Opened(database) as target:
        put(target, "notes", plain_log(3))
    if database.name == "live.db":
        (tmp_path / "link.db").symlink_to(database)
        os.link(database, tmp_path / "hard.db")
    before = database.read_bytes()
    url = f"sqlite:///{database}"
    code, _, error = run(command[0], str(tmp_path / name), *command[1:], "--overwrite", "--database-url", url)
    assert code != 0, error
    assert database.read_bytes() == before


@pytest.mark.parametrize("name", ["-", "out.gz"])
def test_tables_are_written_to_a_plain_file_only(run: Run, tmp_path: Path, name: str) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(3))
    url = f"sqlite:///{tmp_path}/live.db"
    name = name if name == "-" else str(tmp_path / name)
    assert run("export", name, "--format", "sqlite", "--database-url", url)[0] == 2
    assert not Path(name).exists()


def test_an_export_is_not_mixed_from_two_logs(tmp_path: Path) -> None:
    """Name, identity and head are the same; the events are not."""
    path, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    with Opened(MemoryEngine()) as one:
        export(one.reader, [(StoreId("notes"), put(one, "notes", plain_log(50)))], str(path))
    path.rename(part)
    part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:20]))
    with Opened(MemoryEngine()) as other:
        log = [entry._replace(json=entry.json.replace(b'"n"', b'"m"')) for entry in plain_log(50)]
        done = export(other.reader, [(StoreId("notes"), put(other, "notes", log))], str(path))
    assert done.events == 50
    assert b'"n":' not in path.read_bytes()


def test_a_device_is_no_file(run: Run, tmp_path: Path) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(3))
    url = f"sqlite:///{tmp_path}/live.db"
    code, _, error = run("backup", "/dev/full", "--overwrite", "--database-url", url)
    assert (code, "regular file" in error) == (2, True)


def test_nothing_is_left_of_a_backup_that_failed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(3))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = run("backup", str(tmp_path / "b.gz"), "--database-url", f"sqlite:///{tmp_path}/live.db")
    assert (code, error.count("\n")) == (2, 1)
    assert "No space" in error
    assert not list(tmp_path.glob("b.gz*"))
