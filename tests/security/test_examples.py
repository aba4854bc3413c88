"""Every file in `examples/` is run, and does what it says."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from livesync_trio.config import Secret, load
from livesync_trio.errors import Kind
from livesync_trio.hooks import load_hooks
from tests.bad_input.clients import event, reason, sync_url
from tests.bad_input.servers import running_server
from tests.bad_input.websockets import WebSocket, upgrade
from tests.conformance.servers import REPOSITORY

from .tokens import SECRET, token

EXAMPLES = REPOSITORY / "examples"


def test_every_example_is_listed_and_tested() -> None:
    here = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".toml") or "receiver" in path.name}
    listed = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text()))
    assert here == listed
    tests = Path(__file__).read_text() + (REPOSITORY / "tests/delivery/test_examples.py").read_text()
    assert all(name in tests for name in here)


async def test_tenants(tmp_path: Path) -> None:
    secret = tmp_path / "jwt"
    secret.write_text(SECRET)
    file = tmp_path / "tenants.toml"
    file.write_text((EXAMPLES / "tenants.toml").read_text().replace("/run/secrets/livesync-jwt", str(secret)))
    config = load({"config": str(file)}, {})

    def payload(org: str, **others: Any) -> dict[str, str]:
        fields = {"sub": "ann", "org": org, "iss": "https://app.example", "aud": "livesync", "exp": time.time() + 60}
        return {"authToken": jwt.encode({**fields, **others}, SECRET)}

    names = ("jwt_secret", "jwt_issuer", "jwt_audience", "jwt_stores", "jwt_read_stores")
    settings = {name: getattr(config, name) for name in names}
    everywhere = payload("healthy", stores=["*"])
    async with running_server(payload=everywhere, **settings) as server:
        writer = await server.rpc("handbook")
        await writer.push(event(1, 0))
        ann = await server.rpc("team-acme/notes", payload=payload("acme"))
        await ann.check_works()
        reader = await server.rpc("handbook", payload=payload("acme"))
        assert len(await reader.pull()) == 1
        assert reason(await reader.push(event(2, 1)))[0] == Kind.NOT_ALLOWED
        for store, who in (
            ("team-beta/notes", payload("acme")),
            ("team-acme", payload("acme")),
            ("team-acme/notes", payload("acme", iss="https://evil.example")),
            ("team-acme/notes", payload("acme", aud="other")),
        ):
            assert (await server.ask(upgrade(sync_url(store, payload=who)))).status in (401, 403)
    assert config.store_id_pattern is not None
    assert re.fullmatch(config.store_id_pattern, "team-acme/notes")
    assert not re.fullmatch(config.store_id_pattern, "team-acme/../beta")


def test_fair_use() -> None:
    """The behaviour of each setting is tested in `test_fair_use`; here the file is read."""
    config = load({"config": str(EXAMPLES / "fair_use.toml")}, {})
    assert "pushes=100/min" in config.rate_principal
    assert (config.max_store_events, config.max_principal_stores) == (1_000_000, 50)


async def test_cookie_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = sqlite3.connect(tmp_path / "sessions.db")
    database.executescript(
        """CREATE TABLE sessions(id, user, expires); CREATE TABLE members(user, store, role);
        INSERT INTO sessions VALUES ('s-ann', 'ann', unixepoch() + 60), ('s-bob', 'bob', unixepoch() + 60),
            ('s-old', 'ann', unixepoch() - 1);
        INSERT INTO members VALUES ('ann', 'notes', 'editor'), ('bob', 'notes', 'reader');"""
    )
    monkeypatch.chdir(tmp_path)
    hooks = load_hooks(str(EXAMPLES / "cookie_session.py"))
    app = ("https://app.example",)
    healthy = {"authToken": token()}
    database.executescript(
        "".join(f"INSERT INTO members VALUES ('ann', '{store}', 'editor');" for store in ("store/ö 1", "another store"))
    )
    database.commit()

    async with running_server(hooks, cors_origins=app, jwt_secret=Secret(SECRET), payload=healthy) as server:

        async def knock(cookie: str, store: str = "notes", origin: str = app[0]) -> int:
            headers = (f"Cookie: theme=dark; session={cookie}", f"Origin: {origin}")
            return (await server.ask(upgrade(sync_url(store), *headers))).status

        assert await knock("s-ann") == 101
        assert await knock("s-bob") == 101
        assert await knock("s-old") == 401
        assert await knock("nonsense") == 401
        assert await knock("s-ann", store="diary") == 403
        assert await knock("s-ann", origin="https://evil.example") == 403
        wire = await server.wire()
        reader = await WebSocket.shake_hands(wire, sync_url("notes"), "Cookie: session=s-bob")
        client = type(await server.rpc("notes"))(reader.wire, "notes")
        assert reason(await client.push(event(1, 0)))[0] == Kind.NOT_ALLOWED
        editor = await WebSocket.shake_hands(await server.wire(), sync_url("notes"), "Cookie: session=s-ann")
        client = type(client)(editor.wire, "notes")
        assert (await client.push(event(1, 0)))["exit"]["_tag"] == "Success"
        database.execute("DELETE FROM members WHERE user = 'ann' AND store = 'notes'")
        database.commit()
        kind, words = reason(await client.push(event(2, 1)))
        assert (kind, words) == (Kind.NOT_ALLOWED, "You are not a member of this notebook.")
    database.close()


async def test_event_schemas() -> None:
    def todo(number: int, name: str, args: Any) -> dict[str, Any]:
        return {**event(number, number - 1, args), "name": name}

    hooks = load_hooks(str(EXAMPLES / "event_schemas.py"))
    async with running_server(jwt_secret=Secret(SECRET), payload={"authToken": token()}) as plain:
        await plain.check_works()
    assert hooks.on_push is not None
    checked = hooks.on_push

    def on_push(batch: Any, context: Any) -> None:
        if context.store_id == "todos":  # the healthy clients of these tests push something else on other stores
            checked(batch, context)

    from livesync_trio.hooks import Hooks

    async with running_server(
        Hooks(on_push=on_push), jwt_secret=Secret(SECRET), payload={"authToken": token()}
    ) as server:
        client = await server.rpc("todos")
        good = [todo(1, "v1.TodoCreated", {"id": "a", "text": "milk"}), todo(2, "v1.TodoCompleted", {"id": "a"})]
        assert (await client.push(*good))["exit"]["_tag"] == "Success"
        for name, args, words in (
            ("v1.TodoEaten", {}, "There is no event"),
            ("v1.TodoCreated", {"id": 7, "text": ""}, "Expected `str`"),
            ("v1.TodoCreated", {"id": "b"}, "missing required field"),
            ("v1.TodoCreated", {"id": "b", "text": "", "extra": 1}, "unknown field"),
            ("v1.TodoCreated", None, "Expected `object`"),
            ("v1.TodoCreated", {"id": "b", "text": "x" * 2001}, "at most 2000 characters"),
            ("v1.TodosCleared", {}, "Only an admin"),
        ):
            good_then_bad = [todo(3, "v1.TodoCompleted", {"id": "a"}), todo(4, name, args)]
            kind, message = reason(await client.push(*good_then_bad))
            assert (kind, words in message) == (Kind.HOOK_REFUSED, True), message
        assert len(await client.pull()) == 2
        admin = await server.rpc("todos", payload={"authToken": token(role="admin")})
        assert (await admin.push(todo(3, "v1.TodosCleared", {})))["exit"]["_tag"] == "Success"
