"""Finding out whether writing works, without changing anything."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.postgres.server import fresh_schema
from tests.storage.making import Database, chain


def test_a_proof_changes_nothing(db: Database) -> None:
    state = db.filled("s", chain(1, 2))
    db.writer.prove_writable()
    assert db.state("s") == state
    db.append("s", state, chain(3, after=2))


def test_a_proof_is_written_to_the_file(sqlite: Database, tmp_path: Path) -> None:
    wal = tmp_path / "live.db-wal"
    sqlite.writer.prove_writable()
    before = wal.stat().st_size
    sqlite.writer.prove_writable()
    assert wal.stat().st_size > before


def test_a_proof_needs_no_rights_that_a_role_has_not_by_itself(tmp_path: Path) -> None:
    with psycopg.connect(fresh_schema(str(tmp_path)), autocommit=True) as connection:
        connection.execute("SET ROLE pg_read_all_stats")
        connection.execute("SELECT pg_logical_emit_message(true, 'livesync', '')")
