"""Who leaves, leaves nothing behind that only the garbage collector finds.

Ten thousand clients that lose their network at once would make it stop everybody for the better part of a second.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from livesync_trio.hooks import HookContext, Hooks

from .clients import event, http_rpc, pull, push_payload
from .servers import STORE, TestedServer, running_server
from .test_departures import nobody_connected
from .websockets import frame
from .wires import head

Visit = Callable[[TestedServer], Awaitable[None]]
CLOSE, PING = 0x8, 0x9


async def vanishes_while_it_follows(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send(pull("1", STORE, live=True), {"_tag": "Ping"})
    await client.receive()
    await client.wire.close()


async def is_reset(server: TestedServer) -> None:
    client = await server.rpc(numbered=True)
    await client.send(pull(1, STORE, live=True))
    await client.receive()
    await client.wire.reset()


async def closes_in_order(server: TestedServer) -> None:
    client = await server.rpc()
    await client.check_works()
    await client.send_frame(PING, b"")
    await client.send_frame(CLOSE, (1000).to_bytes(2, "big"))
    await client.closed(agree=False)


async def breaks_the_rules(server: TestedServer) -> None:
    client = await server.rpc()
    await client.wire.send(frame(0x3, b"reserved"))
    await client.closed()


async def says_nonsense(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send("nonsense")
    await client.closed()


async def is_of_0_3(server: TestedServer) -> None:
    client = await server.v3()
    await client.check_works()
    await client.wire.close()


async def asks_over_http(server: TestedServer) -> None:
    await server.ask(head("GET /health HTTP/1.1"))
    await server.ask(http_rpc("by http", 1, "Push", push_payload("by http", event(1))))


VISITS: tuple[Visit, ...] = (
    vanishes_while_it_follows,
    is_reset,
    closes_in_order,
    breaks_the_rules,
    says_nonsense,
    is_of_0_3,
    asks_over_http,
)


@contextmanager
def garbage_kept() -> Iterator[None]:
    """Leave to the collector what reference counts do not free, and keep what it finds."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def _observe(argument: object, context: HookContext) -> None:
    """A hook that only looks."""


@pytest.fixture(params=[False, True], ids=["without hooks", "with hooks"])
async def visited(request: pytest.FixtureRequest) -> AsyncIterator[TestedServer]:
    hooks = Hooks(on_push_res=_observe, on_pull_res=_observe) if request.param else Hooks()
    async with running_server(hooks) as running:
        yield running


@pytest.mark.parametrize("visit", VISITS, ids=[visit.__name__ for visit in VISITS])
async def test_nothing_of_ours_is_left_for_the_collector(visited: TestedServer, visit: Visit) -> None:
    await visit(visited)  # what is made once is made
    await nobody_connected(visited)
    with garbage_kept():
        await visit(visited)
        await nobody_connected(visited)
        gc.collect()
        left = Counter(
            f"{type(each).__module__}.{type(each).__qualname__}"
            for each in gc.garbage
            if type(each).__module__.partition(".")[0] in ("livesync_trio", "websockets")
        )
    assert left == Counter()
