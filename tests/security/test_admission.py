"""Who comes in and what they may do there, over real sockets and every transport."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from livesync_trio.config import Secret
from livesync_trio.errors import Kind
from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.model import Principal
from tests.bad_input.clients import NO_CURSOR, event, http_rpc, push_payload, reason, request, sync_url, v3_url
from tests.bad_input.servers import TestedServer, running_server
from tests.bad_input.websockets import WebSocket, check_upgraded, upgrade
from tests.bad_input.wires import HttpAnswer, post

from .tokens import SECRET, token

TENANTS = ("acme", "beta")


def tenants_server(hooks: Hooks | None = None, **settings: Any) -> AbstractAsyncContextManager[TestedServer]:
    """A server with tokens; its healthy clients have one for every store."""
    given = {"jwt_secret": Secret(SECRET), "jwt_leeway_s": 0.0, **settings}
    return running_server(hooks, payload={"authToken": token()}, **given)


def tenant(org: str, **others: Any) -> dict[str, str]:
    """The payload of a tenant's client, whose claims name no store by themselves."""
    return {"authToken": token(stores=[], org=org, **others)}


async def doors(server: TestedServer, store: str, payload: object = ..., *headers: str) -> list[HttpAnswer]:
    """The answers to an upgrade of 0.4, one of 0.3, and a pull over HTTP."""
    body = http_rpc(store, "1", "Pull", {"storeId": store, "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[2]
    return [
        await server.ask(upgrade(sync_url(store, "ws", payload), *headers)),
        await server.ask(upgrade(v3_url(store, payload), *headers)),
        await server.ask(post(sync_url(store, "http", payload), body, *headers)),
    ]


async def assert_kept_out(
    server: TestedServer, store: str, payload: object, status: int, words: str, *headers: str
) -> None:
    answers = await doors(server, store, payload, *headers)
    assert [answer.status for answer in answers] == [status] * 3
    expected = "Bearer" if status == 401 else None  # RFC 9110, 15.5.2
    assert [answer.headers.get("www-authenticate") for answer in answers] == [expected] * 3
    assert all(words in answer.text for answer in answers), [answer.text for answer in answers]
    (exit_,) = answers[2].json
    assert words in reason(exit_)[1]


async def assert_let_in(server: TestedServer, store: str, payload: object = ..., *headers: str) -> None:
    ws, v3, http = await doors(server, store, payload, *headers)
    check_upgraded(ws)
    check_upgraded(v3)
    assert http.status == 200
    assert http.json[-1]["exit"]["_tag"] == "Success"


# --- where a token may stand -----------------------------------------------------------------------------------------


async def test_a_token_may_come_in_three_ways() -> None:
    async with tenants_server(auth_cookie="session", cors_origins=("https://app.example",)) as server:
        await assert_let_in(server, "s", {"authToken": token()})
        await assert_let_in(server, "s", ..., f"Authorization: Bearer {token()}")
        await assert_let_in(server, "s", ..., f"authorization: bearer {token()}")
        await assert_let_in(server, "s", ..., f"Cookie: theme=dark; session={token()}; session2=x")
        await assert_let_in(server, "s", ..., "Cookie: theme=dark", f'Cookie: session="{token()}"')
        for headers in (
            (f"Cookie: session2={token()}",),
            (f"Cookie: xsession={token()}",),
            (f"Authorization: Basic {token()}",),
            (f"X-Authorization: Bearer {token()}",),
        ):
            await assert_kept_out(server, "s", ..., 401, "wants a token", *headers)


async def test_without_the_setting_cookies_are_not_looked_at() -> None:
    async with tenants_server() as server:
        await assert_kept_out(server, "s", ..., 401, "wants a token", f"Cookie: session={token()}")


async def test_a_fresh_token_counts_although_a_stale_one_comes_too() -> None:
    """`syncPayload` is fixed when an app starts; its cookie is renewed."""
    async with tenants_server(auth_cookie="session", cors_origins=("https://app.example",)) as server:
        stale = {"authToken": token(expires_in_s=-1)}
        await assert_let_in(server, "s", stale, f"Cookie: session={token()}")
        await assert_kept_out(server, "s", stale, 401, "expired", f"Cookie: session={token(expires_in_s=-1)}")


async def test_the_shared_token_counts_beside_tokens_of_ones_own() -> None:
    async with tenants_server(auth_token=Secret("open sesame")) as server:
        await assert_let_in(server, "s", {"authToken": "open sesame"})
        await assert_let_in(server, "s", ..., "Authorization: Bearer open sesame")
        await assert_let_in(server, "s", {"authToken": token()})
        await assert_kept_out(server, "s", {"authToken": "open sesamo"}, 401, "not valid")


# --- tenants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", TENANTS)
async def test_tenants_cannot_reach_each_other(own: str) -> None:
    """The matrix: each tenant's token, each tenant's stores, every door."""
    async with tenants_server(jwt_stores=("team-{org}", "team-{org}/*")) as server:
        for org in TENANTS:
            for store in (f"team-{org}", f"team-{org}/notes"):
                if org == own:
                    await assert_let_in(server, store, tenant(own))
                else:
                    await assert_kept_out(server, store, tenant(own), 403, "not for this store")
        for store in (
            f"team-{own}x",
            f"team-{own.upper()}",
            "team-",
            "team-{org}",
            f" team-{own}",
            f"team-{own}\u0301",
        ):
            await assert_kept_out(server, store, tenant(own), 403, "not for this store")


async def test_a_frame_cannot_name_another_tenants_store() -> None:
    async with tenants_server(jwt_stores=("team-{org}",)) as server:
        beta = await server.rpc("team-beta", payload=tenant("beta"))
        await beta.push(event(1, 0, "secret of beta"))
        acme = await server.rpc("team-acme", payload=tenant("acme"))
        await acme.send(request("1", "SyncWsRpc.Pull", {"storeId": "team-beta", "cursor": NO_CURSOR, "live": False}))
        assert reason((await acme.answer_to("1"))[1])[0] == Kind.STORE_MISMATCH
        await acme.send(request("2", "SyncWsRpc.Push", push_payload("team-beta", event(2, 1))))
        assert reason((await acme.answer_to("2"))[1])[0] == Kind.STORE_MISMATCH
        body = http_rpc("team-beta", "1", "Pull", {"storeId": "team-beta", "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[
            2
        ]
        answer = await server.ask(post(sync_url("team-acme", "http", tenant("acme")), body))
        assert reason(answer.json[0])[0] == Kind.STORE_MISMATCH
        assert b"secret of beta" not in acme.wire.received + answer.body
        assert len(await beta.pull()) == 1


async def test_a_token_that_names_no_store_opens_none() -> None:
    async with tenants_server() as server:
        nothing: list[Any] = [[], None, {}, 7, [None], [[]]]
        for stores in nothing:
            payload = {"authToken": token(stores=stores)}
            await assert_kept_out(server, "s", payload, 403, "not for this store")


async def test_reading_is_not_writing() -> None:
    async with tenants_server() as server:
        reader = {"authToken": token(stores=[], stores_read=["s"])}
        await (await server.rpc("s")).push(event(1, 0))
        ws = await server.rpc("s", payload=reader)
        assert len(await ws.pull()) == 1
        kind, message = reason(await ws.push(event(2, 1)))
        assert (kind, "may read" in message) == (Kind.NOT_ALLOWED, True)
        assert len(await ws.pull()) == 1  # and the connection goes on
        answer = await server.ask(
            post(sync_url("s", "http", reader), http_body("s", "Push", push_payload("s", event(2, 1))))
        )
        assert (answer.status, reason(answer.json[0])[0]) == (403, Kind.NOT_ALLOWED)
        v3 = WebSocket((await server.websocket(v3_url("s", reader))).wire)
        await v3.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(2, 1)]})
        assert (await v3.receive())["_tag"] == "WSMessage.Error"
        assert len(await ws.pull()) == 1


