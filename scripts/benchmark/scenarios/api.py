"""The HTTP API beside the WebSockets of the same server: appends, and 200 followers by server-sent events.

Each runs the scenario of the WebSocket and its own in turn against one server, so that both meet the same machine.
"""

from collections.abc import Callable
from typing import Final

from scripts.benchmark.api_client import Appender, StreamFollower
from scripts.benchmark.measuring import Figures, Ground, window
from scripts.benchmark.scenarios import fanout, pushing
from scripts.benchmark.scenarios.verifying import expect_log
from scripts.benchmark.sockets import Loop

OF_WEBSOCKET: Final = "of_websocket"
CPU_OF_WEBSOCKET: Final = "cpu_of_websocket"
"""In `Figures.more`: the rate as a share of the WebSocket's, and the CPU time of a unit as a multiple of it."""

GOAL_OF_WEBSOCKET: Final = 0.8
"""Least share of the WebSocket's rate (issue 13)."""

FOLLOWERS: Final = 200


def append1(ground: Ground) -> Figures:
    """One program, one event at a time."""
    return _beside(ground, pushing.push1, lambda: _appending(ground, 1))


def append100(ground: Ground) -> Figures:
    """One program, 100 events at a time."""
    return _beside(ground, pushing.push100, lambda: _appending(ground, 100))


def stream200(ground: Ground) -> Figures:
    """One pusher, 200 followers by server-sent events."""
    return _beside(
        ground, fanout.fanout200, lambda: fanout.fanning_out(ground, FOLLOWERS, StreamFollower, "api-followed")
    )


def _appending(ground: Ground, batch: int) -> Figures:
    loop, store_id = Loop(), f"api-{batch}"
    appender = Appender(ground.address, store_id, batch)
    loop.add(appender)
    appender.ask()
    figures = window(ground, loop, "events", lambda: appender.acknowledged, [appender.latencies_s])
    appender.may_go_on = False
    loop.run_until(lambda: not appender.waiting, "the last answer")
    expect_log(ground, loop, store_id, appender.acknowledged)
    return figures


def _beside(ground: Ground, on_websocket: Callable[[Ground], Figures], by_http: Callable[[], Figures]) -> Figures:
    websocket, http = on_websocket(ground), by_http()
    if websocket.rate:
        http.more[OF_WEBSOCKET] = http.rate / websocket.rate
    if http.server_cpu_us and websocket.server_cpu_us:
        http.more[CPU_OF_WEBSOCKET] = http.server_cpu_us / websocket.server_cpu_us
    return http
