"""Going back: which identity a store gets, and that no acknowledged event is given up unsaid (decision 0007)."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from livesync_trio.archive.restoring import Claim, Relation, verdict
from livesync_trio.archive.staging import adopt, stage
from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage.base import Reset
from tests.archive.conftest import Run
from tests.archive.logs import Opened, plain_log, put
from tests.storage.making import append, run_of


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "live.db"


@pytest.fixture
def backup(run: Run, database: Path, tmp_path: Path) -> Path:
    """A backup of two stores, five events each."""
    with Opened(database) as target:
        put(target, "notes", plain_log(5), "identity-of-notes")
        put(target, "todos", plain_log(5), "identity-of-todos")
    assert run("backup", str(tmp_path / "backup.jsonl"), "--database-url", f"sqlite:///{database}")[0] == 0
    return tmp_path / "backup.jsonl"


def state(database: Path, store: str = "notes") -> LogState:
    with Opened(database) as target:
        found = target.reader.state(StoreId(store))
    assert found is not None
    return found


def go_on(database: Path, store: str = "notes") -> None:
    """Three more acknowledged events."""
    with Opened(database) as target:
        found = target.reader.state(StoreId(store))
        assert found is not None
        target.one(append(store, found, run_of(3, after=5)))


def restore(run: Run, backup: Path, database: Path, *flags: str) -> dict[str, dict[str, object]]:
    """Restore; what came of each store."""
    code, out, error = run("restore", str(backup), "--json", "--database-url", f"sqlite:///{database}", *flags)
    assert code == 0, error
    return {one["storeId"]: one for one in map(json.loads, out.splitlines())}


def test_into_an_empty_database_clients_start_over(run: Run, backup: Path, tmp_path: Path) -> None:
    done = restore(run, backup, tmp_path / "new.db")["notes"]
    found = state(tmp_path / "new.db")
    assert (found.head, found.event_count) == (5, 5)
    assert found.backend_id == done["backendId"] != "identity-of-notes"
    assert done["keptIdentity"] is False
    assert "nobody knows" in str(done["reason"])


def test_a_backup_that_is_said_to_be_complete_keeps_the_identity(run: Run, backup: Path, tmp_path: Path) -> None:
    done = restore(run, backup, tmp_path / "new.db", "--complete")["notes"]
    assert done["keptIdentity"] is True
    assert state(tmp_path / "new.db").backend_id == "identity-of-notes"


def test_what_is_there_already_is_left_alone(run: Run, backup: Path, database: Path) -> None:
    before = state(database)
    done = restore(run, backup, database)["notes"]
    assert (done["outcome"], done["keptIdentity"]) == ("nothing to do", True)
    assert state(database) == before


def test_to_go_back_behind_acknowledged_events_gives_another_identity(run: Run, backup: Path, database: Path) -> None:
    go_on(database)
    done = restore(run, backup, database, "--store", "notes")["notes"]
    assert (done["outcome"], done["lostEvents"], done["keptIdentity"]) == ("restored", 3, False)
    found = state(database)
    assert found.head == 5
    assert found.backend_id != "identity-of-notes"


def test_complete_is_refuted_by_what_the_database_holds(run: Run, backup: Path, database: Path) -> None:
    go_on(database)
    before = state(database)
    code, _, error = run(
        "restore", str(backup), "--complete", "--store", "notes", "--database-url", f"sqlite:///{database}"
    )
    assert code == 8
    assert "acknowledged events that the backup has not" in error
    assert state(database) == before


def test_a_log_that_took_another_way_is_never_given_the_old_identity(run: Run, backup: Path, database: Path) -> None:
    with Opened(database) as target:
        other = [entry._replace(json=entry.json.replace(b'"n"', b'"m"')) for entry in plain_log(5)]
        target.one(Reset(StoreId("notes")))
        empty = target.reader.state(StoreId("notes"))
        staged = stage(target, StoreId("notes"), lambda: iter(other))
        adopt(target, StoreId("notes"), staged, BackendId("identity-of-notes"), empty)
    arguments = ("--store", "notes", "--database-url", f"sqlite:///{database}")
    assert run("restore", str(backup), "--complete", *arguments)[0] == 8
    done = restore(run, backup, database, "--store", "notes")["notes"]
    assert (done["lostEvents"], done["keptIdentity"]) == (5, False)


def test_nothing_is_replaced_that_is_not_named(run: Run, backup: Path, database: Path) -> None:
    go_on(database)
    before = state(database)
    code, _, error = run("restore", str(backup), "--database-url", f"sqlite:///{database}")
    assert code == 8
    assert "'notes' has 8 events" in error
    assert "--store" in error
    assert "--yes" in error
    assert state(database) == before
    assert restore(run, backup, database, "--yes")["notes"]["outcome"] == "restored"


def test_to_restore_again_does_nothing(run: Run, backup: Path, database: Path) -> None:
    go_on(database)
    restore(run, backup, database, "--yes")
    before = state(database)
    assert restore(run, backup, database)["notes"]["outcome"] == "nothing to do"
    assert state(database) == before


def test_after_a_reset_the_store_of_the_backup_comes_back(run: Run, backup: Path, database: Path) -> None:
    with Opened(database) as target:
        target.one(Reset(StoreId("notes")))
    done = restore(run, backup, database, "--complete", "--store", "notes")["notes"]
    assert done["keptIdentity"] is True
    assert state(database).event_count == 5


def test_a_damaged_backup_touches_nothing(run: Run, backup: Path, database: Path) -> None:
    go_on(database)
    before = state(database)
    backup.write_bytes(backup.read_bytes().replace(b'{"n":5}', b'{"n":6}', 1))
    code, _, error = run("restore", str(backup), "--yes", "--database-url", f"sqlite:///{database}")
    assert code == 7
    assert "checksum" in error
    assert state(database) == before


def test_a_dry_run_changes_nothing(run: Run, backup: Path, database: Path, tmp_path: Path) -> None:
    go_on(database)
    before = state(database)
    code, out, _ = run("restore", str(backup), "--dry-run", "--json", "--database-url", f"sqlite:///{database}")
    assert code == 0
    assert [json.loads(one)["inItsPlace"] for one in out.splitlines()] == [
        Relation.AHEAD.value,
        Relation.SAME.value,
    ]
    assert state(database) == before
    assert run("restore", str(backup), "--dry-run", "--database-url", f"sqlite:///{tmp_path}/none.db")[0] == 0
    assert not (tmp_path / "none.db").exists()


def test_a_store_that_the_backup_has_not_is_told(run: Run, backup: Path, database: Path) -> None:
    code, _, error = run("restore", str(backup), "--store", "nope", "--database-url", f"sqlite:///{database}")
    assert code == 6
    assert "'nope'" in error


@pytest.mark.parametrize("relation", Relation)
def test_an_identity_is_kept_only_where_somebody_says_so(relation: Relation) -> None:
    assert not verdict(relation, Claim.UNKNOWN).keeps_identity
    assert not verdict(relation, Claim.LOST_TAIL).keeps_identity
    decide: Callable[[], object] = lambda: verdict(relation, Claim.COMPLETE).keeps_identity  # noqa: E731
    if relation in {Relation.AHEAD, Relation.DIVERGED}:
        with pytest.raises(ValueError, match="not complete"):
            decide()
    else:
        assert decide()


def test_a_copy_by_another_tool_gets_a_new_identity_by_three_commands(run: Run, backup: Path, database: Path) -> None:
    """What a Litestream restore or a snapshot gives: the file as it was at an earlier moment (docs/backup.md)."""
    earlier, now = sqlite3.connect(database.with_name("earlier.db")), sqlite3.connect(database)
    now.backup(earlier)
    earlier.close()
    now.close()
    go_on(database)
    database.with_name("earlier.db").replace(database)
    place, copy = f"sqlite:///{database}", str(database.with_name("now.jsonl"))
    assert run("verify", "--database-url", place)[0] == 0
    assert state(database).backend_id == "identity-of-notes"
    assert run("backup", copy, "--database-url", place)[0] == 0
    assert run("restore", copy, "--lost-tail", "--yes", "--database-url", place)[0] == 0
    found = state(database)
    assert (found.head, found.event_count) == (5, 5)
    assert found.backend_id != "identity-of-notes"


def test_what_is_refuted_for_one_store_replaces_no_other(run: Run, backup: Path, database: Path) -> None:
    with Opened(database) as target:
        target.one(Reset(StoreId("notes")))
    go_on(database, "todos")
    before = state(database), state(database, "todos")
    flags = ("--complete", "--yes", "--database-url", f"sqlite:///{database}")
    code, out, error = run("restore", str(backup), *flags)
    assert (code, out) == (8, "")
    assert "'todos' cannot be restored with --complete" in error
    assert (state(database), state(database, "todos")) == before


def test_a_dry_run_says_what_would_be_given_up(run: Run, backup: Path, database: Path) -> None:
    go_on(database)
    told = restore(run, backup, database, "--dry-run", "--yes")
    assert (told["notes"]["lostEvents"], told["todos"]["lostEvents"]) == (3, 0)
    assert told["notes"]["outcome"] == "would be restored"


def test_a_store_that_was_reset_since_is_told_as_that(run: Run, backup: Path, database: Path) -> None:
    with Opened(database) as target:
        target.one(Reset(StoreId("notes")))
    told = restore(run, backup, database, "--dry-run", "--yes")
    assert told["notes"]["inItsPlace"] == Relation.RESET.value == "it was reset since, and is empty"
    assert told["notes"]["lostEvents"] == 0
    with Opened(database) as target:
        found = target.reader.state(StoreId("notes"))
        assert found is not None
        target.one(append("notes", found, run_of(2)))
    told = restore(run, backup, database, "--dry-run", "--yes")
    assert (told["notes"]["inItsPlace"], told["notes"]["lostEvents"]) == (Relation.OTHER.value, 2)


def test_whose_clients_go_on_after_a_reset_is_told(run: Run, backup: Path, database: Path) -> None:
    with Opened(database) as target:
        target.one(Reset(StoreId("notes")))
    done = restore(run, backup, database, "--complete", "--store", "notes")["notes"]
    assert done["keptIdentity"] is True
    assert "those that have synced with what is there now start over" in str(done["reason"])


def test_an_import_under_way_is_not_restored(run: Run, tmp_path: Path) -> None:
    with Opened(tmp_path / "one.db") as target:
        stage(target, StoreId("half"), lambda: iter(plain_log(2)))
    staged, url = "livesync-staged/half", f"sqlite:///{tmp_path}/one.db"
    assert run("export", str(tmp_path / "staged.jsonl"), "--store", staged, "--database-url", url)[0] == 0
    code, _, error = run("restore", str(tmp_path / "staged.jsonl"), "--database-url", f"sqlite:///{tmp_path}/two.db")
    assert code == 7
    assert "was an import under way" in error
