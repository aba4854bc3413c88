"""What events may look like: appends, pushes of clients, and what is in the log already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from livesync_trio.cli.main import livesync
from livesync_trio.config import Secret
from livesync_trio.errors import CommandError, Kind
from livesync_trio.rules.schemas import BadSchemas, EventSchemas
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.api.serving import TOKEN, api
from tests.bad_input.clients import event, reason
from tests.storage.making import Database, run_of

SCHEMAS = {
    "todoAdded": {
        "type": "object",
        "required": ["text"],
        "properties": {"text": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    }
}


@pytest.fixture
def schemas(tmp_path: Path) -> str:
    path = tmp_path / "schemas.json"
    path.write_text(json.dumps(SCHEMAS))
    return str(path)


async def test_appends_are_refused_with_path_and_reason(schemas: str) -> None:
    async with api(event_schemas=schemas) as program:
        bad = {"type": "todoAdded", "data": {"text": "x", "tags": ["a", 7]}}
        answer = await program.post({"events": [{"type": "todoAdded", "data": {"text": "x"}}, bad]})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-event")
        assert "Event 1" in answer.json()["detail"]
        assert "data.tags[1]: 7 is not of type" in answer.json()["detail"]
        good = {"type": "todoAdded", "data": {"text": "x"}}
        assert await program.appended({"type": "other", "data": 5}, good) == [1, 2]
        client = await program.dialect()
        assert (await client.ask(type="push", events=[bad]))["code"] == "invalid-event"


async def test_unknown_types_are_refused_where_that_is_wanted(schemas: str) -> None:
    async with api(event_schemas=schemas, event_schemas_unknown="refuse") as program:
        answer = await program.post({"type": "other"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-event")


@pytest.mark.parametrize("mode", ["off", "log", "refuse"])
async def test_pushes_of_clients(schemas: str, mode: Any) -> None:
    async with api(event_schemas=schemas, event_schemas_pushes=mode, metrics_token=Secret(TOKEN)) as program:
        client = await program.server.rpc("pushes")
        bad = {**event(1, 0), "name": "todoAdded", "args": {"text": 7}}
        answer = await client.push(bad)
        if mode == "refuse":
            assert reason(answer)[0] == Kind.INVALID_EVENT
            assert await client.pull() == []
        else:
            assert answer["exit"]["_tag"] == "Success", answer
        logged = program.server.logged("a push does not fit the schemas of events")
        assert len(logged) == (mode == "log")
        page = await program.http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
        assert f"livesync_pushes_misfitting_total {float(mode == 'log')}" in page.text


def test_what_is_no_schema_is_told() -> None:
    for text, reason_ in ((b"nonsense", "not JSON"), (b"[]", "not a JSON object"), (b'{"a":{"type":"x"}}', "'a'")):
        with pytest.raises(BadSchemas, match=reason_):
            EventSchemas.of(text)


def test_a_schema_that_would_be_fetched_is_refused() -> None:
    with pytest.raises(BadSchemas, match="'a'"):
        EventSchemas.of(b'{"a":{"$ref":"http://127.0.0.1:1/schema.json"}}')


def test_verify_lists_what_does_not_fit(tmp_path: Path, schemas: str) -> None:
    database = Database(lambda: SqliteEngine(tmp_path / "live.db"))
    database.filled("good", run_of(2, args=b'{"text":"x"}'))
    database.filled("bad", run_of(1, args=b'{"text":"x"}'), run_of(1, after=1, args=b"[]"))
    database.stop()
    asked = ["verify", "--schemas", schemas, "--database-url", f"sqlite:///{tmp_path}/live.db"]
    result = CliRunner().invoke(livesync, asked)
    assert "Store 'bad': e2 does not fit: 'todoAdded': data: [] is not of type" in result.output
    assert "'good'" not in result.output
    assert isinstance(result.exception, CommandError)
    assert result.exception.kind is Kind.CHECKS_FAILED
