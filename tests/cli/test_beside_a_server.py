"""Commands on a database that a server uses: what reads may, what changes may not."""

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from livesync_trio.archive.files import part_of
from livesync_trio.client import open_backend_blocking
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import LIMIT_S, Livesync, Site, command, environment, push
from tests.conformance.events import chain, python_events


def test_what_reads_reads_what_was_acknowledged_a_moment_ago(site: Site, livesync: Livesync) -> None:
    listed = livesync("stores", "--json", "--database-url", site.database_url)
    assert listed.returncode == 0, listed.stderr
    assert [(one["storeId"], one["head"]) for one in map(json.loads, listed.stdout.splitlines())] == [
        ("a b", 5),
        ("notes", 30),
    ]
    push(site.server.url, "notes", 31, 1)
    events = livesync("events", "notes", "--after", "29", "--json", "--database-url", site.database_url)
    assert [json.loads(line)["seqNum"] for line in events.stdout.splitlines()] == [30, 31]
    verified = livesync("verify", "--database-url", site.database_url)
    assert (verified.returncode, verified.stdout) == (0, "2 stores, 36 events: all is well\n")
    push(site.server.url, "notes", 32, 1)  # and the server has not been disturbed


@pytest.mark.parametrize(
    "arguments", [("reset", "notes", "--yes"), ("import", "{file}"), ("restore", "{file}", "--yes", "--lost-tail")]
)
def test_what_changes_is_refused_and_told_what_to_do(
    site: Site, livesync: Livesync, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    file = str(tmp_path / "out.jsonl")
    assert livesync("export", file, "--database-url", site.database_url).returncode == 0
    words = [word.format(file=file) for word in arguments]
    refused = livesync(*words, "--database-url", site.database_url)
    assert refused.returncode == 3
    assert "is in use by another livesync server" in refused.stderr
    assert "--url" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    with open_backend_blocking(site.server.url, store_id="notes") as client:
        assert sum(len(page.events) for page in client.pull()) == 30


def test_a_backup_is_of_one_moment_while_clients_push(site: Site, livesync: Livesync, tmp_path: Path) -> None:
    stop = threading.Event()
    pushed = 0

    def go_on() -> None:
        nonlocal pushed
        with (
            open_backend_blocking(site.server.url, store_id="a b") as one,
            open_backend_blocking(site.server.url, store_id="notes") as other,
        ):
            while not stop.is_set():
                one.push(python_events(chain(6 + pushed, 1)))
                other.push(python_events(chain(31 + pushed, 1)))
                pushed += 1

    pushing = threading.Thread(target=go_on)
    pushing.start()
    try:
        for number in range(3):
            path = tmp_path / f"{number}.jsonl.gz"
            saved = livesync("backup", str(path), "--json", "--database-url", site.database_url)
            assert saved.returncode == 0, saved.stderr
    finally:
        stop.set()
        pushing.join()
    assert pushed > 10
    for number in range(3):
        listed = livesync("verify", "--json", "--file", str(tmp_path / f"{number}.jsonl.gz"))
        first, second = map(json.loads, listed.stdout.splitlines())
        # `a b` is pushed first, then `notes`: one moment never shows them further apart.
        assert 0 <= (first["events"] - 5) - (second["events"] - 30) <= 1


def test_a_running_server_is_asked_over_its_control_plane(site: Site, livesync: Livesync) -> None:
    there = {"LIVESYNC_URL": site.control, "ADMIN_SECRET": "an-admin-secret-for-tests"}
    listed = livesync("stores", "--json", **there)
    assert listed.returncode == 0, listed.stderr
    assert [one["storeId"] for one in map(json.loads, listed.stdout.splitlines())] == ["a b", "notes"]
    events = livesync("events", "notes", "--after", "28", "--json", **there)
    direct = livesync("events", "notes", "--after", "28", "--json", "--database-url", site.database_url)
    assert events.stdout == direct.stdout
    assert len(events.stdout.splitlines()) == 2
    assert json.loads(livesync("info", "--json", **there).stdout)["engine"] == "sqlite"
    with open_backend_blocking(site.server.url, store_id="notes"):
        connected = livesync("connections", "--json", **there)
    assert [json.loads(one)["storeId"] for one in connected.stdout.splitlines()] == ["notes"]
    assert livesync("events", "nope", **there).returncode == 6
    reset = livesync("reset", "notes", "--yes", "--json", **there)
    assert reset.returncode == 0, reset.stderr
    assert json.loads(reset.stdout)["head"] == 0
    with open_backend_blocking(site.server.url, store_id="notes") as client:
        assert [(page.backend_id, page.events) for page in client.pull()] == [
            (json.loads(reset.stdout)["backendId"], ())
        ]


def test_a_wrong_secret_and_a_server_that_is_not_there_are_told(site: Site, livesync: Livesync) -> None:
    wrong = livesync("stores", "--url", site.control, ADMIN_SECRET="wrong")
    assert wrong.returncode == 9
    assert "the admin secret is wrong" in wrong.stderr
    assert livesync("stores", "--url", site.control).returncode == 2
    gone = livesync("stores", "--url", "http://127.0.0.1:1", ADMIN_SECRET="an-admin-secret-for-tests")
    assert gone.returncode == 9
    assert len(gone.stderr.splitlines()) == 1
    sync_port = livesync("stores", "--url", site.server.url, ADMIN_SECRET="an-admin-secret-for-tests")
    assert sync_port.returncode in {6, 9}
    assert "Traceback" not in sync_port.stderr


def test_a_slow_backup_is_not_mixed_with_a_later_one_of_the_same_file(livesync: Livesync, tmp_path: Path) -> None:
    """The slow one stands still in the middle of its file; the later one is refused, and the first ends whole."""
    with Opened(tmp_path / "one.db") as target:
        put(target, "notes", plain_log(20_000))
    file, database = tmp_path / "b.jsonl", ("--database-url", f"sqlite:///{tmp_path}/one.db")
    slow = _stopped_while_it_writes(tmp_path, "backup", str(file), "--overwrite", *database)
    try:
        later = livesync("backup", str(file), "--overwrite", *database)
        assert (later.returncode, "is being written by another process" in later.stderr) == (8, True), later.stderr
    finally:
        slow.send_signal(signal.SIGCONT)
    assert slow.wait(LIMIT_S) == 0
    verified = livesync("verify", "--file", str(file))
    assert (verified.returncode, verified.stdout) == (0, "1 store, 20,000 events: all is well\n")


def _stopped_while_it_writes(directory: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A command that was stopped with a part of its file written; begun again if it had ended before that."""
    file = Path(arguments[1])
    while True:
        process = subprocess.Popen(command(*arguments), cwd=directory, env=environment(), stdout=subprocess.DEVNULL)
        part = part_of(file)
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            if part.exists():
                return process
            process.send_signal(signal.SIGCONT)
        process.wait(LIMIT_S)
