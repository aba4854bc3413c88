"""Batches that would break every subscriber's pull if they were stored (SPEC section 2; 7, no. 2): refused whole."""

from __future__ import annotations

import re
from typing import Any

import pytest

from livesync_trio.errors import RULES, Kind

from .clients import event, failure, http_rpc, push_payload, reason
from .servers import STORE, TestedServer

MAX = 2**53 - 1

INVALID_BATCHES: dict[str, list[Any]] = {
    "equal to its parent": [event(0, 0)],
    "below its parent": [event(-1, 0)],
    "descending": [event(2, 0), event(1, 2)],
    "twice the same": [event(1, 0), event(1, 0)],
    "twice the same number, chained": [event(1, 0), event(1, 1)],
    "a gap in the chain": [event(1, 0), event(3, 2)],
    "all from one parent": [event(1, 0), event(2, 0), event(3, 0)],
    "the last one unchained": [*(event(n + 1, n) for n in range(99)), event(100, 98)],
}


@pytest.mark.parametrize("batch", INVALID_BATCHES.values(), ids=INVALID_BATCHES)
@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
async def test_a_batch_that_is_no_chain_is_refused_and_nothing_of_it_is_stored(
    server: TestedServer, batch: list[Any], numbered: bool
) -> None:
    client = await server.rpc(numbered=numbered)
    assert reason(await client.push(*batch))[0] == Kind.INVALID_BATCH
    assert await client.pull() == []
    await client.check_works()


@pytest.mark.parametrize("batch", INVALID_BATCHES.values(), ids=INVALID_BATCHES)
async def test_the_same_is_refused_over_http(server: TestedServer, batch: list[Any]) -> None:
    answer = await server.ask(http_rpc(STORE, "1", "Push", push_payload(STORE, *batch)))
    assert answer.status == RULES[Kind.INVALID_BATCH].http_status
    assert reason(answer.json[0])[0] == Kind.INVALID_BATCH
    assert await (await server.rpc()).pull() == []


@pytest.mark.parametrize("batch", INVALID_BATCHES.values(), ids=INVALID_BATCHES)
async def test_the_same_is_refused_in_0_3(server: TestedServer, batch: list[Any]) -> None:
    client = await server.v3()
    await client.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": batch})
    answer = await client.receive()
    assert (answer["_tag"], answer["requestId"]) == ("WSMessage.Error", "p")
    assert re.search(r"\(e-?\d+\)", answer["message"])
    assert await client.pull() == []
    await client.check_works()


@pytest.mark.parametrize("parent", [-1, 1, MAX - 1, -MAX])
async def test_a_batch_with_another_parent_than_the_head_is_told_the_head(server: TestedServer, parent: int) -> None:
    for numbered in (False, True):
        client = await server.rpc(numbered=numbered)
        error = failure(await client.push(event(parent + 1, parent)))
        assert error == {"_tag": "ServerAheadError", "minimumExpectedNum": 0, "providedNum": parent}
    old = await server.v3()
    await old.send({"_tag": "WSMessage.PushReq", "requestId": "p", "batch": [event(parent + 1, parent)]})
    message = f"Invalid parent event number. Received e{parent} but expected e0"
    assert await old.receive() == {"_tag": "WSMessage.Error", "requestId": "p", "message": message}
    await old.check_works()


async def test_gaps_and_the_largest_number_are_legal(server: TestedServer) -> None:
    client = await server.rpc("full")
    batch = [event(100, 0), event(20_000, 100), event(MAX, 20_000)]
    assert (await client.push(*batch))["exit"] == {"_tag": "Success", "value": {}}
    assert await client.pull() == batch
    assert failure(await client.push(event(MAX, 0)))["minimumExpectedNum"] == MAX


async def test_an_integer_may_be_written_as_a_float(server: TestedServer) -> None:
    client = await server.rpc()
    assert (await client.push(event(1.0, 0.0), event(2e0, -0.0 + 1)))["exit"]["_tag"] == "Success"
    assert [(new["seqNum"], new["parentSeqNum"]) for new in await client.pull()] == [(1, 0), (2, 1)]
    assert all(type(new["seqNum"]) is int for new in await client.pull())


@pytest.mark.parametrize("numbered", [False, True], ids=["0.4", "next"])
async def test_an_empty_batch_is_acknowledged_whatever_the_head_is(server: TestedServer, numbered: bool) -> None:
    client = await server.rpc(numbered=numbered)
    assert (await client.push())["exit"] == {"_tag": "Success", "value": {}}
    await client.check_works()
    assert (await client.push())["exit"] == {"_tag": "Success", "value": {}}
    await client.check_works()
