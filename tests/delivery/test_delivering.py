"""Events reach a receiver in order for each store, at least once, whatever it does; on the mock clock."""

from __future__ import annotations

import datetime
import itertools
import random

import pytest
import trio
from standardwebhooks import Webhook as Signature

from livesync_trio.config.declaring import Secret
from livesync_trio.delivery import courier
from livesync_trio.delivery.limits import (
    WEBHOOK_ATTEMPT_LIMIT_S,
    WEBHOOK_ATTEMPTS,
    WEBHOOK_BODY_BYTES,
    WEBHOOK_RETRY_FIRST_S,
    WEBHOOK_RETRY_MAX_S,
    WEBHOOK_WORKERS,
)
from livesync_trio.delivery.records import Mode, Place, cursors_of
from livesync_trio.errors import StorageUnavailable
from tests.delivery.receiver import SECRET, Arrived, Reply, accept, in_turn, webhook
from tests.delivery.stage import EPOCH_S, DeliveryStage, staged, until

HOUR_S = 3600.0


async def test_events_arrive_signed_in_order_and_with_their_numbers(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.deliveries(webhook(headers={"x-team": "blue"})).run)
        await stage.push("a", 3, args=b'{"n":1.0}')
        await until(lambda: stage.receiver.numbers("a") == [1, 2, 3])
        await stage.push("a", 2)
        await until(lambda: stage.receiver.numbers("a") == [1, 2, 3, 4, 5])
        first, second = stage.receiver.taken
        state = stage.engine.reader().state(first.store)  # type: ignore[arg-type]
        assert state is not None
        assert first.message["type"] == "store.events"
        assert first.message["data"] | {"events": None} == {
            "storeId": "a", "backendId": state.backend_id, "after": 0, "upTo": 3, "events": None
        }  # fmt: skip
        assert (second.message["data"]["after"], second.message["data"]["upTo"]) == (3, 5)
        event = first.message["data"]["events"][0]
        assert event["name"] == "todoAdded"
        assert event["createdAt"] == first.message["timestamp"]
        assert b'"args":{"n":1.0}' in first.body
        assert first.headers["x-team"] == "blue"
        assert first.headers["webhook-id"] != second.headers["webhook-id"]
        at_s = int(first.headers["webhook-timestamp"])
        assert stage.place("a").seq_num == 5
        sent = Signature(SECRET).sign(first.headers["webhook-id"], _moment(at_s), first.body.decode())
        assert first.headers["webhook-signature"] == sent
        nursery.cancel_scope.cancel()


def _moment(at_s: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC)


async def test_while_secrets_change_messages_are_signed_with_both(autojump_clock: trio.abc.Clock) -> None:
    old = "whsec_" + "b2xkIHNlY3JldCBvZiB0aGUgdGVzdHMgb25seSE="
    async with staged() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.deliveries(webhook(old_secret=Secret(old))).run)
        await stage.push("a")
        await until(lambda: stage.receiver.taken)
        arrived = stage.receiver.taken[0]
        signatures = arrived.headers["webhook-signature"].split(" ")
        at = _moment(int(arrived.headers["webhook-timestamp"]))
        message_id, body = arrived.headers["webhook-id"], arrived.body.decode()
        assert signatures == [Signature(each).sign(message_id, at, body) for each in (SECRET, old)]
        nursery.cancel_scope.cancel()


async def test_what_fails_is_sent_again_the_same_with_growing_pauses_until_it_is_taken(
    autojump_clock: trio.abc.Clock,
) -> None:
    """500 for days; new events meanwhile do not change the message, and come after it."""
    failures = WEBHOOK_ATTEMPTS - 1
    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = in_turn([Reply(500)] * failures)
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a", 2)
        await until(lambda: len(stage.receiver.arrived) == 3)
        await stage.push("a", 2)
        assert stage.place("a").attempts in (2, 3)
        await until(lambda: stage.receiver.numbers("a") == [1, 2, 3, 4])
        tries = stage.receiver.arrived[: failures + 1]
        assert len({(each.body, each.headers["webhook-id"]) for each in tries}) == 1
        pauses_s = [after.at_s - before.at_s for before, after in itertools.pairwise(tries)]
        for number, pause_s in enumerate(pauses_s):
            longest_s = min(WEBHOOK_RETRY_FIRST_S * 2**number, WEBHOOK_RETRY_MAX_S)
            assert longest_s * 0.75 <= pause_s <= longest_s + 1
        assert tries[-1].at_s - tries[0].at_s > 2.5 * 24 * HOUR_S
        assert stage.place("a").attempts == 0
        nursery.cancel_scope.cancel()


