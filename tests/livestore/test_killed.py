"""kill -9 at each SQL statement of what a store does: the next start finds tables that are the fold of the log."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

import pytest

from livesync_trio.livestore.datafile import DataFile

from . import notebook
from .killed import ACTS, Killer, make, open_replica
from .model import Folder
from .test_against_model import read_log

STRIDE = 1 if os.environ.get("LIVESYNC_EVERY_STATEMENT") else 6
"""Of the statements the first and every sixth, from a random one on; with the variable in the environment, all of them.
Some acts have fewer than six."""


def contents(path: Path) -> tuple[int, list[tuple[str, str, str]], int]:
    """Upstream head, who committed what, head: as the next start finds them, with the tables compared to the log."""
    with DataFile(path, "store", "me", "process") as file:
        replica = open_replica(file)
        log = read_log(file)
        assert [event.parent_seq_num for event in log] == [0, *[event.seq_num for event in log]][:-1]
        folded = Folder(notebook.make_schema()).fold(log, notebook.READ)
        assert folded == {table: file.connection.execute(sql).fetchall() for table, sql in notebook.READ.items()}
        assert replica.head - replica.upstream_head == replica.pending
        return replica.upstream_head, [(event.client_id, event.name, event.args) for event in log], replica.head


@pytest.mark.parametrize("act", ACTS)
def test_a_store_killed_at_any_statement_has_done_it_or_not(tmp_path: Path, act: str) -> None:
    made = tmp_path / "made.db"
    if act != "make":
        make(made)
    before = contents(made) if act != "make" else (0, [], 0)
    outcomes = list[tuple[int, list[tuple[str, str, str]], int]]()
    with Killer() as killer:
        for number in itertools.chain([1], itertools.count(1 + random.randint(1, STRIDE), STRIDE)):
            path = tmp_path / f"killed-at-{number}.db"
            if act != "make":
                shutil.copyfile(made, path)
            killed = killer.killed_at(number, act, path)
            outcomes.append(contents(path))
            for left in tmp_path.glob(f"{path.name}*"):
                left.unlink()
            if not killed:
                break
    after = outcomes[-1]
    assert all(outcome in (before, after) for outcome in outcomes)
    mine = [event for event in before[1] if event[0] == "me"]
    assert all([event for event in log if event[0] == "me"][: len(mine)] == mine for _, log, _ in outcomes)
    assert outcomes[0] == before
    assert len(outcomes) > 1
