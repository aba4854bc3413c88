"""Rates and quotas (`fairness`, `access`): slowed first, refused then, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.config import Rate, Secret, parse_rates
from livesync_trio.errors import Kind, TooFast
from livesync_trio.fairness import Attempts, Fairness, Meter
from livesync_trio.fairness.buckets import ADMIN_FAILURES, ADMIN_FAILURES_PERIOD_S, Buckets, address_group
from livesync_trio.limits import CROWDED_CONNECTIONS_MAX, PUSH_PATIENCE_S, V3_PUSH_PATIENCE_S
from tests.bad_input.clients import NO_CURSOR, V3Client, event, http_rpc, push_payload, reason, sync_url, v3_url
from tests.bad_input.servers import running_server
from tests.bad_input.websockets import WebSocket, upgrade
from tests.bad_input.wires import Ended, post
from tests.concurrency.stage import Stage, connected, running

from .tokens import SECRET, token

# --- buckets ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 50)), max_size=60))
def test_no_more_is_taken_than_the_rate_allows(steps: list[tuple[float, float]]) -> None:
    """Whatever the pattern: what was taken at once in any time t is at most one bucket and what came back in t."""
    buckets, now_s = Buckets(Rate(20, 10)), 0.0
    taken: list[tuple[float, float]] = []
    for pause_s, amount in steps:
        now_s += pause_s
        if buckets.wait_s("k", amount, now_s) == 0:
            buckets.take("k", amount, now_s)
            taken.append((now_s, min(amount, 20)))
    for start in range(len(taken)):
        for end in range(start, len(taken)):
            allowed = 20 + 2 * (taken[end][0] - taken[start][0])
            assert sum(amount for _, amount in taken[start : end + 1]) <= allowed + 1e-6


def test_a_bucket_comes_back_in_its_time_and_keys_are_apart() -> None:
    buckets = Buckets(Rate(60, 60))
    buckets.take("a", 60, 0)
    assert buckets.wait_s("a", 1, 0) == pytest.approx(1)
    assert buckets.wait_s("a", 1, 1) == pytest.approx(0)
    assert buckets.wait_s("a", 30, 10) == pytest.approx(20)
    assert buckets.wait_s("b", 60, 0) == 0


def test_what_is_larger_than_the_bucket_waits_for_a_full_one_and_not_for_ever() -> None:
    buckets = Buckets(Rate(60, 60))
    assert buckets.wait_s("a", 10**9, 0) == 0
    buckets.take("a", 10**9, 0)
    assert buckets.wait_s("a", 10**9, 0) == pytest.approx(60)
    assert buckets.wait_s("a", 10**9, 60) == 0


def test_strangers_cannot_fill_the_memory_with_keys() -> None:
    buckets = Buckets(Rate(10, 10), keys_max=100)
    for number in range(10_000):
        buckets.take(f"key-{number}", 1, 0)
        assert len(buckets) <= 100
    buckets.take("last", 10, 0)
    assert buckets.wait_s("last", 1, 0) > 0
    for number in range(100):  # a minute later all are full again and can be forgotten
        buckets.take(f"new-{number}", 1, 60)
    assert len(buckets) <= 101


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_which_addresses_count_as_one(one: str, other: str, same: bool) -> None:
    assert (address_group(one) == address_group(other)) is same


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_is_not_counted(host: str) -> None:
    assert address_group(host) is None


@pytest.mark.parametrize(
    "text", ["pushes", "pushes=0/s", "pushes=1/day", "pushes=-1/s", "pulls=1/s", "pushes=1.5/s", ""]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rates((text,))


def test_a_thing_is_rated_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_rates(("pushes=1/s", "pushes=2/s"))
    assert parse_rates(("off",)) == {}


def meter(**rates: str) -> Meter:
    parsed: Any = {scope: parse_rates(tuple(text.split(","))) for scope, text in rates.items()}
    found = Fairness(parsed).meter("ann", "192.0.2.1", "s")
    assert found is not None
    return found


def test_the_strictest_of_all_rates_decides_and_a_refused_push_costs_nothing() -> None:
    strict = meter(user="pushes=100/min", address="events=10/min", store="bytes=1000/min")
    assert strict.charge(10, 10, 5, 0) == 0
    refusal = strict.charge(1, 10, 5, 0)
    assert isinstance(refusal, TooFast)
    assert "events of this address" in refusal.message
    assert refusal.retry_after_s == pytest.approx(6)
    assert strict.charge(1, 10, 5, 1) == pytest.approx(5)
    assert strict.charge(1, 1000, 5, 120) == 0
    refusal = strict.charge(1, 1000, 5, 120)
    assert isinstance(refusal, TooFast)
    assert "bytes of this store" in refusal.message


def test_only_what_is_configured_is_metered() -> None:
    assert Fairness().meter("ann", "192.0.2.1", "s") is None
    only_users: Any = {"user": parse_rates(("pushes=1/s",))}
    assert Fairness(only_users).meter(None, "192.0.2.1", "s") is None
    only_addresses: Any = {"address": parse_rates(("pushes=1/s",))}
    assert Fairness(only_addresses).meter("ann", "127.0.0.1", "s") is None


# --- one connection, on Trio's virtual clock -------------------------------------------------------------------------


def stage_with(**settings: Any) -> Stage:
    rates: Any = {"store": parse_rates(tuple(settings.pop("store").split(",")))}
    stage = Stage(**settings)
    stage.door.access.fairness = Fairness(rates)
    return stage


async def test_a_push_that_is_too_fast_waits_and_then_is_taken(autojump_clock: trio.testing.MockClock) -> None:
    stage = stage_with(store="pushes=60/min")
    async with running(stage) as nursery, connected(stage, nursery) as client:
        start_s = trio.current_time()
        for number in range(1, 64):
            await client.push(str(number), number - 1, number)
            assert (await client.receive())["exit"]["_tag"] == "Success"
        assert trio.current_time() - start_s == pytest.approx(3, abs=0.1)


async def test_a_ping_is_answered_while_a_push_waits(autojump_clock: trio.testing.MockClock) -> None:
    stage = stage_with(store="pushes=1/s")
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.push("1", 0, 1)
        await client.receive()
        await client.push("2", 1, 2)
        start_s = trio.current_time()
        await client.ping()
        assert trio.current_time() - start_s < 0.1


async def test_beyond_patience_it_is_refused_and_may_be_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    stage = stage_with(store="pushes=1/min")
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.push("1", 0, 1)
        await client.receive()
        await client.push("2", 1, 2)
        error = (await client.receive())["exit"]["cause"]["error"]
        assert (error["_tag"], error["note"]) == ("UnknownError", Kind.TOO_FAST)
        assert "Try again in 60 s" in error["cause"]["message"]
        await trio.sleep(60 - PUSH_PATIENCE_S)
        await client.push("3", 1, 2)
        assert (await client.receive())["exit"]["_tag"] == "Success"
        assert stage.stored() == [1, 2]


async def test_an_interrupted_push_that_waits_is_not_stored(autojump_clock: trio.testing.MockClock) -> None:
    stage = stage_with(store="pushes=30/min")
    async with running(stage) as nursery, connected(stage, nursery) as client:
        for number in range(1, 31):
            await client.push(str(number), number - 1, number)
            await client.receive()
        await client.push("31", 30, 31)
        await client.send({"_tag": "Interrupt", "requestId": "31"})
        await client.receive()
        await trio.sleep(10)
        assert len(stage.stored()) == 30


async def test_0_3_waits_longer_because_a_refusal_would_stop_it(autojump_clock: trio.testing.MockClock) -> None:
    stage = stage_with(store="pushes=2/min")
    async with running(stage) as nursery, connected(stage, nursery, "/websocket?storeId=a") as client:
        for number in range(1, 5):
            events = [
                {
                    "name": "n",
                    "args": None,
                    "seqNum": number,
                    "parentSeqNum": number - 1,
                    "clientId": "c",
                    "sessionId": "s",
                }
            ]
            await client.send({"_tag": "WSMessage.PushReq", "requestId": f"p{number}", "batch": events})
        acks: list[str] = []
        start_s = trio.current_time()
        while len(acks) < 4:
            message = await client.receive()
            assert message["_tag"] != "WSMessage.Error", message
            acks += [message["requestId"]] if message["_tag"] == "WSMessage.PushAck" else []
        assert acks == ["p1", "p2", "p3", "p4"]
        assert PUSH_PATIENCE_S < trio.current_time() - start_s <= V3_PUSH_PATIENCE_S


# --- the door --------------------------------------------------------------------------------------------------------


def behind_a_proxy(host: str) -> str:
    return f"X-Forwarded-For: {host}"


def http_push(store: str, number: int, *headers: str, payload: object = ...) -> bytes:
    body = http_rpc(store, "1", "Push", push_payload(store, event(number, number - 1))).partition(b"\r\n\r\n")[2]
    return post(sync_url(store, "http", payload), body, *headers)


async def test_http_pushes_get_429_and_when_to_come_again() -> None:
    async with running_server(rate_address=("pushes=2/h",), trusted_proxies=("loopback",)) as server:
        for number in (1, 2):
            assert (await server.ask(http_push("s", number, behind_a_proxy("192.0.2.1")))).status == 200
        answer = await server.ask(http_push("s", 3, behind_a_proxy("192.0.2.1")))
        assert answer.status == 429
        assert 1700 <= int(answer.headers["retry-after"]) <= 1800
        assert reason(answer.json[0])[0] == Kind.TOO_FAST
        assert (await server.ask(http_push("s", 3, behind_a_proxy("192.0.2.2")))).status == 200


@pytest.mark.parametrize("transport", ["ws", "v3", "http"])
async def test_connections_of_one_address_get_429_and_others_do_not(transport: str) -> None:
    def knock(host: str) -> bytes:
        match transport:
            case "ws":
                return upgrade(sync_url("s"), behind_a_proxy(host))
            case "v3":
                return upgrade(v3_url("s"), behind_a_proxy(host))
        body = http_rpc("s", "1", "Pull", {"storeId": "s", "cursor": NO_CURSOR}).partition(b"\r\n\r\n")[2]
        return post(sync_url("s", "http"), body, behind_a_proxy(host))

    async with running_server(rate_address=("connections=3/h",), trusted_proxies=("loopback",)) as server:
        for _ in range(3):
            assert (await server.ask(knock("192.0.2.1"))).status in (101, 200)
        answer = await server.ask(knock("192.0.2.1"))
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) > 1000
        assert (await server.ask(knock("192.0.2.2"))).status in (101, 200)


async def test_strangers_cannot_use_up_what_belongs_to_a_store() -> None:
    async with running_server(
        rate_store=("connections=20/h",), jwt_secret=Secret(SECRET), payload={"authToken": token()}
    ) as server:
        for _ in range(40):
            assert (await server.ask(upgrade(sync_url("s")))).status == 401
        assert (await server.ask(upgrade(sync_url("s", payload={"authToken": token()})))).status == 101


async def test_a_user_has_only_so_many_connections_and_gets_them_back() -> None:
    settings: dict[str, Any] = {"jwt_secret": Secret(SECRET), "max_principal_connections": 4}
    async with running_server(payload={"authToken": token(sub="healthy")}, **settings) as server:
        target = sync_url("s", payload={"authToken": token(sub="ann")})
        first, *_ = [await server.websocket(target) for _ in range(4)]
        answer = await server.ask(upgrade(target))
        assert (answer.status, "4 connections" in answer.text) == (429, True)
        await server.rpc("s")  # somebody else
        await first.wire.close()
        with trio.fail_after(30):
            while (await server.ask(upgrade(target))).status != 101:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_an_address_has_only_so_many_connections_and_gets_them_back() -> None:
    settings: dict[str, Any] = {"max_address_connections": 2, "trusted_proxies": ("loopback",)}
    async with running_server(**settings) as server:
        first = await WebSocket.shake_hands(await server.wire(), sync_url("s"), behind_a_proxy("192.0.2.1"))
        await WebSocket.shake_hands(await server.wire(), v3_url("s"), behind_a_proxy("192.0.2.1"))
        assert (await server.ask(upgrade(sync_url("s"), behind_a_proxy("192.0.2.1")))).status == 429
        await WebSocket.shake_hands(await server.wire(), sync_url("s"), behind_a_proxy("192.0.2.2"))
        await first.wire.close()
        with trio.fail_after(30):
            while (await server.ask(upgrade(sync_url("s"), behind_a_proxy("192.0.2.1")))).status != 101:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_sockets_that_say_nothing_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of bare TCP connections, as from one address that is not this machine."""
    monkeypatch.setattr("livesync_trio.access.admission.address_group", lambda host: host)
    async with running_server(max_address_connections=5) as server:
        silent = [await server.wire() for _ in range(5 + CROWDED_CONNECTIONS_MAX)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(Ended):
            await (await server.wire()).read(1)
        for wire in silent:
            await wire.close()
        await trio.testing.wait_all_tasks_blocked(0.05)


async def test_a_user_uses_only_so_many_stores_a_day() -> None:
    settings: dict[str, Any] = {"jwt_secret": Secret(SECRET), "max_principal_stores": 2}
    async with running_server(payload={"authToken": token(sub="healthy")}, **settings) as server:
        payload = {"authToken": token(sub="ann")}
        for store in ("a", "b", "a", "b"):
            assert (await server.ask(upgrade(sync_url(store, payload=payload)))).status == 101
        answer = await server.ask(upgrade(sync_url("c", payload=payload)))
        assert (answer.status, "2 stores" in answer.text) == (429, True)
        assert (await server.ask(upgrade(sync_url("c", payload={"authToken": token(sub="bob")})))).status == 101


def test_a_day_later_another_store_may_be_used() -> None:
    fairness = Fairness(max_principal_stores=1)
    assert fairness.arrival_at("ann", "a", 0) is None
    assert fairness.arrival_at("ann", "b", 1000) is not None
    assert fairness.arrival_at("ann", "b", 86_401) is None


# --- how much a store may hold ---------------------------------------------------------------------------------------


async def check_full(settings: dict[str, Any], size: Callable[[int], Any], room: int) -> None:
    """A store with room for `room` events takes no more, says so, and goes on being read."""
    async with running_server(**settings) as server:
        client = await server.rpc("full")
        for number in range(1, room + 1):
            exit_ = await client.push(event(number, number - 1, size(number)))
            assert exit_["exit"]["_tag"] == "Success", (number, exit_)
        too_much = event(room + 1, room, size(room + 1))
        assert reason(await client.push(too_much))[0] == Kind.QUOTA_EXCEEDED
        assert len(await client.pull()) == room
        body = http_rpc("full", "1", "Push", push_payload("full", too_much)).partition(b"\r\n\r\n")[2]
        answer = await server.ask(post(sync_url("full", "http"), body))
        assert (answer.status, reason(answer.json[0])[0]) == (429, Kind.QUOTA_EXCEEDED)
        # Who is behind is told so, and not that the store is full.
        behind = await client.push(event(1, 0, "other"))
        assert behind["exit"]["cause"]["error"]["_tag"] == "ServerAheadError"


async def test_a_store_holds_only_so_many_events() -> None:
    await check_full({"max_store_events": 30}, lambda _: None, 30)


async def test_a_store_holds_only_so_many_bytes() -> None:
    await check_full({"max_store_bytes": 30_000}, lambda _: "x" * 1800, 15)


async def test_bytes_are_counted_of_what_was_there_before() -> None:
    from livesync_trio.storage.memory import MemoryEngine

    engine = MemoryEngine()
    engine.open()
    async with running_server(engine=engine) as server:
        client = await server.rpc("old")
        for number in range(1, 6):
            await client.push(event(number, number - 1, "x" * 1000))
    async with running_server(engine=engine, max_store_bytes=6_000) as server:
        client = await server.rpc("old")
        assert reason(await client.push(event(6, 5, "x" * 1000)))[0] == Kind.QUOTA_EXCEEDED
        assert (await client.push(event(6, 5)))["exit"]["_tag"] == "Success"


# --- admin -----------------------------------------------------------------------------------------------------------


async def test_wrong_admin_secrets_are_slowed_down_and_the_right_one_with_them() -> None:
    async with running_server(admin_secret=Secret("the right one"), trusted_proxies=("loopback",)) as server:
        wire = await server.wire()
        client = V3Client((await WebSocket.shake_hands(wire, v3_url("admin"), behind_a_proxy("192.0.2.1"))).wire)

        async def ask(secret: str) -> dict[str, Any]:
            message = {"_tag": "WSMessage.AdminInfoReq", "requestId": "x", "adminSecret": secret}
            await client.send(message)
            answer: dict[str, Any] = await client.receive()
            return answer

        assert (await ask("the right one"))["_tag"] == "WSMessage.AdminInfoRes"
        for attempt in range(ADMIN_FAILURES):
            assert (await ask(f"wrong {attempt}"))["message"] == "Invalid admin secret"
        for secret in ("wrong again", "the right one"):
            assert "Too many wrong admin secrets" in (await ask(secret))["message"]


def test_admin_attempts_come_back_and_addresses_are_apart() -> None:
    attempts = Attempts()
    for _ in range(ADMIN_FAILURES):
        assert attempts.refusal("192.0.2.1", 0) is None
        attempts.failed("192.0.2.1", 0)
    assert attempts.refusal("192.0.2.1", 0) is not None
    assert attempts.refusal("192.0.2.2", 0) is None
    assert attempts.refusal("192.0.2.1", ADMIN_FAILURES_PERIOD_S / ADMIN_FAILURES + 0.1) is None
