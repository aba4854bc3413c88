"""The newest events: `events --last` and `--newest-first`, from a database and from a server; completion of names."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from livesync_trio.archive.reading import newest_first
from livesync_trio.limits import READ_MAX_BYTES
from livesync_trio.model import StoreId
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import LIMIT_S, SECRET, Livesync, Site, command, environment, push


def numbers(out: str) -> list[int]:
    return [json.loads(line)["seqNum"] for line in out.splitlines()]


@pytest.mark.parametrize("where", ["database", "server"])
def test_the_last_ones_and_descending(site: Site, livesync: Livesync, where: str) -> None:
    place = ("--url", site.control) if where == "server" else ("--database-url", site.database_url)

    def shown(*flags: str) -> list[int]:
        done = livesync("events", "notes", "--json", *flags, *place, ADMIN_SECRET=SECRET)
        assert done.returncode == 0, done.stderr
        return numbers(done.stdout)

    assert shown("--last", "3") == [28, 29, 30]
    assert shown("--last", "3", "--newest-first") == [30, 29, 28]
    assert shown("--newest-first", "--limit", "2") == [30, 29]
    assert shown("--newest-first", "--all") == list(range(30, 0, -1))
    assert shown("--last", "3", "--name", "nosuch") == []
    assert shown("--last", "100") == list(range(1, 31))


def test_a_number_and_the_end_contradict_each_other(run: Run) -> None:
    code, _, error = run("events", "notes", "--after", "3", "--last", "2")
    assert code == 2
    assert "give one of them" in error


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1_000])
def test_a_log_backwards_is_the_log(tmp_path: Path, count: int) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(count))
        log = target.reader.state(StoreId("notes"))
        assert log is not None
        assert [event.seq_num for event in newest_first(target.reader, log)] == list(range(count, 0, -1))
        if count:
            assert [event.seq_num for event in newest_first(target.reader, log, count)] == list(range(count - 1, 0, -1))


def test_large_events_are_not_gathered(tmp_path: Path) -> None:
    """Each is larger than half a page: no read may hold more than one page."""
    text = b'"' + b"x" * (READ_MAX_BYTES // 2 + 100) + b'"'
    entries = [entry._replace(json=entry.json.replace(b'{"n":', b'{"x":%b,"n":' % text)) for entry in plain_log(6)]
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", entries)
        log = target.reader.state(StoreId("notes"))
        assert log is not None
        assert [event.seq_num for event in newest_first(target.reader, log)] == [6, 5, 4, 3, 2, 1]


@pytest.fixture
def tailed(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """`livesync tail` of a store that nobody has pushed to."""
    process = subprocess.Popen(
        command("tail", "unborn", "--json", "--database-url", site.database_url),
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_a_tail_waits_for_a_store_to_be_born(site: Site, tailed: "subprocess.Popen[str]") -> None:
    assert tailed.stderr is not None
    assert tailed.stdout is not None
    assert "waiting for its first event" in tailed.stderr.readline()
    push(site.server.url, "unborn", 1, 2)
    assert numbers(tailed.stdout.readline()) == [1]


def completed(line: str, **variables: str) -> list[str]:
    words = {"_LIVESYNC_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "livesync_trio"],
        env=environment() | words | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return [one.partition(",")[2] for one in done.stdout.splitlines() if one]


def test_shells_complete_names_and_values(tmp_path: Path) -> None:
    with Opened(tmp_path / "live.db") as target:
        put(target, "notes", plain_log(1))
        put(target, "todos", plain_log(1))
    database = f"sqlite:///{tmp_path}/live.db"
    assert completed("livesync events no", DATABASE_URL=database) == ["notes"]
    assert completed("livesync events no", DATABASE_URL=f"sqlite:///{tmp_path}/none.db") == []
    assert completed("livesync serve --log-format j") == ["json"]


def test_a_command_that_is_not_there_is_guessed(run: Run) -> None:
    code, _, error = run("stroes")
    assert code == 2
    assert "'stores'" in error