def http_body(store: str, procedure: str, payload: object) -> bytes:
    return http_rpc(store, "1", procedure, payload).partition(b"\r\n\r\n")[2]


async def test_the_names_of_claims_can_be_chosen() -> None:
    async with running_server(
        payload={"authToken": token(rooms="*")},
        jwt_secret=Secret(SECRET),
        jwt_stores_claim="rooms",
        jwt_read_stores_claim="peeks",
        jwt_principal_claim="email",
    ) as server:
        server._payload = {"authToken": token(rooms="*", email="ann@x.example")}
        await assert_kept_out(server, "s", {"authToken": token(email="a")}, 403, "not for this store")
        await assert_let_in(server, "s", {"authToken": token(email="a", peeks="s")})


# --- hooks -----------------------------------------------------------------------------------------------------------


async def test_every_hook_knows_the_user() -> None:
    seen: dict[str, Any] = {}

    def note(name: str) -> Any:
        def hook(_: Any, context: HookContext) -> None:
            seen.setdefault(name, context.user)

        return hook

    names = ("validate_payload", "on_push", "on_push_res", "on_pull", "on_pull_res")
    async with tenants_server(Hooks(**{name: note(name) for name in names})) as server:
        client = await server.rpc("s", payload={"authToken": token(sub="ann", org="acme")})
        await client.push(event(1, 0))
        await client.pull()
    assert set(seen) == set(names)
    for user in seen.values():
        assert isinstance(user, Principal)
        assert (user.id, user.claims["org"]) == ("ann", "acme")


