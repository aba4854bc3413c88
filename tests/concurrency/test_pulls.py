"""Live pulls: catch up, then follow; lag, reset, trouble (invariants 3 and 4)."""

import json

import pytest
import structlog.testing
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import OUTBOX_MAX_BYTES, READ_MAX_EVENTS, REPEATED_LINES_MAX, REPEATED_LINES_PERIOD_S
from livesync_trio.model import Cursor
from livesync_trio.store.commands import Accepted, Registered
from tests.concurrency.stage import UNAVAILABLE, A, Client, Stage, batch, connected, numbers_in, running


async def fill(stage: Stage, events: int, size: int = 1, start: int = 0) -> None:
    """Put events into the store, several to a batch."""
    handle = stage.registry.handle(A)
    args = b'"' + b"x" * size + b'"'
    for first in range(start, start + events, 100):
        numbers = range(first + 1, min(first + 100, start + events) + 1)
        answer = await handle.push(batch(first, *numbers, args=args), None, b'"f"', None)
        assert isinstance(answer, Accepted)


async def receive_until(client: Client, last: int) -> list[int]:
    """Numbers received until `last` is among them."""
    numbers: list[int] = []
    while last not in numbers:
        numbers += numbers_in(await client.receive())
    return numbers


async def test_history_comes_in_pages_with_what_remains_and_then_live_events(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 250)
        await client.pull("1")
        pages = [await client.receive() for _ in range(3)]
        assert [page["values"][0]["pageInfo"] for page in pages] == [
            {"_tag": "MoreKnown", "remaining": 150},
            {"_tag": "MoreKnown", "remaining": 50},
            {"_tag": "NoMore"},
        ]
        assert [n for page in pages for n in numbers_in(page)] == list(range(1, 251))
        await fill(stage, 1, start=250)
        assert numbers_in(await client.receive()) == [251]


async def test_a_pull_that_is_not_live_ends_with_success_after_its_pages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1", live=False)
        empty = await client.receive()
        assert numbers_in(empty) == []
        assert (await client.receive())["exit"]["_tag"] == "Success"
        await fill(stage, 3)
        await client.pull("2", live=False)
        assert numbers_in(await client.receive()) == [1, 2, 3]
        assert (await client.receive()) == {
            "_tag": "Exit",
            "requestId": "2",
            "exit": {"_tag": "Success", "value": None},
        }
        await fill(stage, 1, start=3)
        await client.ping()  # nothing came before the Pong: nothing stayed subscribed


async def test_pushes_during_a_long_history_arrive_after_it_without_gap_or_double(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 3 * READ_MAX_EVENTS)
        stage.readers.gate.close()
        await client.pull("1")
        await stage.readers.gate.arrived.wait()
        await fill(stage, 500, start=3 * READ_MAX_EVENTS)
        stage.readers.gate.open()
        last = 3 * READ_MAX_EVENTS + 500
        assert await receive_until(client, last) == list(range(1, last + 1))
        await fill(stage, 1, start=last)
        assert numbers_in(await client.receive()) == [last + 1]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_follower_gets_every_event_once_in_order_whatever_the_schedule(data: st.DataObject) -> None:
    pushes = data.draw(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=30))
    joins = data.draw(st.lists(st.integers(0, 29), min_size=1, max_size=4))
    delay_s = data.draw(st.sampled_from([0.0, 0.5]))

    async def scenario() -> None:
        stage = Stage()
        stage.writer.delay_s = delay_s
        total = sum(size for size, _ in pushes)
        received: list[list[int]] = []
        async with running(stage) as nursery:

            async def reader(join_at: int) -> None:
                await trio.sleep(join_at)
                async with connected(stage, nursery) as client:
                    await client.pull("0")
                    received.append(await receive_until(client, total))

            async with trio.open_nursery() as readers:
                for join_at in joins:
                    readers.start_soon(reader, join_at)
                head = 0
                for size, pause in pushes:
                    await trio.sleep(pause)
                    numbers = range(head + 1, head + size + 1)
                    await stage.registry.handle(A).push(batch(head, *numbers), None, b'"1"', None)
                    head += size
        assert received == [list(range(1, total + 1))] * len(joins)

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_slow_reader_is_sent_back_to_the_log_and_others_do_not_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    big = OUTBOX_MAX_BYTES // 4
    async with (
        running(stage) as nursery,
        connected(stage, nursery) as slow,
        connected(stage, nursery) as quick,
    ):
        await slow.pull("1")
        await quick.pull("1")
        await slow.receive()
        await quick.receive()
        slow.stop_reading()
        for number in range(1, 31):
            await fill(stage, 1, size=big, start=number - 1)
            assert numbers_in(await quick.receive()) == [number]
        assert stage.counters.followers_sent_back == 1
        [peer] = [peer for peer in stage.peers if peer.outbox.queued_bytes]
        assert peer.outbox.queued_bytes <= OUTBOX_MAX_BYTES + 2 * big
        slow.read_again()
        assert await receive_until(slow, 30) == list(range(1, 31))
        await fill(stage, 1, start=30)
        assert numbers_in(await slow.receive()) == [31]  # it follows again


@pytest.mark.parametrize("live", [True, False])
async def test_a_pull_is_held_open_through_a_passing_trouble_of_the_storage(
    autojump_clock: trio.testing.MockClock, live: bool
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 150)
        stage.readers.fail = StorageUnavailable("read error")
        await client.pull("1", live=live)
        await trio.sleep(20)
        await client.ping()  # nothing else was sent
        stage.readers.fail = None
        assert await receive_until(client, 150) == list(range(1, 151))


