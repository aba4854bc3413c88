"""The true names of the FastAPI server's stores; its settings, its tokens; and a start beside what was left behind."""

import json
import time
from pathlib import Path

import jwt
import psycopg
import pytest

from livesync_trio.access.authentication import tokens_in
from livesync_trio.access.grants import Grants
from livesync_trio.archive.sources.fastapi import table_of
from livesync_trio.config import load
from livesync_trio.hooks import HookContext
from tests.archive.conftest import Run
from tests.archive.test_fastapi import TABLE
from tests.postgres.server import fresh_schema

WORKSPACES = """
    CREATE TABLE workspaces (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(), name TEXT NOT NULL, database_name VARCHAR(255) UNIQUE NOT NULL,
        owner_id UUID, created_at TIMESTAMPTZ DEFAULT now()
    )
"""
SECRET = "a-secret-of-at-least-thirty-two-bytes"


@pytest.fixture
def theirs(tmp_path: Path) -> str:
    """A database of theirs whose tables were made by the names of their stores."""
    url = fresh_schema(f"{tmp_path}-theirs")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(WORKSPACES)
        for name in ("ws_Team-1", "case-1", "Case_1"):
            connection.execute("INSERT INTO workspaces (name, database_name) VALUES ('w', %s)", (name,))
        for store in ("ws_team_1", "mynotes", "case_1"):
            connection.execute(TABLE.format(store=store))
            connection.execute(f"INSERT INTO eventlog_7_{store} VALUES (1, 0, 'n', '{{}}', now(), 'c', 's')")
    return url


@pytest.mark.parametrize(
    ("store", "table"),
    [
        ("MyNotes", "eventlog_7_mynotes"),
        ("a-b c", "eventlog_7_a_b_c"),
        ("x" * 80, "eventlog_7_" + "x" * 52),
    ],
    ids=["capitals", "signs", "long"],
)
def test_the_table_of_a_store(store: str, table: str) -> None:
    assert table_of(store) == table


def test_true_names_come_from_the_operator_and_from_workspaces(run: Run, theirs: str, tmp_path: Path) -> None:
    ours = f"sqlite:///{tmp_path}/live.db"
    code, out, _ = run("import", theirs, "--dry-run", "--json", "--database-url", ours)
    looked = {one["place"]: one for one in map(json.loads, out.splitlines())}
    assert code == 7
    assert looked["eventlog_7_ws_team_1"]["storeId"] == "ws_Team-1"
    assert not any("may have been" in note for note in looked["eventlog_7_ws_team_1"]["notes"])
    assert looked["eventlog_7_mynotes"]["notes"][:2] == [
        "every letter may have been a capital",
        "if it was another name, give it by --store or --rename",
    ]
    assert looked["eventlog_7_case_1"]["outcome"] == "refused"
    assert "several stores share this table ('Case_1', 'case-1')" in looked["eventlog_7_case_1"]["problems"][0]
    code, out, error = run(
        "import", theirs, "--store", "MyNotes", "--store", "case-1", "--json", "--database-url", ours
    )
    assert code == 0, error
    assert {json.loads(line)["storeId"] for line in out.splitlines()} == {"MyNotes", "case-1"}


def test_a_url_of_sqlalchemy_is_told(run: Run, tmp_path: Path) -> None:
    code, out, error = run(
        "import", "postgresql+asyncpg://u:hunter2@h/d", "--database-url", f"sqlite:///{tmp_path}/live.db"
    )
    assert code == 2
    assert "write postgresql://" in error
    assert "hunter2" not in out + error


def test_a_server_does_not_begin_beside_what_was_left_behind(run: Run, theirs: str, tmp_path: Path) -> None:
    code, _, error = run("serve", "--database-url", theirs)
    assert code == 4
    assert "3 stores of the FastAPI server" in error
    assert "livesync import" in error


def test_its_settings_are_told_and_one_name_alone_is_anybodys() -> None:
    config = load({}, {"JWT_SECRET": SECRET, "CORS_ORIGINS": "https://a.example", "PULL_CHUNK_SIZE": "100"})
    assert len(config.remarks) == 3
    assert any("here it is LIVESYNC_CORS_ORIGINS" in remark for remark in config.remarks)
    assert SECRET not in "".join(config.remarks)
    assert load({}, {"JWT_SECRET": SECRET}).remarks == ()


@pytest.mark.parametrize("member", ["authToken", "jwtToken", "jwt", "auth"])
def test_its_clients_send_their_token_under_other_names(member: str) -> None:
    context = HookContext("s", {member: "token", "workspaceId": "w"}, {}, "127.0.0.1:1")
    assert list(tokens_in(context, None)) == ["token"]


def test_its_claim_opens_the_workspaces_that_it_lists_and_no_other() -> None:
    token = jwt.encode(
        {
            "sub": "8f14e45f-ceea-467f-a8a1-0123456789ab", "email": "ann@example.org", "type": "access",
            "workspaces": [{"id": "1", "database_name": "ws_1", "role": "member"}, {"id": "2"}, 3],
            "exp": int(time.time()) + 60,
        },
        SECRET,
        algorithm="HS256",
    )  # fmt: skip
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    grants = Grants(write_claim="workspaces")
    assert grants.may_push(claims, "ws_1")
    assert not any(grants.may_pull(claims, other) for other in ("ws_2", "1", "2", "3", ""))
    assert grants.patterns(claims) == (["ws_1"], [])
