"""A real LiveStore application: the published 0.4.0 runtime with a schema of its own, one Node process per instance."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .events import JsonObject
from .node_driver import NodeDriver

SIMULATION_OFF = ("--import", "./simulation-off.mjs")


@dataclass(frozen=True)
class Commit:
    """One commit of the application: the name of an event in ``schema.mjs`` and its arguments."""

    event: str
    args: JsonObject


def todo_created(todo_id: str) -> Commit:
    """A new row; committing it twice would violate its primary key."""
    return Commit("todoCreated", {"id": todo_id, "text": f"Todo {todo_id}"})


def todo_completed(todo_id: str) -> Commit:
    """A change of a row."""
    return Commit("todoCompleted", {"id": todo_id})


def setting_set(key: str, value: str) -> Commit:
    """The last writer wins, so that two clients agree on it only when they applied the same order."""
    return Commit("settingSet", {"key": key, "value": value})


class App:
    """One application process, which may open one store after another."""

    def __init__(self, name: str, log: Path, *, simulation_off: bool = False) -> None:
        self.name = name
        self.driver = NodeDriver("runtime-0.4", log, SIMULATION_OFF if simulation_off else ())
        self._store_id = ""

    def _call(self, op: str, **request: Any) -> Any:
        return self.driver.call(op, store=self._store_id, **request)

    def open(self, url: str, store_id: str, **options: Any) -> None:
        """Create the store and connect it; ``directory`` keeps it on disk."""
        self._store_id = store_id
        self._call("open", url=url, storeId=store_id, clientId=self.name, **options)

    def start_committing(self, commits: Sequence[Commit], every_ms: int, *, confirmed: bool = False) -> Future[Any]:
        """Commit one after another; the future is done after the last.

        ``every_ms`` is the pace. With ``confirmed``, each commit also waits until the server has confirmed the one
        before: the published runtime may drop what is committed while it rebases (SPEC section 2), and on a slow
        machine a rebase takes longer than any pace.
        """
        encoded = [{"event": commit.event, "args": commit.args} for commit in commits]
        return self.driver.start(
            "commitAll", store=self._store_id, commits=encoded, everyMs=every_ms, confirmed=confirmed
        )

    def commit(self, *commits: Commit, every_ms: int) -> None:
        """Commit at a pace and wait until the last is committed (not until it is synced)."""
        self.start_committing(commits, every_ms).result(60)

    def tables(self) -> JsonObject:
        """The materialized tables, each ordered by its key."""
        tables: JsonObject = self._call("tables")
        return tables

    def is_settled_at(self, head: int) -> bool:
        """Whether the server has confirmed everything up to ``head`` and nothing is pending, in leader and session."""
        states: dict[str, dict[str, int]] = self._call("syncStates")
        return all(state["pending"] == 0 and state["upstreamHead"] == head for state in states.values())

    def sync_states(self) -> JsonObject:
        """For the message of a failure."""
        states: JsonObject = self._call("syncStates")
        return states

    def shutdown(self) -> None:
        """Close the store, as an application that is closed does."""
        self._call("shutdown")

    def close(self) -> None:
        """End the process."""
        self.driver.close()