async def test_after_the_last_attempt_a_store_is_parked_and_only_that_one(autojump_clock: trio.abc.Clock) -> None:
    async def refuse_a(arrived: Arrived) -> Reply:
        return Reply(400 if arrived.store == "a" else 200)

    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = refuse_a
        deliveries = stage.deliveries(webhook())
        nursery.start_soon(deliveries.run)
        await stage.push("a", 2)
        await until(lambda: stage.place("a").parked)
        attempts = len(stage.receiver.arrived)
        assert attempts == WEBHOOK_ATTEMPTS
        await stage.push("b", 2)
        await stage.push("a", 1)
        await until(lambda: stage.receiver.numbers("b") == [1, 2])
        await trio.sleep(100 * HOUR_S)
        assert len(stage.receiver.arrived) == attempts + 1
        assert [store async for store, _ in deliveries.parked("hook")] == ["a"]
        assert deliveries.counts("hook").parked == 1
        stage.receiver.answer = accept
        await deliveries.replay("hook", "a", 1)  # type: ignore[arg-type]
        await until(lambda: stage.receiver.numbers("a") == [2, 3])
        await until(lambda: deliveries.counts("hook").parked == 0)
        nursery.cancel_scope.cancel()


async def test_retry_after_is_obeyed(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        date = ("retry-after", "Fri, 15 Jan 2027 12:00:00 GMT")  # four hours after the epoch of the stage
        stage.receiver.answer = in_turn([Reply(429, (("retry-after", "3600"),)), Reply(503, (date,))])
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a")
        await until(lambda: stage.receiver.taken)
        first, second, third = (each.at_s for each in stage.receiver.arrived)
        assert HOUR_S <= second - first < HOUR_S + 1
        assert 4 * HOUR_S <= third < 4 * HOUR_S + 2
        nursery.cancel_scope.cancel()


async def test_410_switches_the_webhook_off_until_an_operator_switches_it_on(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = in_turn([Reply(410)])
        deliveries = stage.deliveries(webhook())
        nursery.start_soon(deliveries.run)
        await stage.push("a")
        await until(lambda: stage.receiver.arrived)
        await trio.sleep(HOUR_S)
        await stage.push("b")
        await trio.sleep(HOUR_S)
        assert len(stage.receiver.arrived) == 1
        [known] = await deliveries.known()
        assert known.standing is not None
        assert known.standing.mode is Mode.GONE
        await deliveries.switch("hook", on=True)
        await until(lambda: stage.receiver.numbers("a") == stage.receiver.numbers("b") == [1])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 204 + 200, 500])
async def test_a_redirect_is_a_failure_and_is_not_followed(autojump_clock: trio.abc.Clock, status: int) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = in_turn([Reply(status, (("location", "http://localhost/elsewhere"),))])
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a")
        await until(lambda: stage.receiver.taken)
        first, second = stage.receiver.arrived
        assert second.at_s - first.at_s > WEBHOOK_RETRY_FIRST_S / 2
        nursery.cancel_scope.cancel()


