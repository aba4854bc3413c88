"""Tenants cannot reach each other through any door of the API, and reading is not writing."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from livesync_trio.config import Secret
from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.model import Principal
from tests.api.serving import STREAM, Program, api, path_of
from tests.bad_input.websockets import upgrade
from tests.bad_input.wires import Wire, head
from tests.security.tokens import SECRET, token

TENANTS = ("acme", "beta")


def tokens(**more: Any) -> dict[str, Any]:
    """Settings of a server with tokens; its healthy clients have one for every store."""
    return {"jwt_secret": Secret(SECRET), "payload": {"authToken": token()}, **more}


async def doors(program: Program, store: str, bearer: str) -> list[int]:
    """Statuses of everything that can be asked of a store."""
    headers = {"authorization": f"Bearer {bearer}"}
    http, path = program.http, path_of(store)
    wire, at_head = await program.server.wire(), 1
    return [
        (await http.post(path, json={"type": "a"}, headers=headers)).status_code,
        (await http.get(path, headers=headers)).status_code,
        (await http.get(path, headers={**headers, "accept": "application/x-ndjson"})).status_code,
        (await http.get(path_of(store, ""), headers=headers)).status_code,
        (await http.get(path_of(store, "/sessions"), headers=headers)).status_code,
        (await program.server.ask(upgrade(path, f"authorization: Bearer {bearer}"))).status,
        (await program.server.ask(upgrade(f"{path}?token={bearer}"))).status,
        await _first_status(wire, head(f"GET {path}?token={bearer} HTTP/1.1", f"accept: {STREAM['accept']}")),
        (await http.get(f"{path}?after={at_head}&wait=1", headers=headers)).status_code,
        (await http.head(path, headers=headers)).status_code,
        (await program.server.ask(upgrade(_websocket(store, bearer)))).status,
    ]


def _websocket(store: str, bearer: str) -> str:
    """Where clients of 0.3 and the dialect meet."""
    return f"/websocket?{urlencode({'storeId': store, 'payload': json.dumps({'authToken': bearer})})}"


async def _first_status(wire: Wire, request: bytes) -> int:
    await wire.send(request)
    line = await wire.read_until(b"\r\n")
    await wire.close()
    return int(line.split()[1])


@pytest.mark.parametrize("own", TENANTS)
async def test_the_matrix(own: str) -> None:
    """Each tenant's token, each tenant's stores, every door."""
    async with api(**tokens(jwt_stores=("team-{org}", "team-{org}/*"))) as program:
        bearer = token(stores=[], org=own)
        for org in TENANTS:
            for store in (f"team-{org}", f"team-{org}/notes"):
                expected = [201, 200, 200, 200, 200, 101, 101, 200, 200, 200, 101] if org == own else [403] * 11
                assert await doors(program, store, bearer) == expected, store
        for store in (f"team-{own}x", f"team-{own.upper()}", "team-", f"team-{own}%2Fnotes", f" team-{own}"):
            assert await doors(program, store, bearer) == [403] * 11, store


async def test_an_open_socket_is_of_its_store_alone() -> None:
    """A token that comes later opens the store of the URL, or nothing."""
    async with api(**tokens(jwt_stores=("team-{org}",))) as program:
        client = await program.dialect(path_of("team-beta"))
        assert (await client.ask(type="auth", token=token(stores=[], org="acme")))["code"] == "not-allowed"
        assert (await client.ask(type="pull"))["code"] == "unauthenticated"
        told = await client.ask(type="auth", token=token(stores=[], org="beta"))
        assert told["type"] == "session"


async def test_what_is_told_of_a_store_is_of_it_alone() -> None:
    """Sessions, a stream and a socket that are open while the other tenant's store is busy."""
    async with api(**tokens(jwt_stores=("team-{org}",))) as program:
        acme, beta = (token(stores=[], org=org) for org in TENANTS)
        program.http.headers["authorization"] = f"Bearer {beta}"
        client = await program.dialect(f"{path_of('team-beta')}?token={beta}")
        at_old_path = await program.dialect(_websocket("team-beta", beta))
        for each in (client, at_old_path):
            assert (await each.ask(type="pull", live=True))["events"] == []
        async with program.stream("team-beta") as stream:
            await stream.message()
            other = {"authorization": f"Bearer {acme}"}
            answer = await program.http.post(path_of("team-acme"), json={"type": "secret"}, headers=other)
            assert answer.status_code == 201
            sessions = (await program.http.get(path_of("team-acme", "/sessions"), headers=other)).json()["sessions"]
            assert sessions == []
            assert len((await program.get("team-beta", "/sessions")).json()["sessions"]) == 3
            await program.appended({"type": "own"}, store="team-beta")
            assert (await stream.message())[2]["type"] == "own"
        for each in (client, at_old_path):
            assert [event["type"] for event in (await each.receive())["events"]] == ["own"]


async def test_reading_is_not_writing() -> None:
    async with api(**tokens()) as program:
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