async def test_a_pull_of_a_store_that_cannot_be_opened_yet_is_held_open(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        stage.writer.fail_before = UNAVAILABLE
        await client.pull("1")
        await trio.sleep(20)
        await client.ping()
        stage.writer.fail_before = None
        assert numbers_in(await client.receive()) == []


async def test_a_crash_of_the_actor_costs_a_follower_nothing(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1")
        await client.receive()
        await fill(stage, 1)
        assert numbers_in(await client.receive()) == [1]
        stage.writer.fail_before = RuntimeError("a bug")
        await stage.registry.handle(A).push(batch(1, 2), None, b'"1"', None)
        stage.writer.fail_before = None
        await fill(stage, 5, start=1)
        assert await receive_until(client, 6) == [2, 3, 4, 5, 6]


async def test_a_reset_ends_live_pulls_with_the_identity_mismatch(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await client.pull("1")
        old = (await client.receive())["values"][0]["backendId"]
        await stage.registry.handle(A).reset()
        state = await stage.state()
        exit_message = await client.receive()
        assert exit_message["exit"]["cause"] == {
            "_tag": "Fail",
            "error": {"_tag": "BackendIdMismatchError", "expected": state.backend_id, "received": old},
        }


async def test_a_reset_in_the_middle_of_a_history_ends_it_with_the_identity_mismatch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 2 * READ_MAX_EVENTS)
        stage.readers.gate.close()
        await client.pull("1")
        await stage.readers.gate.arrived.wait()
        stage.readers.gate.open()
        await stage.registry.handle(A).reset()
        while (message := await client.receive())["_tag"] == "Chunk":
            pass
        assert message["exit"]["_tag"] in ("Failure", "Success")
        await client.ping()


async def test_a_reset_lets_0_3_sockets_go_on_with_the_new_log(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery, "/websocket?storeId=a") as client:
        await fill(stage, 3)
        await client.send({"_tag": "WSMessage.PullReq", "requestId": "p"})
        assert await receive_until(client, 3) == [1, 2, 3]
        await stage.registry.handle(A).reset()
        await fill(stage, 2)
        assert await receive_until(client, 2) == [1, 2]


async def test_a_0_3_socket_gets_broadcasts_without_pulling_and_none_between_the_pages_of_its_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery, "/websocket?storeId=a") as client:
        await client.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
        await client.receive()
        await fill(stage, 100)
        assert numbers_in(await client.receive()) == list(range(1, 101))
        await fill(stage, 150, start=100)
        await client.receive()
        await client.receive()
        stage.readers.gate.close()
        await client.send({"_tag": "WSMessage.PullReq", "requestId": "p"})
        await stage.readers.gate.arrived.wait()
        await fill(stage, 10, start=250)
        stage.readers.gate.open()
        answers = [await client.receive() for _ in range(4)]
        assert [answer["requestId"]["context"] for answer in answers] == ["pull", "pull", "pull", "push"]
        assert [answer["remaining"] for answer in answers] == [150, 50, 0, 0]
        assert [n for answer in answers for n in numbers_in(answer)] == list(range(1, 261))


async def test_0_3_pushers_get_their_ack_before_the_broadcast_of_their_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery, "/websocket?storeId=a") as client:
        item = {"name": "n", "args": 1, "seqNum": 1, "parentSeqNum": 0, "clientId": "c", "sessionId": "s"}
        await client.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [item]})
        assert (await client.receive()) == {"_tag": "WSMessage.PushAck", "requestId": "p"}
        broadcast = await client.receive()
        assert broadcast["requestId"] == {"context": "push", "requestId": "p"}
        assert numbers_in(broadcast) == [1]
        await client.send({"_tag": "WSMessage.Ping", "requestId": "ping"})
        assert (await client.receive())["_tag"] == "WSMessage.Pong"  # acknowledged once


async def test_a_pull_from_above_the_head_starts_over_and_is_counted(autojump_clock: trio.testing.MockClock) -> None:
    """It has events of this very log that are lost; their numbers will be given to others."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        state = await stage.state()
        client.backend_id = state.backend_id
        await client.pull("1", after=7)
        error = (await client.receive())["exit"]["cause"]["error"]
        assert (error["_tag"], error["expected"]) == ("BackendIdMismatchError", state.backend_id)
        assert stage.counters.cursors_ahead_of_head == 1
        nameless = await stage.registry.handle(A).register(Cursor(7, None), None)
        assert nameless == Registered(state, following=False)


async def test_a_single_event_above_the_page_limit_is_a_page_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        handle = stage.registry.handle(A)
        big = json.dumps("x" * 950_000).encode()
        await handle.push(batch(0, 1, 2), None, b'"1"', None)
        await handle.push(batch(2, 3, args=big), None, b'"1"', None)
        await handle.push(batch(3, 4), None, b'"1"', None)
        await client.pull("1", live=False)
        assert [numbers_in(await client.receive()) for _ in range(3)] == [[1, 2], [3], [4]]


async def test_a_database_that_cannot_be_read_does_not_fill_the_log(autojump_clock: trio.testing.MockClock) -> None:
    """Every pull that catches up meets it, again and again."""
    stage = Stage()
    async with running(stage) as nursery, connected(stage, nursery) as client:
        await fill(stage, 1)
        stage.readers.fail = StorageUnavailable("read error")
        with structlog.testing.capture_logs() as lines:
            for number in range(20):
                await client.pull(str(number))
            await trio.sleep(REPEATED_LINES_PERIOD_S / 2)
        assert stage.readers.reads > 2 * REPEATED_LINES_MAX
        assert len([line for line in lines if line["event"] == "history cannot be read"]) == REPEATED_LINES_MAX
