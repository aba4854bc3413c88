"""What the commands print: the shapes that programs rely on, and what a person is told."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livesync_trio.archive.export import export as export_stores
from livesync_trio.archive.files import OutFile
from livesync_trio.errors import RULES, Kind
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Reset
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import LIMIT_S, SECRET, Livesync, Site, command, environment, push


@pytest.fixture
def database(tmp_path: Path) -> str:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", [*plain_log(4), plain_log(1, 5)[0]._replace(user="ann")])
        put(target, "b[red]b", plain_log(2), "other")
    return f"sqlite:///{tmp_path}/live.db"


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_stores(run: Run, database: str) -> None:
    code, out, _ = run("stores", "--json", "--database-url", database)
    assert code == 0
    shown = lines(out)
    assert [one["storeId"] for one in shown] == ["b[red]b", "notes"]
    assert shown[1].keys() == {"storeId", "head", "backendId", "events", "bytes", "createdAt", "lastPushAt", "frozen"}
    assert (shown[1]["head"], shown[1]["events"], shown[1]["backendId"]) == (5, 5, "identity")
    assert len(run("stores", "note", "--json", "--database-url", database)[1].splitlines()) == 1
    code, out, _ = run("stores", "--database-url", database)
    assert "b[red]b" in out  # a name is no markup
    assert "No store has 'zzz'" in run("stores", "zzz", "--database-url", database)[1]


def test_events(run: Run, database: str) -> None:
    code, out, _ = run("events", "notes", "--after", "3", "--json", "--database-url", database)
    assert code == 0
    assert out.splitlines() == [
        '{"name":"todoAdded","args":{"n":4},"seqNum":4,"parentSeqNum":3,"clientId":"c","sessionId":"s",'
        '"createdAt":"2026-11-20T12:00:00.004Z"}',
        '{"name":"todoAdded","args":{"n":5},"seqNum":5,"parentSeqNum":4,"clientId":"c","sessionId":"s",'
        '"createdAt":"2026-11-20T12:00:00.005Z","user":"ann"}',
    ]
    code, out, error = run("events", "notes", "--limit", "2", "--database-url", database)
    assert "e2" in out
    assert "e3" not in out
    assert "livesync events notes --after 2" in error


def test_all_events_for_a_person(run: Run, database: str) -> None:
    code, out, error = run("events", "notes", "--all", "--database-url", database)
    assert (code, error) == (0, "")
    assert out.splitlines()[1] == '2026-11-20T12:00:00.002Z  e2  todoAdded  c  {"n":2}'
    assert len(out.splitlines()) == 5


def test_what_users_chose_moves_no_cursor(run: Run, tmp_path: Path) -> None:
    with Opened(tmp_path / "live.db") as target:
        odd = plain_log(1)[0]._replace(json=plain_log(1)[0].json.replace(b"todoAdded", b"\\u001b[2J\\ud83d"))
        put(target, "a\x1b[2Jb", [odd])
    database = f"sqlite:///{tmp_path}/live.db"
    for arguments in (("stores",), ("events", "a\x1b[2Jb"), ("events", "a\x1b[2Jb", "--all")):
        code, out, error = run(*arguments, "--database-url", database)
        assert code == 0, error
        assert "\x1b" not in out
        assert "\\x1b[2J" in out


@pytest.mark.parametrize(
    ("flags", "numbers"),
    [
        (("--name", "todoAdded"), [1, 2, 3, 4, 5]),
        (("--name", "other"), []),
        (("--client", "c", "--session", "x"), []),
        (("--since", "2026-11-20T12:00:00.002Z", "--until", "2026-11-20T12:00:00.004Z"), [2, 3]),
        (("--all",), [1, 2, 3, 4, 5]),
        (("--limit", "1", "--after", "2"), [3]),
    ],
)
def test_events_are_chosen(run: Run, database: str, flags: tuple[str, ...], numbers: list[int]) -> None:
    _, out, _ = run("events", "notes", *flags, "--json", "--database-url", database)
    assert [one["seqNum"] for one in lines(out)] == numbers


def test_info(run: Run, database: str) -> None:
    (shown,) = lines(run("info", "--json", "--database-url", database)[1])
    assert shown.keys() == {"version", "engine", "database", "stores", "events", "bytes"}
    assert (shown["engine"], shown["stores"], shown["events"]) == ("sqlite", 2, 7)


def test_a_database_that_is_not_there_is_told_and_not_made(run: Run, tmp_path: Path) -> None:
    for name in ("stores", "info", "verify"):
        code, out, error = run(name, "--database-url", f"sqlite:///{tmp_path}/none.db")
        assert (code, out) == (4, "")
        assert "name the database by --database-url" in error
    (tmp_path / "other.txt").write_text("x" * 100)
    assert run("stores", "--database-url", f"sqlite:///{tmp_path}/other.txt")[0] == 4
    assert [one.name for one in tmp_path.iterdir()] == ["other.txt"]


def test_connections_need_a_server(run: Run, database: str) -> None:
    code, _, error = run("connections", "--database-url", database)
    assert code == 2
    assert "--url" in error


def test_reset(run: Run, database: str, tmp_path: Path) -> None:
    code, _, error = run("reset", "notes", "--database-url", database)
    assert code == 2
    assert "--yes" in error
    assert run("reset", "nope", "--yes", "--database-url", database)[0] == 6
    (shown,) = lines(run("reset", "notes", "--yes", "--json", "--database-url", database)[1])
    with Opened(tmp_path / "live.db") as target:
        state = target.reader.state(StoreId("notes"))
        assert isinstance(state, LogState)
        assert (state.backend_id, state.head) == (shown["backendId"], 0)
        assert state.backend_id != "identity"
        assert target.reader.state(StoreId("nope")) is None


def test_export_to_standard_output(livesync: Livesync, database: str) -> None:
    done = livesync("export", "-", "--store", "notes", "--database-url", database)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith('{"endOfFile":true')
    assert done.stderr == "1 store, 5 events\n"


def test_an_export_that_cannot_be_written_is_told_in_a_line(livesync: Livesync, database: str) -> None:
    done = livesync("export", "/nowhere/out.jsonl", "--database-url", database)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    full = livesync("export", "-", "--database-url", database)
    assert full.returncode == 0


def test_config_shows_what_counts_and_no_secret(livesync: Livesync, tmp_path: Path) -> None:
    (tmp_path / "livesync.toml").write_text("port = 9001\n")
    url = "postgresql://me:hunter2@db/app?sslpassword=hunter2"
    done = livesync(
        "config", "--json", "--host", "::1", "--config", "livesync.toml", AUTH_TOKEN="hunter2", DATABASE_URL=url
    )
    assert done.returncode == 0, done.stderr
    shown = {one["name"]: one for one in lines(done.stdout)}
    assert shown.keys() == {"host", "port", "auth_token", "database_url"}
    assert (shown["port"]["value"], shown["auth_token"]["set"]) == (9001, True)
    assert "hunter2" not in done.stdout
    everything = livesync("config", "--all", AUTH_TOKEN="hunter2")
    assert "max_open_pulls" in everything.stdout
    assert "hunter2" not in everything.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(livesync: Livesync, shell: str) -> None:
    script = livesync("completion", shell)
    assert script.returncode == 0
    assert "_LIVESYNC_COMPLETE" in script.stdout


def test_completion_knows_the_commands() -> None:
    variables = {"_LIVESYNC_COMPLETE": "bash_complete", "COMP_WORDS": "livesync ve", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "livesync_trio"],
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout == "plain,verify\n"


def test_doctor_without_a_server(livesync: Livesync, database: str) -> None:
    done = livesync("doctor", "--json", "--port", "1", "--database-url", database)
    assert done.returncode == 0, done.stderr
    shown = {one["about"]: one["state"] for one in lines(done.stdout)}
    assert shown["database"] == "ok"
    assert shown["probe"] == "not looked at"


def test_doctor_finds_what_is_wrong(livesync: Livesync, tmp_path: Path) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", [plain_log(1)[0]._replace(created_at="2099-01-01T00:00:00.000Z")])
    (tmp_path / "live.db").chmod(0o644)
    done = livesync("doctor", "--json", "--host", "0.0.0.0", "--port", "1", "--database-url", "sqlite:///live.db")
    assert done.returncode == 10
    shown = {one["about"]: (one["state"], one["text"]) for one in lines(done.stdout)}
    assert shown["clock"][0] == "wrong"
    assert shown["exposure"][0] == "wrong"
    assert shown["permissions"][0] == "careful"
    asked = livesync("doctor", "--json", "--sync-url", "http://127.0.0.1:1", "--database-url", "sqlite:///none.db")
    assert asked.returncode == 10
    assert lines(asked.stdout)[-1]["state"] == "wrong"


def test_doctor_says_that_a_database_has_two_names(livesync: Livesync, tmp_path: Path) -> None:
    with Opened(tmp_path / "live.db"):
        pass
    (tmp_path / "two.db").hardlink_to(tmp_path / "live.db")
    for name, code in (("doctor", 10), ("verify", 4)):
        done = livesync(name, "--json", "--database-url", "sqlite:///two.db")
        assert done.returncode == code
        assert "it has 2 names (hard links)" in done.stdout + done.stderr


def test_doctor_and_bench_sync_through_a_server_and_leave_nothing(site: Site, livesync: Livesync) -> None:
    there = ("--sync-url", site.server.url, "--url", site.control, "--json")
    for _ in range(2):
        done = livesync("doctor", *there, "--database-url", site.database_url, ADMIN_SECRET=SECRET)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = {one["about"]: one for one in lines(done.stdout)}
        assert shown["probe"]["state"] == "ok"
        assert "e1 of" in str(shown["probe"]["text"])
        assert "127.0.0.1" in str(shown["proxy"]["text"])
    bench = livesync("bench", *there, "--clients", "2", "--pushes", "5", "--batch", "4", ADMIN_SECRET=SECRET)
    assert bench.returncode == 0, bench.stderr
    (result,) = lines(bench.stdout)
    assert result.keys() == {
        "clients", "pushesPerSecond", "eventsPerSecond", "pushP50Ms", "pushP99Ms", "pulledEventsPerSecond"
    }  # fmt: skip
    listed = livesync("stores", "livesync-probe", "--json", "--database-url", site.database_url)
    assert listed.stdout == ""
    push(site.server.url, "livesync-probe-x", 1, 1)
    assert "livesync-probe" not in livesync("stores", "--database-url", site.database_url).stdout
    assert "livesync-probe" in livesync("stores", "livesync-probe", "--database-url", site.database_url).stdout


@pytest.mark.parametrize("where", ["database", "server"])
def test_tail_shows_what_comes(site: Site, where: str) -> None:
    place = ("--url", site.control) if where == "server" else ("--database-url", site.database_url)
    process = subprocess.Popen(
        command("tail", "notes", "--after", "28", "--json", *place),
        env=environment() | {"ADMIN_SECRET": SECRET, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["seqNum"] for _ in range(2)] == [29, 30]
        push(site.server.url, "notes", 31, 2)
        assert [json.loads(process.stdout.readline())["seqNum"] for _ in range(2)] == [31, 32]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["export", "backup"])
def test_what_happens_meanwhile_is_not_in_the_file(
    run: Run, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def late(*arguments: Any, **flags: Any) -> Any:
        with Opened(tmp_path / "live.db") as target:
            target.one(Reset(StoreId("notes")))
            target.writer.clear_replaced(100)
        return export_stores(*arguments, **flags)

    monkeypatch.setattr("livesync_trio.cli.export.write_file", late)
    code, _, error = run(name, str(tmp_path / "out.jsonl"), "--database-url", database)
    assert code == 0, error
    listed = lines(run("verify", "--json", "--file", str(tmp_path / "out.jsonl"))[1])
    assert {one["storeId"]: one["events"] for one in listed} == {"b[red]b": 2, "notes": 5}


def test_a_backup_that_does_not_read_back_leaves_the_old_one(run: Run, tmp_path: Path, database: str) -> None:
    """A disk that gives back something else: one byte of the new file is turned before it is read."""
    file, turned = tmp_path / "b.jsonl", OutFile.finish

    def turn(out: OutFile, check: Callable[[Path], object]) -> None:
        def spoilt(part: Path) -> None:
            content = bytearray(part.read_bytes())
            content[len(content) // 2] ^= 1
            part.write_bytes(content)
            check(part)

        turned(out, spoilt)

    assert run("backup", str(file), "--database-url", database)[0] == 0
    whole = file.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OutFile, "finish", turn)
        code, _, error = run("backup", str(file), "--overwrite", "--database-url", database)
    assert code == RULES[Kind.BAD_ARCHIVE].exit_code, error
    assert file.read_bytes() == whole


def test_a_store_that_is_half_imported_is_in_no_backup(run: Run, tmp_path: Path, database: str) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "livesync-staged/other", plain_log(3))
        target.one(Reset(StoreId("b[red]b")))
    assert run("backup", str(tmp_path / "b.jsonl"), "--database-url", database)[0] == 0
    assert b"livesync-staged" not in (tmp_path / "b.jsonl").read_bytes()