async def test_a_receiver_that_hangs_is_given_up_and_its_answer_that_never_ends_does_not_matter(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def hang(_: Arrived) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = in_turn([], then=hang)
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a")
        await until(lambda: stage.place("a").attempts == 1)
        assert trio.current_time() - stage.receiver.arrived[0].at_s < WEBHOOK_ATTEMPT_LIMIT_S + 1
        assert stage.place("a").reason == "it did not answer in time"
        stage.receiver.answer = in_turn([Reply(200, body=b"x" * 10_000_000)])
        await until(lambda: stage.receiver.numbers("a") == [1])
        await stage.push("a")
        await until(lambda: stage.receiver.numbers("a") == [1, 2])
        assert stage.receiver.read_bytes < 1_000_000
        assert stage.place("a").attempts == 0
        nursery.cancel_scope.cancel()


async def test_a_store_that_fails_or_hangs_delays_no_other_store_and_no_other_receiver(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def unwilling(arrived: Arrived) -> Reply:
        if arrived.store.startswith("slow"):
            await trio.sleep(WEBHOOK_ATTEMPT_LIMIT_S - 1)
            return Reply(500)
        return Reply()

    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = unwilling
        nursery.start_soon(stage.deliveries(webhook()).run)
        for i in range(WEBHOOK_WORKERS - 1):
            await stage.push(f"slow{i}")
        await until(lambda: len(stage.receiver.arrived) == WEBHOOK_WORKERS - 1)
        began_s = trio.current_time()
        for i in range(20):
            assert await stage.push("b") == i + 1
        await until(lambda: len(stage.receiver.numbers("b")) == 20)
        assert trio.current_time() - began_s < 1
        nursery.cancel_scope.cancel()


async def test_many_stores_with_long_logs_take_turns(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        await stage.push("long", 2_000)
        for i in range(20):
            await stage.push(f"s{i}")
        nursery.start_soon(stage.deliveries(webhook(batch=10)).run)
        await until(lambda: len(stage.receiver.numbers("long")) == 2_000)
        assert stage.receiver.numbers("long") == list(range(1, 2_001))
        last_short = max(i for i, each in enumerate(stage.receiver.taken) if each.store != "long")
        assert last_short < 60
        nursery.cancel_scope.cancel()


async def test_only_stores_and_events_that_it_wants_are_sent(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        await stage.push("team-a", 1_500)
        nursery.start_soon(stage.deliveries(webhook(stores=["team-*"], events=["order*", "paid"], batch=3)).run)
        await stage.push("other", 5, name=b"orderMade")
        await stage.push("team-a", 2, name=b"orderMade")
        await stage.push("team-a", 4)
        await stage.push("team-a", 5, name=b"paid")
        head = await stage.push("team-a", 1)
        await until(lambda: stage.place("team-a").seq_num == head)
        assert stage.receiver.numbers("team-a") == [1501, 1502, 1507, 1508, 1509, 1510, 1511]
        assert {each.store for each in stage.receiver.arrived} == {"team-a"}
        spans = [(each.message["data"]["after"], each.message["data"]["upTo"]) for each in stage.receiver.taken]
        assert all(len(each.numbers) <= 3 for each in stage.receiver.taken)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        nursery.cancel_scope.cancel()


async def test_a_message_that_is_too_large_for_the_receiver_is_halved(autojump_clock: trio.abc.Clock) -> None:
    async def small(arrived: Arrived) -> Reply:
        return Reply(413 if len(arrived.numbers) > 3 else 200)

    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = small
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a", 20)
        await until(lambda: stage.receiver.numbers("a") == list(range(1, 21)))
        assert trio.current_time() < WEBHOOK_RETRY_FIRST_S
        nursery.cancel_scope.cancel()


async def test_messages_are_bounded_in_bytes_and_a_larger_event_is_sent_alone(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        await stage.push("a", 20, args=b'"%b"' % (b"x" * 100_000))
        await stage.push("a", 1, args=b'"%b"' % (b"x" * 2 * WEBHOOK_BODY_BYTES))
        await stage.push("a", 1)
        nursery.start_soon(stage.deliveries(webhook()).run)
        await until(lambda: len(stage.receiver.numbers("a")) == 22)
        assert stage.receiver.numbers("a") == list(range(1, 23))
        for each in stage.receiver.taken:
            assert len(each.body) < WEBHOOK_BODY_BYTES + 20_000 or each.numbers == [21]
        nursery.cancel_scope.cancel()


async def test_a_reset_is_told_before_the_events_of_the_new_log(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a", 3)
        await until(lambda: len(stage.receiver.numbers("a")) == 3)
        before = stage.receiver.taken[0].message["data"]["backendId"]
        stage.receiver.answer = in_turn([Reply(500), Reply(500)])
        await stage.reset("a")
        await stage.push("a", 2)
        await until(lambda: len(stage.receiver.numbers("a")) == 5)
        reset, events = stage.receiver.taken[-2:]
        after = events.message["data"]["backendId"]
        assert reset.message["type"] == "store.reset"
        assert reset.message["data"] == {"storeId": "a", "backendId": after, "previousBackendId": before}
        assert after != before
        assert events.numbers == [1, 2]
        assert len({each.headers["webhook-id"] for each in stage.receiver.arrived[-4:-1]}) == 1
        nursery.cancel_scope.cancel()


async def test_a_deletion_is_told_and_then_forgotten(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a", 3)
        await until(lambda: len(stage.receiver.numbers("a")) == 3)
        before = stage.receiver.taken[0].message["data"]["backendId"]
        stage.receiver.answer = in_turn([Reply(500), Reply(500)])
        await stage.delete("a")
        await until(lambda: stage.place("a") == Place())
        told = stage.receiver.taken[-1]
        assert told.message["type"] == "store.deleted"
        assert told.message["data"] == {"storeId": "a", "previousBackendId": before}
        assert len({(each.headers["webhook-id"], each.body) for each in stage.receiver.arrived[-3:]}) == 1
        assert stage.engine.reader().record(cursors_of("hook"), "a") is None
        await stage.push("a", 2)
        await until(lambda: stage.place("a").seq_num == 2)
        again = stage.receiver.taken[-1]
        assert (again.message["type"], again.numbers) == ("store.events", [1, 2])
        assert again.message["data"]["backendId"] != before
        nursery.cancel_scope.cancel()


async def test_a_store_deleted_while_nobody_delivered_is_told(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.deliveries(webhook()).run)
            for store in ("a", "b", "c"):
                await stage.push(store, 1)
            await until(lambda: len(stage.receiver.taken) == 3)
            await until(lambda: all(stage.place(store).seq_num == 1 for store in ("a", "b", "c")))
            nursery.cancel_scope.cancel()
        for store in ("a", "c"):
            await stage.delete(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.deliveries(webhook()).run)
            await until(lambda: len(stage.receiver.taken) == 5)
            nursery.cancel_scope.cancel()
        told = stage.receiver.taken[-2:]
        assert {(each.message["type"], each.message["data"]["storeId"]) for each in told} == {
            ("store.deleted", "a"),
            ("store.deleted", "c"),
        }


async def test_a_webhook_from_now_is_told_of_later_events_and_of_all_of_later_stores(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        for i in range(40):
            await stage.push(f"old{i}", 2)
        deliveries = stage.deliveries(webhook(start="now"))
        nursery.start_soon(deliveries.run)
        await until(lambda: stage.place("old39").seq_num == 2)
        await trio.sleep(1)
        await stage.push("new", 2)
        await stage.push("old7", 1)
        await until(lambda: len(stage.receiver.taken) == 2)
        assert (stage.receiver.numbers("new"), stage.receiver.numbers("old7")) == ([1, 2], [3])
        nursery.cancel_scope.cancel()


# --- the server in trouble -------------------------------------------------------------------------------------------


async def run_for(stage: DeliveryStage, seconds: float) -> None:
    """A server that is killed after a while."""
    with trio.move_on_after(seconds):
        await stage.deliveries(webhook(batch=3)).run()


async def test_a_server_that_is_killed_again_and_again_loses_nothing_and_keeps_the_order(
    autojump_clock: trio.abc.Clock,
) -> None:
    dice = random.Random(7)

    async def moody(arrived: Arrived) -> Reply:
        await trio.sleep(dice.uniform(0, 0.5))
        return Reply(dice.choice((200, 200, 200, 500)))

    async with staged() as stage:
        stage.receiver.answer = moody
        for round_ in range(30):
            for store in "abc":
                await stage.push(store, dice.randint(1, 9))
            if round_ % 10 == 9:
                stage.receiver.answer = moody if round_ < 29 else accept
            await run_for(stage, dice.uniform(0.05, 3))
        await run_for(stage, 100 * HOUR_S)
        for store in "abc":
            numbers = stage.receiver.numbers(store)
            head = stage.place(store).seq_num
            assert head == stage.engine.reader().state(store).head  # type: ignore[arg-type, union-attr]
            assert list(dict.fromkeys(numbers)) == list(range(1, head + 1))
            for each in stage.receiver.taken:  # nothing is sent before all that lies before it was taken
                assert each.numbers == list(range(each.message["data"]["after"] + 1, each.message["data"]["upTo"] + 1))


async def test_a_restart_keeps_the_count_of_attempts_and_the_pause(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage:
        stage.receiver.answer = in_turn([Reply(500)] * 20)
        await stage.push("a")
        await run_for(stage, 3 * HOUR_S)
        attempts = stage.place("a").attempts
        assert 10 < attempts < 15
        next_at = stage.place("a").next_at
        await run_for(stage, 1)
        assert stage.place("a").attempts == attempts
        await run_for(stage, next_at - EPOCH_S - trio.current_time() + 10)
        assert len(stage.receiver.arrived) == attempts + 1
        assert 0 <= EPOCH_S + stage.receiver.arrived[-1].at_s - next_at < 2


async def test_a_cursor_that_cannot_be_written_moves_later_and_the_message_comes_twice_at_most(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a", 2)
        await until(lambda: stage.place("a").seq_num == 2)
        await stage.push("a", 1)
        stage.writer.fail_before = StorageUnavailable("of the test")
        await until(lambda: len(stage.receiver.taken) >= 3)
        stage.writer.fail_before = None
        await until(lambda: stage.place("a").seq_num == 3)
        assert list(dict.fromkeys(stage.receiver.numbers("a"))) == [1, 2, 3]
        nursery.cancel_scope.cancel()


async def test_a_log_that_cannot_be_read_is_delivered_when_it_can_be(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        nursery.start_soon(stage.deliveries(webhook()).run)
        await stage.push("a")
        await until(lambda: stage.receiver.numbers("a") == [1])
        stage.asked.fail = StorageUnavailable("of the test")
        await stage.push("a")
        await trio.sleep(60)
        assert stage.receiver.numbers("a") == [1]
        stage.asked.fail = None
        await until(lambda: stage.receiver.numbers("a") == [1, 2])
        nursery.cancel_scope.cancel()


async def test_stores_that_find_no_room_in_memory_are_delivered_all_the_same(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "WEBHOOK_STORES_MAX", 5)
    async with staged() as stage, trio.open_nursery() as nursery:
        stage.receiver.answer = in_turn([Reply(500)] * 5)
        nursery.start_soon(stage.deliveries(webhook()).run)
        for i in range(30):
            await stage.push(f"s{i}")
        await until(lambda: all(stage.receiver.numbers(f"s{i}") == [1] for i in range(30)))
        nursery.cancel_scope.cancel()
