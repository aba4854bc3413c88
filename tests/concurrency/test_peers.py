"""One connection: pings, order, interrupts, orphans, stalls, silence, the end (SPEC section 2, 3.6)."""

from typing import Any

import pytest
import structlog.testing
import trio

from livesync_trio.hooks import HookContext, Hooks
from livesync_trio.limits import MAILBOX_COMMANDS, ORPHAN_GRACE_S
from livesync_trio.store.commands import Accepted
from livesync_trio.telemetry import PushStory
from tests.concurrency.stage import A, Stage, batch, connected, numbers_in, running


async def test_a_ping_is_answered_while_a_push_waits_for_the_disk(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        stage.writer.before.close()
        await client.push("1", 0, 1)
        await stage.writer.before.arrived.wait()
        await client.ping()
        stage.writer.before.open()
        assert (await client.receive())["exit"]["_tag"] == "Success"


async def test_a_pong_that_nobody_asked_for_follows_the_first_one_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """LiveStore's command line waits five seconds for it (SPEC 3.6)."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.ping()
        asked_s = trio.current_time()
        assert await client.receive() == {"_tag": "Pong"}
        assert 0 < trio.current_time() - asked_s < 5
        await client.ping()
        with trio.move_on_after(5) as waited:
            await client.receive()
        assert waited.cancelled_caught


async def test_a_ping_is_answered_while_the_mailbox_is_full(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        stage.writer.before.close()
        handle = stage.registry.handle(A)
        for number in range(MAILBOX_COMMANDS + 1):
            nursery.start_soon(handle.push, batch(number, number + 1), None, b'"x"', None)
            if number == 0:
                await stage.writer.before.arrived.wait()
        await trio.testing.wait_all_tasks_blocked()
        await client.push("1", 0, 1)
        await client.ping()
        stage.writer.before.open()
        assert (await client.receive())["exit"]["_tag"] == "Failure"


async def test_pushes_of_a_connection_keep_their_order_through_hooks(autojump_clock: trio.testing.MockClock) -> None:
    async def on_push(events: list[Any], context: HookContext) -> None:
        await trio.sleep(1.0 if events[0].seq_num % 2 else 0.1)

    stage = Stage(Hooks(on_push=on_push))
    async with running(stage) as nursery, connected(stage, nursery) as client:
        for number in range(1, 9):
            await client.push(str(number), number - 1, number)
        answers = [await client.receive() for _ in range(8)]
        assert [answer["requestId"] for answer in answers] == [str(n) for n in range(1, 9)]
        assert {answer["exit"]["_tag"] for answer in answers} == {"Success"}


async def test_a_hanging_hook_is_cut_off_and_holds_up_nobody_else(autojump_clock: trio.testing.MockClock) -> None:
    async def on_push(events: list[Any], context: HookContext) -> None:
        if events[0].args == "hang":
            await trio.sleep_forever()

    stage = Stage(Hooks(on_push=on_push))
    async with (
        running(stage) as nursery,
        connected(stage, nursery) as hung,
        connected(stage, nursery) as well,
    ):
        await hung.push("1", 0, 1, text="hang")
        await well.push("1", 0, 1)
        assert (await well.receive())["exit"]["_tag"] == "Success"
        await hung.ping()
        refusal = await hung.receive()
        assert "did not answer" in refusal["exit"]["cause"]["error"]["cause"]["message"]
        await hung.push("2", 1, 2)
        assert (await hung.receive())["exit"]["_tag"] == "Success"
        assert stage.stored() == [1, 2]


async def test_an_interrupted_push_that_waits_for_its_hook_is_not_stored(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked, go_on = trio.Event(), trio.Event()

    async def on_push(events: list[Any], context: HookContext) -> None:
        asked.set()
        await go_on.wait()

    stage = Stage(Hooks(on_push=on_push))
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.push("1", 0, 1)
        await asked.wait()
        await client.send({"_tag": "Interrupt", "requestId": "1"})
        assert (await client.receive())["exit"]["cause"]["_tag"] == "Interrupt"
        go_on.set()
        await client.ping()
        await trio.testing.wait_all_tasks_blocked()
        assert stage.stored() == []


async def test_an_interrupted_push_at_the_disk_is_stored_and_published_to_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with (
        running(stage) as nursery,
        connected(stage, nursery) as pusher,
        connected(stage, nursery) as other,
    ):
        await other.pull("9")
        await other.receive()
        stage.writer.before.close()
        await pusher.push("1", 0, 1)
        await stage.writer.before.arrived.wait()
        await pusher.send({"_tag": "Interrupt", "requestId": "1"})
        assert (await pusher.receive())["exit"]["cause"]["_tag"] == "Interrupt"
        stage.writer.before.open()
        assert numbers_in(await other.receive()) == [1]
        await pusher.ping()  # no second answer


async def test_a_pusher_that_vanishes_at_the_disk_leaves_its_batch_to_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as other:
        await other.pull("9")
        await other.receive()
        stage.writer.before.close()
        async with connected(stage, nursery) as pusher:
            await pusher.push("1", 0, 1)
            await stage.writer.before.arrived.wait()
            await trio.aclose_forcefully(pusher.stream)
        stage.writer.before.open()
        assert numbers_in(await other.receive()) == [1]


async def test_an_interrupted_live_pull_gets_nothing_more_and_is_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1")
        await client.receive()
        await client.send({"_tag": "Interrupt", "requestId": "1"})
        await client.receive()
        answer = await stage.registry.handle(A).push(batch(0, 1), None, b'"x"', None)
        assert isinstance(answer, Accepted)
        await client.ping()
        assert stage.counters.live_pulls_abandoned == 1


# --- orphans --------------------------------------------------------------------------------------------------------


async def test_an_ack_from_before_this_connection_closes_it_within_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.send({"_tag": "Ack", "requestId": "0"})
        with trio.fail_after(1):
            assert await client.closed() == 1001
        assert stage.counters.orphans_closed == 1


async def test_an_ack_of_next_from_before_this_connection_is_answered_and_never_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.send({"_tag": "Ack", "requestId": 0})
        with trio.fail_after(1):
            answer = await client.receive()
        assert (answer["requestId"], answer["exit"]["_tag"]) == (0, "Failure")
        await client.ping()


async def test_a_late_ack_of_an_ended_request_means_nothing(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("5", live=False)
        await client.receive()
        await client.receive()
        await client.send({"_tag": "Ack", "requestId": "5"})
        await client.ping()


async def test_a_client_behind_without_a_live_pull_is_closed_so_that_it_pulls_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.push("7", 5, 6)
        assert (await client.receive())["exit"]["cause"]["error"]["_tag"] == "ServerAheadError"
        with trio.fail_after(2 * ORPHAN_GRACE_S):
            assert await client.closed() == 1001


@pytest.mark.parametrize("request_id", ["7", 7])
async def test_a_client_behind_with_a_live_pull_or_of_next_is_not_closed(
    autojump_clock: trio.testing.MockClock, request_id: str | int
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        if request_id == "7":
            await client.pull("6")
            await client.receive()
        await client.push(request_id, 5, 6)
        await client.receive()
        await trio.sleep(2 * ORPHAN_GRACE_S)
        await client.ping()


async def test_a_client_that_comes_back_and_pings_without_pulling_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.ping()  # at once, as a new client does
        await trio.sleep(10)
        await client.send({"_tag": "Ping"})
        with trio.fail_after(2 * ORPHAN_GRACE_S):
            assert await client.closed() == 1001


async def test_a_client_that_pulls_right_behind_its_first_ping_is_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await trio.sleep(10)
        await client.ping()
        await client.pull("1")
        await client.receive()
        await trio.sleep(2 * ORPHAN_GRACE_S)
        await client.ping()


async def test_a_client_that_pulls_may_ping_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1")
        await client.receive()
        for _ in range(50):
            await trio.sleep(10)
            await client.ping()


# --- limits and ends ------------------------------------------------------------------------------------------------


async def test_a_silent_peer_is_probed_and_then_closed(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    ours, theirs = trio.testing.memory_stream_pair()
    async with running(stage) as nursery:
        nursery.start_soon(stage.door.serve, theirs)
        await ours.send_all(
            b"GET /?storeId=a&transport=ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in await ours.receive_some()
        opened_s = trio.current_time()
        received = b""
        while data := await ours.receive_some():
            received += data
        assert received.startswith(b"\x89\x00")  # a ping frame first
        assert b"\x88" in received  # in the end a close frame
        assert 70 < trio.current_time() - opened_s < 100
        await trio.testing.wait_all_tasks_blocked()
        assert len(stage.peers) == 0


async def test_a_peer_that_takes_no_bytes_is_cut_after_the_stall_limit(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.ping()
        client.stop_reading()
        await client.send({"_tag": "Ping"})
        stalled_s = trio.current_time()
        await stage.peers.say_goodbye()
        assert 59 <= trio.current_time() - stalled_s <= 70


async def test_a_peer_that_answers_probes_stays(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery, "/websocket?storeId=a") as client:
        await trio.sleep(1000)  # trio-websocket answers the pings
        await client.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
        assert (await client.receive())["_tag"] == "WSMessage.Pong"


async def test_a_request_id_in_use_closes_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1")
        await client.receive()
        await client.pull("1")
        assert await client.closed() == 1008


async def test_more_pulls_than_allowed_are_refused_one_by_one(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(max_open_pulls=3)
    async with running(stage) as nursery, connected(stage, nursery) as client:
        for number in range(4):
            await client.pull(str(number))
        answers = [await client.receive() for _ in range(4)]
        refused = [answer["requestId"] for answer in answers if answer["_tag"] == "Exit"]
        assert refused == ["3"]
        await client.send({"_tag": "Interrupt", "requestId": "0"})
        await client.receive()
        await client.pull("4")
        assert (await client.receive())["_tag"] == "Chunk"


async def test_a_crash_in_a_connection_closes_it_and_nobody_else_notices(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    async with (
        running(stage) as nursery,
        connected(stage, nursery) as doomed,
        connected(stage, nursery) as well,
    ):
        await doomed.ping()
        [victim, *_] = [peer for peer in stage.peers if peer.number == min(p.number for p in stage.peers)]
        monkeypatch.setattr(victim, "accept_push", None)
        await doomed.push("1", 0, 1)
        await doomed.closed()
        await well.push("1", 0, 1)
        assert (await well.receive())["exit"]["_tag"] == "Success"
        assert stage.counters.connections_crashed == 1


async def test_the_farewell_sends_what_is_queued_and_closes_with_1012(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        stage.writer.before.close()
        await client.push("1", 0, 1)
        await stage.writer.before.arrived.wait()

        async def stop() -> None:
            await stage.registry.drain()
            await stage.peers.say_goodbye()

        nursery.start_soon(stop)
        stage.writer.before.open()
        assert (await client.receive())["exit"]["_tag"] == "Success"
        assert await client.closed() == 1012


async def test_a_listener_to_pushes_that_fails_costs_neither_the_push_nor_the_store(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is told in the actor's turn, when the push is durable: a fault in it must not look like one of the store."""
    stage, told = Stage(), list[str]()

    def fail(_: PushStory) -> None:
        raise ValueError("a fault of ours")

    stage.door.shared.watch.tell(fail, lambda story: told.append(story.outcome))
    async with running(stage) as nursery, connected(stage, nursery) as client:
        with structlog.testing.capture_logs() as lines:
            for number in (1, 2):
                await client.push(number, number - 1, number)
                assert (await client.receive())["exit"]["_tag"] == "Success"
    assert told == ["stored", "stored"]
    assert stage.counters.actors_crashed == 0
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["listener to pushes failed"]
