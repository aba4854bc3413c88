"""Tenants cannot reach each other through any door of the API, and reading is not writing."""

from __future__ import annotations

from typing import Any

import pytest

from livesync_trio.config import Secret
from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.model import Principal
from tests.api.serving import STREAM, Program, api, path_of
from tests.bad_input.websockets import upgrade
from tests.bad_input.wires import Wire, head
from tests.security.tokens import SECRET, token

TENANTS = ("acme", "beta")
SETTINGS: dict[str, Any] = {"jwt_secret": Secret(SECRET), "jwt_leeway_s": 0.0, "payload": {"authToken": token()}}


async def doors(program: Program, store: str, bearer: str) -> list[int]:
    """Statuses of everything that can be asked of a store."""
    headers = {"authorization": f"Bearer {bearer}"}
    http, path = program.http, path_of(store)
    wire = await program.server.wire()
    return [
        (await http.post(path, json={"type": "a"}, headers=headers)).status_code,
        (await http.get(path, headers=headers)).status_code,
        (await http.get(path, headers={**headers, "accept": "application/x-ndjson"})).status_code,
        (await http.get(path_of(store, ""), headers=headers)).status_code,
        (await http.get(path_of(store, "/sessions"), headers=headers)).status_code,
        (await program.server.ask(upgrade(path, f"authorization: Bearer {bearer}"))).status,
        (await program.server.ask(upgrade(f"{path}?token={bearer}"))).status,
        await _first_status(wire, head(f"GET {path}?token={bearer} HTTP/1.1", f"accept: {STREAM['accept']}")),
    ]


async def _first_status(wire: Wire, request: bytes) -> int:
    await wire.send(request)
    line = await wire.read_until(b"\r\n")
    await wire.close()
    return int(line.split()[1])


@pytest.mark.parametrize("own", TENANTS)
async def test_the_matrix(own: str) -> None:
    """Each tenant's token, each tenant's stores, every door."""
    async with api(jwt_stores=("team-{org}", "team-{org}/*"), **SETTINGS) as program:
        bearer = token(stores=[], org=own)
        for org in TENANTS:
            for store in (f"team-{org}", f"team-{org}/notes"):
                expected = [201, 200, 200, 200, 200, 101, 101, 200] if org == own else [403] * 8
                assert await doors(program, store, bearer) == expected, store
        for store in (f"team-{own}x", f"team-{own.upper()}", "team-", f"team-{own}%2Fnotes", f" team-{own}"):
            assert await doors(program, store, bearer) == [403] * 8, store


async def test_an_open_socket_is_of_its_store_alone() -> None:
    """A token that comes later opens the store of the URL, or nothing."""
    async with api(jwt_stores=("team-{org}",), **SETTINGS) as program:
        client = await program.dialect(path_of("team-beta"))
        assert (await client.ask(type="auth", token=token(stores=[], org="acme")))["code"] == "not-allowed"
        assert (await client.ask(type="pull"))["code"] == "unauthenticated"
        told = await client.ask(type="auth", token=token(stores=[], org="beta"))
        assert told["type"] == "session"


async def test_reading_is_not_writing() -> None:
    async with api(**SETTINGS) as program:
        reader = token(stores=[], stores_read=["s"])
        headers = {"authorization": f"Bearer {reader}"}
        await program.http.post(path_of("s"), json={"type": "a"}, headers={"authorization": f"Bearer {token()}"})
        refused = await program.http.post(path_of("s"), json={"type": "b"}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "not-allowed")
        assert len((await program.http.get(path_of("s"), headers=headers)).json()["events"]) == 1
        client = await program.dialect(f"{path_of('s')}?token={reader}")
        assert (await client.ask(type="push", events=[{"type": "b"}]))["code"] == "not-allowed"
        assert len((await client.ask(type="pull"))["events"]) == 1


async def test_hooks_are_asked_as_for_a_push() -> None:
    seen: list[tuple[str, object, str | None]] = []

    def validate_payload(payload: object, context: HookContext) -> None:
        seen.append(("payload", payload, context.store_id))

    def authenticate(payload: object, context: HookContext) -> Principal:
        return Principal("ann")

    def on_push(batch: list[object], context: HookContext) -> None:
        for event in batch:
            if event.name == "forbidden":  # type: ignore[attr-defined]
                raise PermissionError("not here")
            seen.append((event.name, event.args, context.user.id if context.user else None))  # type: ignore[attr-defined]

    hooks = Hooks(validate_payload=validate_payload, authenticate=authenticate, on_push=on_push)
    async with api(hooks, token="t", store_user=True) as program:
        await program.appended({"type": "a", "data": [1]})
        assert seen[:2] == [("payload", {"authToken": "t"}, "store/ö 1"), ("a", [1], "ann")]
        client = await program.dialect()
        assert (await client.ask(type="push", events=[{"type": "b"}]))["head"] == 2
