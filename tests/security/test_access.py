"""Who is let in, what they hold and what they are charged (`access`): every path gives back, every table has an end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.access.authentication import TOKENS_PER_REQUEST_MAX, tokens_in
from livesync_trio.access.client import Expiry
from livesync_trio.config import Secret
from livesync_trio.errors import Kind
from livesync_trio.fairness import Attempts, Fairness, WrongTokens
from livesync_trio.fairness.buckets import ADMIN_FAILURES, TOKEN_FAILURES, WRONG_TOKENS_KNOWN_MAX
from livesync_trio.fairness.rules import PRINCIPAL_STORES_WINDOW_S, UsedStores
from livesync_trio.hooks import HookContext
from livesync_trio.limits import REFUSED_BODY_KEPT_BYTES
from livesync_trio.model import StoreId
from livesync_trio.transport import http
from tests.bad_input.clients import NO_CURSOR, event, http_rpc, push, push_payload, reason, request, sync_url, v3_url
from tests.bad_input.servers import running_server
from tests.bad_input.websockets import WebSocket, upgrade
from tests.bad_input.wires import head, post

PROXY = "192.0.2.1"
BEHIND: dict[str, Any] = {"trusted_proxies": ("loopback",)}


def behind(address: str) -> str:
    return f"X-Forwarded-For: {address}"


# --- what is held is given back --------------------------------------------------------------------------------------


def bad_handshakes() -> dict[str, bytes]:
    """Upgrades that are refused after the client was let in."""
    good = upgrade(sync_url("s"), behind(PROXY))
    return {
        "no key": good.replace(b"Sec-WebSocket-Key", b"X-Key"),
        "old version": good.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        "no upgrade": good.replace(b"Connection: Upgrade", b"Connection: keep-alive"),
    }


@pytest.mark.parametrize("name", bad_handshakes())
async def test_a_refused_upgrade_gives_its_slots_back(name: str) -> None:
    async with running_server(max_address_connections=2, **BEHIND) as server:
        for _ in range(4):
            answer = await server.ask(bad_handshakes()[name])
            assert 400 <= answer.status < 500
            assert answer.status != 429
        opened = await WebSocket.shake_hands(await server.wire(), sync_url("s"), behind(PROXY))
        await opened.wire.close()


async def test_one_user_on_a_pooled_connection_does_not_lock_out_the_address() -> None:
    """A step that is refused (here the user's count) gives back what the step before it took (the address's)."""
    from tests.security.tokens import SECRET, token

    settings: dict[str, Any] = {"jwt_secret": Secret(SECRET), "max_principal_connections": 5}
    healthy = {"authToken": token(sub="healthy")}
    async with running_server(payload=healthy, max_address_connections=6, **settings, **BEHIND) as server:
        ann = sync_url("s", payload={"authToken": token(sub="ann")})
        for _ in range(5):
            await WebSocket.shake_hands(await server.wire(), ann, behind(PROXY))
        pooled = await server.wire()
        for _ in range(5):
            assert (await pooled.ask(upgrade(ann, behind(PROXY)))).status == 429
        bob = sync_url("s", payload={"authToken": token(sub="bob")})
        await WebSocket.shake_hands(await server.wire(), bob, behind(PROXY))


def test_slots_are_taken_together_or_not_at_all() -> None:
    fairness = Fairness(max_principal_connections=1, max_address_connections=5)
    first = fairness.hold([("address", "a"), ("user", "ann")])
    assert fairness.holders == 2
    for _ in range(9):
        assert getattr(fairness.hold([("address", "a"), ("user", "ann")]), "kind", None) == Kind.QUOTA_EXCEEDED
    assert fairness.holders == 2
    first.release()  # type: ignore[union-attr]
    first.release()  # type: ignore[union-attr]
    assert fairness.holders == 0


# --- a crowd behind an address ---------------------------------------------------------------------------------------


async def test_health_is_answered_however_many_connections_an_address_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a proxy that nobody has named: all its clients come from one address."""
    monkeypatch.setattr("livesync_trio.access.admission.address_group", lambda host: host)
    async with running_server(max_address_connections=3) as server:
        inside = [await server.websocket(sync_url("s")) for _ in range(3)]
        for _ in range(5):
            answer = await server.ask(head("GET /health HTTP/1.1"))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        refused = await server.ask(upgrade(sync_url("s")))
        assert (refused.status, "3 connections" in refused.text) == (429, True)
        lines = [line for line in server.logs if "LIVESYNC_TRUSTED_PROXIES" in line["event"]]
        assert lines
        assert {line["log_level"] for line in lines} == {"warning"}
        for opened in inside:
            await opened.wire.close()
        await trio.testing.wait_all_tasks_blocked(0.05)


