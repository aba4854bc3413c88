"""Acks and Interrupts for requests that this connection does not know: answered or closed within a second (#1365).

A 0.4 client that lost its live pull wakes up when its socket is closed; a next client would lose it for good, and is
told by an Exit (SPEC 3.6 and section 4).
"""

from __future__ import annotations

import pytest
import trio

from livesync_trio.errors import RULES, Kind
from livesync_trio.limits import ORPHAN_GRACE_S

from .clients import event, failure, pull, push, reason
from .servers import STORE, TestedServer

NUMBERED = pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])


async def test_an_ack_as_the_first_message_of_a_0_4_client_closes_the_socket(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send({"_tag": "Ack", "requestId": "0"})
    with trio.fail_after(30):
        assert await client.closed() == RULES[Kind.ORPHANED_PULL].close_code == 1001


async def test_an_ack_as_the_first_message_of_a_next_client_is_answered(server: TestedServer) -> None:
    client = await server.rpc(numbered=True)
    await client.send({"_tag": "Ack", "requestId": 0})
    with trio.fail_after(30):
        exit_ = await client.receive()
    assert exit_["requestId"] == 0
    assert reason(exit_)[0] == Kind.ORPHANED_PULL
    await client.check_works()


@NUMBERED
async def test_an_ack_for_a_request_from_before_this_connection_does_the_same(
    server: TestedServer, numbered: bool
) -> None:
    client = await server.rpc(numbered=numbered)
    await client.check_works()
    await client.send({"_tag": "Ack", "requestId": 5 if numbered else "5"})
    with trio.fail_after(30):
        if numbered:
            assert reason((await client.answer_to(5))[1])[0] == Kind.ORPHANED_PULL
            await client.check_works()
        else:
            assert await client.closed() == RULES[Kind.ORPHANED_PULL].close_code


@NUMBERED
async def test_acks_of_a_request_that_is_open_or_has_just_ended_do_nothing(
    server: TestedServer, numbered: bool
) -> None:
    client = await server.rpc(numbered=numbered)
    live, once = client.new_id(), client.new_id()
    await client.send(pull(live, STORE, live=True), pull(once, STORE))
    await client.answer_to(once)
    await client.send(*({"_tag": "Ack", "requestId": request_id} for request_id in (live, once, live, once) * 50))
    await client.check_works()


@NUMBERED
@pytest.mark.parametrize("request_id", [0, 7, 99_999_999, -1])
async def test_an_interrupt_of_an_unknown_request_is_answered(
    server: TestedServer, numbered: bool, request_id: int
) -> None:
    client = await server.rpc(numbered=numbered)
    sent = request_id if numbered else str(request_id)
    for _ in range(2):
        await client.send({"_tag": "Interrupt", "requestId": sent})
        with trio.fail_after(30):
            exit_ = await client.receive()
        assert exit_["_tag"] == "Exit"
        assert exit_["requestId"] == sent
        cause = exit_["exit"]["cause"]
        none = {"_tag": "None"}
        assert cause == (
            [{"_tag": "Interrupt", "fiberId": None}] if numbered else {"_tag": "Interrupt", "fiberId": none}
        )
        await client.check_works()


@NUMBERED
async def test_an_interrupted_live_pull_gets_nothing_any_more_and_its_id_is_free(
    server: TestedServer, numbered: bool
) -> None:
    client, other = await server.rpc(numbered=numbered), await server.rpc()
    request_id = client.new_id()
    await client.send(pull(request_id, STORE, live=True))
    assert (await client.receive())["_tag"] == "Chunk"
    await client.send({"_tag": "Interrupt", "requestId": request_id})
    assert (await client.receive())["exit"]["_tag"] == "Failure"
    assert (await other.push(event(1)))["exit"]["_tag"] == "Success"
    await client.send({"_tag": "Ping"})
    assert await client.receive() == {"_tag": "Pong"}
    await client.send(pull(request_id, STORE, live=True))
    assert (await client.receive())["values"][0]["batch"][0]["eventEncoded"]["seqNum"] == 1


@NUMBERED
async def test_an_interrupted_push_is_stored_whole_or_not_at_all(server: TestedServer, numbered: bool) -> None:
    client, other = await server.rpc(numbered=numbered), await server.rpc()
    await other.send(pull("1", STORE, live=True))
    assert (await other.receive())["values"][0]["batch"] == []
    request_id = client.new_id()
    await client.send(push(request_id, STORE, event(1), event(2, 1)), {"_tag": "Interrupt", "requestId": request_id})
    await client.answer_to(request_id)
    stored = [new["seqNum"] for new in await client.pull()]
    assert stored in ([], [1, 2])
    if stored:
        assert len((await other.receive())["values"][0]["batch"]) == 2
    await client.check_works()


async def test_a_0_4_client_that_is_behind_and_has_no_pull_is_closed_within_a_second(server: TestedServer) -> None:
    assert ORPHAN_GRACE_S <= 0.5
    await (await server.rpc()).push(event(1))
    client = await server.rpc()
    assert failure(await client.push(event(1)))["minimumExpectedNum"] == 1
    began_s = trio.current_time()
    assert await client.closed() == RULES[Kind.ORPHANED_PULL].close_code
    assert trio.current_time() - began_s >= ORPHAN_GRACE_S / 2, "a client that was about to pull had no time to"


async def test_a_next_client_that_is_behind_and_has_no_pull_is_not_closed(
    server: TestedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livesync_trio.connection import rpc_peer

    monkeypatch.setattr(rpc_peer, "ORPHAN_GRACE_S", 0.0)
    await (await server.rpc()).push(event(1))
    client = await server.rpc(numbered=True)
    assert failure(await client.push(event(1)))["minimumExpectedNum"] == 1
    await client.check_works()