async def test_authorize_decides_in_the_place_of_the_claims() -> None:
    asked: list[tuple[str, str, str]] = []

    def authorize(principal: Principal, store_id: str, action: str) -> object:
        if principal.id == "healthy":
            return True
        asked.append((principal.id, store_id, action))
        match store_id:
            case "raises":
                raise PermissionError("not on a Sunday")
            case "says nothing":
                return None
            case "almost":
                return "yes"
        return action == "pull" or principal.claims["role"] == "editor"

    async with running_server(
        Hooks(authorize=authorize), payload={"authToken": token(sub="healthy")}, jwt_secret=Secret(SECRET)
    ) as server:
        editor = {"authToken": token(stores=[], role="editor")}
        await assert_kept_out(server, "raises", editor, 403, "not on a Sunday")
        for store in ("says nothing", "almost"):
            await assert_kept_out(server, store, editor, 403, "may not pull")
        asked.clear()
        client = await server.rpc("s", payload=editor)
        assert (await client.push(event(1, 0)))["exit"]["_tag"] == "Success"
        assert asked == [("ann", "s", "pull"), ("ann", "s", "push")]
        reader = await server.rpc("s", payload={"authToken": token(stores=["*"], role="reader")})
        assert reason(await reader.push(event(2, 1)))[0] == Kind.NOT_ALLOWED
        assert len(await reader.pull()) == 1


async def test_authenticate_names_who_has_no_token() -> None:
    def authenticate(payload: Any, context: HookContext) -> object:
        match context.headers.get("x-session"):
            case "ann":
                return "ann"
            case "bob":
                return Principal("bob", {"plan": "free"})
            case "banned":
                raise PermissionError("banned until Monday")
            case "odd":
                return 7
        return None

    users: list[Principal | None] = []

    def validate_payload(payload: Any, context: HookContext) -> None:
        users.append(context.user)

    hooks = Hooks(authenticate=authenticate, validate_payload=validate_payload)
    async with running_server(hooks, auth_token=Secret("open sesame"), payload={"authToken": "open sesame"}) as server:
        await assert_let_in(server, "s", ..., "X-Session: ann")
        await assert_let_in(server, "s", ..., "X-Session: bob")
        assert users == [Principal("ann")] * 3 + [Principal("bob", {"plan": "free"})] * 3
        await assert_kept_out(server, "s", ..., 403, "banned until Monday", "X-Session: banned")
        for header in ("X-Session: odd", "X-Session: nobody"):
            await assert_kept_out(server, "s", ..., 401, "does not know you", header)
        await assert_kept_out(server, "s", {"authToken": "wrong"}, 403, "Invalid auth token")


async def test_what_on_push_returns_is_told_with_the_result() -> None:
    told: list[tuple[str | None, Any]] = []

    def on_push(batch: list[Any], context: HookContext) -> object:
        return {"by": context.user.id if context.user else None, "names": [each.name for each in batch]}

    async def on_push_res(result: Any, context: HookContext) -> None:
        if context.store_id == "s":
            told.append((result.refusal, result.annotation))

    async with tenants_server(Hooks(on_push=on_push, on_push_res=on_push_res)) as server:
        client = await server.rpc("s")
        await client.push(event(1, 0))
        await client.push(event(1, 0))
        await server.ask(
            post(sync_url("s", "http", {"authToken": token()}), http_body("s", "Push", push_payload("s", event(2, 1))))
        )
    annotation = {"by": "ann", "names": ["todoCreated"]}
    assert [what for _, what in told] == [annotation] * 3
    assert [refusal is None for refusal, _ in told] == [True, False, True]


# --- names of stores -----------------------------------------------------------------------------------------------


async def test_store_ids_can_be_held_to_a_pattern_and_are_never_rewritten() -> None:
    async with running_server(
        store_id_pattern=r"store/ö 1|another store|[a-z]+(-[a-z]+)*", store_id_max_bytes=20
    ) as server:
        await assert_let_in(server, "team-notes")
        for store in ("Team", "team_notes", "team-", "team\n", "team-notes\n", "té", "../etc"):
            for answer in await doors(server, store):
                assert answer.status == 400
                assert "Store ids" in answer.text
        for answer in await doors(server, "a" * 21):
            assert (answer.status, "at most 20 bytes" in answer.text) == (400, True)
        await assert_let_in(server, "a" * 20)