# --- what strangers make the server hold -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "GET", "DELETE"])
@pytest.mark.parametrize("target", ["/", "/health", sync_url("s", "http")])
async def test_nothing_of_a_strangers_body_is_kept(method: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    read_body = http.HttpConnection.read_body

    async def noting(self: http.HttpConnection, *arguments: Any, **keywords: Any) -> bytes:
        body = await read_body(self, *arguments, **keywords)
        kept.append(len(body))
        return body

    monkeypatch.setattr(http.HttpConnection, "read_body", noting)
    size = 60_000
    async with running_server(
        auth_token=Secret("a good long token"), payload={"authToken": "a good long token"}
    ) as server:
        wire = await server.wire()
        answer = await wire.ask(head(f"{method} {target} HTTP/1.1", f"Content-Length: {size}") + b"x" * size)
        assert answer.status in (200, 204, 401, 405)
        assert max(kept, default=0) <= REFUSED_BODY_KEPT_BYTES


async def test_a_large_preflight_is_not_read() -> None:
    async with running_server() as server:
        wire = await server.wire()
        await wire.send(head("OPTIONS / HTTP/1.1", f"Content-Length: {10**6}") + b"x" * 200_000)
        assert (await wire.read_answer()).status == 413


async def test_a_refused_push_of_any_size_is_answered_with_its_id() -> None:
    """The client of 0.4 waits for its id for ever; it stands at the beginning of the body, the rest is passed over."""
    async with running_server(
        auth_token=Secret("a good long token"), payload={"authToken": "a good long token"}
    ) as server:
        for size in (10, 10 * REFUSED_BODY_KEPT_BYTES):
            answer = await server.ask(http_rpc("s", "17", "Push", push_payload("s", event(1, 0, "x" * size))))
            assert answer.status == 401
            assert answer.json[0]["requestId"] == "17"
            assert reason(answer.json[0])[0] == Kind.UNAUTHENTICATED


async def test_every_request_is_charged_to_its_address_and_health_is_answered_all_the_same() -> None:
    targets: tuple[bytes, ...] = (head("OPTIONS / HTTP/1.1", behind(PROXY)), head("GET / HTTP/1.1", behind(PROXY)))
    targets += (head("GET /nothing HTTP/1.1", behind(PROXY)), head("GET /?transport=no HTTP/1.1", behind(PROXY)))
    for target in targets:
        async with running_server(rate_address=("connections=3/h",), **BEHIND) as server:
            statuses = [(await server.ask(target)).status for _ in range(4)]
            assert statuses[-1] == 429, (target, statuses)
            assert 429 not in statuses[:3]
            assert (await server.ask(head("GET /health HTTP/1.1", behind(PROXY)))).status == 200


async def test_the_requests_of_an_array_are_charged_each() -> None:
    pulls = [request(number, "SyncHttpRpc.Pull", {"storeId": "s", "cursor": NO_CURSOR}) for number in range(20)]
    async with running_server(rate_address=("connections=10/h",), max_open_pulls=32, **BEHIND) as server:
        answer = await server.ask(post(sync_url("s", "http"), json.dumps(pulls).encode(), behind(PROXY)))
        assert answer.status == 429
        assert {reason(each)[0] for each in answer.json} == {Kind.TOO_FAST}
        assert len(answer.json) == 20
    async with running_server(max_open_pulls=4) as server:
        answer = await server.ask(post(sync_url("s", "http"), json.dumps(pulls).encode()))
        assert {reason(each)[0] for each in answer.json} == {Kind.TOO_MANY_REQUESTS}
        few = await server.ask(post(sync_url("s", "http"), json.dumps(pulls[:4]).encode()))
        assert few.status == 200


# --- tokens ----------------------------------------------------------------------------------------------------------


def context_with(cookies: str) -> HookContext:
    return HookContext("s", {"authToken": "p"}, {"authorization": "Bearer h", "cookie": cookies}, "192.0.2.1:1")


async def test_only_so_many_tokens_of_a_request_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from livesync_trio.access.tokens import TokenVerifier
    from tests.security.tokens import SECRET, token

    looked_at: list[str] = []
    verify = TokenVerifier.verify

    async def noting(self: TokenVerifier, given: str) -> Any:
        looked_at.append(given)
        return await verify(self, given)

    monkeypatch.setattr(TokenVerifier, "verify", noting)
    good = token()
    settings: dict[str, Any] = {
        "jwt_secret": Secret(SECRET),
        "auth_cookie": "c",
        "cors_origins": ("https://a.example",),
    }
    async with running_server(payload={"authToken": good}, **settings) as server:
        many = "; ".join(f"c={token('x' * 32, sub=f'user-{number}')}" for number in range(100))
        assert (await server.ask(upgrade(sync_url("s"), f"Cookie: {many}"))).status == 401
        assert len(looked_at) == TOKENS_PER_REQUEST_MAX
        assert (await server.ask(upgrade(sync_url("s"), f"Cookie: c=old; c={good}"))).status == 101
    assert len(list(tokens_in(context_with("c=1; c=2"), "c"))) == 4


async def test_a_token_without_key_id_is_tried_on_few_keys_of_its_kind() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    from livesync_trio.access.tokens import KEYS_PER_TOKEN_MAX, TokenVerifier

    tried: list[Any] = []

    class Ring:
        async def find(self, key_id: str | None) -> list[Any]:
            curves = [ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(50)]
            return [ed25519.Ed25519PrivateKey.generate().public_key(), *curves]

    class Noting(TokenVerifier):
        def _check(self, token: str, key: Any, algorithm: str) -> Any:
            tried.append(key)
            return super()._check(token, key, algorithm)

    import jwt

    signed = jwt.encode({"sub": "ann"}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    outcome = await Noting(keys=Ring()).verify(signed)
    assert getattr(outcome, "kind", None) == Kind.UNAUTHENTICATED
    assert len(tried) == KEYS_PER_TOKEN_MAX
    assert all(isinstance(key, ec.EllipticCurvePublicKey) for key in tried)


async def test_guesses_at_the_shared_token_are_slowed_down_by_address() -> None:
    right = {"authToken": "a good long token"}
    async with running_server(auth_token=Secret("a good long token"), payload=right, **BEHIND) as server:
        for number in range(TOKEN_FAILURES):
            guess = sync_url("s", payload={"authToken": f"guess {number}"})
            assert (await server.ask(upgrade(guess, behind(PROXY)))).status == 403
        guess = sync_url("s", payload={"authToken": "one more"})
        assert (await server.ask(upgrade(guess, behind(PROXY)))).status == 429
        assert (await server.ask(upgrade(sync_url("s", payload=right), behind(PROXY)))).status == 429
        assert (await server.ask(upgrade(sync_url("s", payload=right), behind("192.0.2.2")))).status == 101


def test_a_stale_token_that_is_repeated_is_no_guess_and_the_table_has_an_end() -> None:
    wrong = WrongTokens()
    for _ in range(10 * TOKEN_FAILURES):
        assert wrong.refusal("192.0.2.1", "stale", 0) is None
        wrong.failed("192.0.2.1", "stale", 0)
    assert wrong.refusal("192.0.2.1", "another", 0) is None
    for number in range(2 * WRONG_TOKENS_KNOWN_MAX):
        wrong.failed(f"2001:db8::{number:x}", "x", 0)
    assert len(wrong._known) == WRONG_TOKENS_KNOWN_MAX


def test_a_token_expires_by_whichever_clock_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio's clock stands still while a laptop sleeps; the other one may be set back."""
    wall_s = time.time()
    monkeypatch.setattr("time.time", lambda: wall_s)
    expiry = Expiry(trio_s=100.0, wall_s=wall_s + 100)
    assert not expiry.reached(0)
    assert expiry.reached(100)
    wall_s += 101  # the machine has slept
    assert expiry.reached(0)
    wall_s -= 10_000
    assert expiry.reached(100)


# --- wrong secrets ---------------------------------------------------------------------------------------------------


def test_ipv6_guesses_count_by_network() -> None:
    attempts = Attempts()
    for number in range(ADMIN_FAILURES):
        attempts.failed(f"2001:db8::{number:x}", 0)
    assert attempts.refusal("2001:db8::ffff:1", 0) is not None
    assert attempts.refusal("2001:db8:0:1::1", 0) is None


@pytest.mark.parametrize(("spares", "waits"), [(True, False), (False, True)])
def test_this_machine_is_spared_where_nobody_else_comes(spares: bool, waits: bool) -> None:
    attempts = Attempts(spares_loopback=spares)
    for _ in range(ADMIN_FAILURES):
        attempts.failed("127.0.0.1", 0)
        attempts.failed("::1", 0)
    assert (attempts.refusal("127.0.0.1", 0) is not None) is waits
    assert (attempts.refusal("::1", 0) is not None) is waits


async def test_guesses_at_one_door_close_no_other() -> None:
    """0.3 admin messages, the metrics, the control plane on the public port and on its own: four counts."""
    secret, page = "a long admin secret", "a long metrics token"
    settings: dict[str, Any] = {"admin_secret": Secret(secret), "metrics_token": Secret(page), "admin_public": True}
    async with running_server(admin_port=0, **settings, **BEHIND) as server:
        old = await WebSocket.shake_hands(await server.wire(), v3_url("s"), behind(PROXY))

        async def metrics(token: str) -> int:
            return (
                await server.ask(head("GET /metrics HTTP/1.1", f"Authorization: Bearer {token}", behind(PROXY)))
            ).status

        async def control(token: str) -> int:
            bearer = f"Authorization: Bearer {token}"
            return (await server.ask(head("GET /admin/api/v1/info HTTP/1.1", bearer, behind(PROXY)))).status

        assert (await metrics(page), await control(secret)) == (200, 200)
        for number in range(2 * ADMIN_FAILURES):
            message = {"_tag": "WSMessage.AdminInfoReq", "requestId": "i", "adminSecret": f"guess {number}"}
            await old.send(message)
            await old.receive()
        assert (await metrics(page), await control(secret)) == (200, 200)
        for number in range(ADMIN_FAILURES):
            assert await metrics(f"guess {number}") == 401
        assert (await metrics(page), await control(secret)) == (429, 200)
        for number in range(ADMIN_FAILURES):
            assert await control(f"guess {number}") == 401
        assert await control(secret) == 429


# --- names of stores -------------------------------------------------------------------------------------------------


DOORS: dict[str, Callable[[str], bytes]] = {
    "0.4": lambda name: upgrade(f"/?storeId={name}&transport=ws"),
    "0.3": lambda name: upgrade(f"/websocket?storeId={name}"),
    "HTTP": lambda name: post(f"/?storeId={name}&transport=http", b"[]"),
}


@pytest.mark.parametrize("name", ["%FF", "%FE", "a%C3", "%ED%A0%80", "%C0%AF"])
@pytest.mark.parametrize("door", DOORS)
async def test_a_name_that_is_not_utf_8_names_no_store(door: str, name: str) -> None:
    async with running_server() as server:
        answer = await server.ask(DOORS[door](name))
        assert (answer.status, "not UTF-8" in answer.text) == (400, True)


@pytest.mark.parametrize("door", DOORS)
async def test_no_client_meets_an_import_under_way(door: str) -> None:
    async with running_server() as server:
        answer = await server.ask(DOORS[door]("livesync-staged/s"))
        assert answer.status == 400
        assert "livesync-staged/" in answer.text


# --- how much a store may hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quota", [{"max_store_events": 100}, {"max_store_bytes": 100 * 130}], ids=["events", "bytes"])
async def test_two_sockets_do_not_pass_a_quota_together(quota: dict[str, Any]) -> None:
    """Asked first and posted then, what continued a push under way was never asked about."""
    from livesync_trio.storage.memory import MemoryEngine

    engine = MemoryEngine()
    engine.open()
    async with running_server(engine=engine, **quota) as server:
        for store in (f"store {number}" for number in range(10)):
            one, other = await server.rpc(store), await server.rpc(store)
            many = [event(number, number - 1) for number in range(2, 502)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.send, push("1", store, event(1, 0)))
                nursery.start_soon(other.send, push("2", store, *many))
            assert (await one.receive())["exit"]["_tag"] == "Success"
            assert (await other.receive())["exit"]["_tag"] == "Failure"
            summary = engine.reader().summary(StoreId(store))
            assert summary is not None
            assert summary.state.event_count == 1


async def test_pushes_that_wait_together_share_what_room_there_is() -> None:
    async with running_server(max_store_events=20) as server:
        clients = [await server.rpc("full") for _ in range(2)]
        for client in clients:
            assert await client.pull() == []  # who pushes and never pulls is sent away after a moment
        for number in range(1, 61):
            for client in clients:
                await client.send(push(f"{1000 + number}", "full", event(number, number - 1)))
        answers = [await client.receive() for client in clients for _ in range(60)]
        assert sum(answer["exit"]["_tag"] == "Success" for answer in answers) == 20


# --- tables have an end ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 40_000)), max_size=60))
def test_used_stores_are_those_of_a_day(steps: list[tuple[str, int, int]]) -> None:
    used, model, now_s = UsedStores(3, 10**6), {}, 0.0  # type: ignore[var-annotated]
    for user, store, pause_s in steps:
        now_s += pause_s
        model = {key: seen for key, seen in model.items() if seen > now_s - PRINCIPAL_STORES_WINDOW_S}
        known = (user, store) in model
        allowed = known or sum(each == user for each, _ in model) < 3
        assert used.use(user, f"store {store}", now_s) is allowed
        if allowed:
            model[user, store] = now_s
        assert len(used) >= len(model)
    used.use("a", "store 0", now_s + PRINCIPAL_STORES_WINDOW_S)
    assert (len(used), used.users) == (1, 1)


def test_used_stores_are_bounded_over_all_users() -> None:
    used = UsedStores(10, 100)
    for user in range(1000):
        for store in range(5):
            assert used.use(f"user {user}", f"store {store}", 0)
            assert len(used) <= 100
    assert used.users <= 21


def test_no_long_header_is_kept_for_everybody() -> None:
    http._shared_text.cache_clear()
    for number in range(100):
        http._decoded(b"accept", b"%d" % number + b"x" * 60_000)
    assert http._shared_text.cache_info().currsize == 0
    assert http._decoded(b"accept", b"*/*") == ("accept", "*/*")
    assert http._shared_text.cache_info().currsize == 1


# --- targets ---------------------------------------------------------------------------------------------------------


async def test_an_absolute_target_is_its_path() -> None:
    async with running_server() as server:
        for target in ("http://other.example/health", "HTTPS://other.example:8000/health", "http://u@h/health?x"):
            assert (await server.ask(head(f"GET {target} HTTP/1.1"))).status == 200, target
        assert (await server.ask(head("GET http://other.example HTTP/1.1"))).text.startswith("Info")
        assert (await server.ask(upgrade(f"http://other.example{sync_url('s')}"))).status == 101
        assert (await server.ask(head("GET /http://x/health HTTP/1.1"))).status == 404


async def test_an_absolute_target_does_not_hide_the_host_it_names() -> None:
    async with running_server() as server:
        page = "Origin: http://localhost:5173"
        assert (await server.ask(upgrade(f"http://localhost:8000{sync_url('s')}", page))).status == 101
        assert (await server.ask(upgrade(f"http://evil.example{sync_url('s')}", page))).status == 403
