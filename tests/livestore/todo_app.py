"""A Python program with a store, in a process of its own: the application of `tests/clients/runtime-0.4/schema.mjs`.

Steered by JSON lines on standard input, as the real ones are. What it has committed it says at once, so that a killed
one can be asked for what it had promised.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from livesync_trio.livestore import BlockingStore, Schema, Statement, open_store_blocking

ROOT = Path(__file__).resolve().parents[2]

schema = Schema("""
    CREATE TABLE todos (id TEXT PRIMARY KEY NOT NULL, text TEXT NOT NULL, completed INTEGER NOT NULL) STRICT;
    CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
""")


@schema.event("v1.TodoCreated")
class TodoCreated(msgspec.Struct):
    id: str
    text: str


@schema.event("v1.TodoCompleted")
class TodoCompleted(msgspec.Struct):
    id: str


@schema.event("v1.SettingSet")
class SettingSet(msgspec.Struct):
    key: str
    value: str


@schema.materializer(TodoCreated)
def create(event: TodoCreated) -> Statement:
    return "INSERT INTO todos VALUES (?, ?, 0)", (event.id, event.text)


@schema.materializer(TodoCompleted)
def complete(event: TodoCompleted) -> Statement:
    return "UPDATE todos SET completed = 1 WHERE id = ?", (event.id,)


@schema.materializer(SettingSet)
def set_setting(event: SettingSet) -> Iterator[Statement]:
    yield (
        "INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        (event.key, event.value),
    )


EVENTS = {"todoCreated": TodoCreated, "todoCompleted": TodoCompleted, "settingSet": SettingSet}


def tables_of(store: Any) -> dict[str, Any]:
    """As `App.tables` of the real runtime gives them."""
    todos = [{**row, "completed": bool(row["completed"])} for row in store.query("SELECT * FROM todos ORDER BY id")]
    return {"todos": todos, "settings": store.query("SELECT * FROM settings ORDER BY key")}


class PythonApp:
    """The process, as a test sees it."""

    def __init__(self, path: Path, url: str, store_id: str, client_id: str) -> None:
        self.name = client_id
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.livestore.todo_app", str(path), url, store_id, client_id],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._ask(None) == "ready"

    def _send(self, request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _ask(self, request: Any) -> Any:
        if request is not None:
            self._send(request)
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def start_committing(self, commits: list[tuple[str, dict[str, Any]]], every_ms: int = 0) -> None:
        self._send({"op": "commit", "commits": commits, "everyMs": every_ms})

    def committed(self, count: int) -> list[str]:
        """Wait until so many more are committed; gives what each was."""
        assert self._process.stdout is not None
        return [json.loads(self._process.stdout.readline()) for _ in range(count)]

    def tables(self) -> Any:
        return self._ask({"op": "tables"})

    def is_settled_at(self, head: int) -> bool:
        status = self._ask({"op": "status"})
        return bool(status == [head, head, 0])

    def sync_states(self) -> Any:
        return self._ask({"op": "status"})

    def kill(self) -> list[str]:
        """kill -9; gives what it had committed before, and nobody had asked for."""
        assert self._process.stdout is not None
        self._process.kill()
        rest = [json.loads(line) for line in self._process.stdout if line.endswith("\n")]
        self.close()
        return rest

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def _serve(store: BlockingStore) -> None:
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        match request["op"]:
            case "commit":
                for name, args in request["commits"]:
                    store.commit(EVENTS[name](**args))
                    _say(f"{name} {args.get('id', args.get('value'))}")
                    time.sleep(request["everyMs"] / 1000)
            case "tables":
                _say(tables_of(store))
            case "status":
                status = store.sync_status
                _say([status.head, status.upstream_head, status.pending])


if __name__ == "__main__":
    path, url, store_id, client_id = sys.argv[1:]
    with open_store_blocking(path, schema, store_id=store_id, url=url, client_id=client_id) as opened:
        _serve(opened)
