"""What a server did in the last 15 minutes, second by second; recorded while the console is switched on."""

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from livesync_trio.admin.declaring import Answer, Caller, Nothing, Request, Stream
from livesync_trio.admin.server_view import ServerView
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import SEQ_NUM_MAX

SERIES_STREAMS_MAX: Final = 64
"""Streams of rows open at the same time."""

COLUMNS: Final = (
    *("at", "pushes", "events", "receivedBytes", "sentBytes", "refusals"),
    *("connections03", "connections04", "connectionsNext", "connectionsPlain", "connectionsOther"),
    *("commitP50Ms", "commitP99Ms", "loopDelayMs", "cpuPercent", "memoryBytes", "databaseBytes", "walBytes"),
)
"""What the numbers of a row are, in their order. `at` is Unix time in seconds; what is counted is per second."""

_OFF: Final = Refusal(Kind.NOT_FOUND, "This server records no series.")


class AskSeries(Request, frozen=True):
    """Which rows."""

    after: Annotated[int, Meta(ge=0, le=SEQ_NUM_MAX, description="Rows whose `at` is greater only.")] = 0


class Series(Answer, frozen=True):
    """The last 15 minutes of this server, and what it refused in them by kind."""

    step_seconds: float
    columns: Sequence[str]
    rows: Sequence[Sequence[float | None]]
    refusals: dict[str, int]


async def show_series(server: ServerView, asked: AskSeries, _caller: Caller) -> Series | Refusal:
    """What this server did in the last 15 minutes, second by second."""
    return _OFF if server.recorder is None else server.recorder.kept(asked.after)


async def follow_series(server: ServerView, _asked: Nothing, caller: Caller) -> Stream | Refusal:
    """Each second what this server did in it, as server-sent events."""
    recorder = server.recorder
    if recorder is None:
        return _OFF
    if recorder.streams >= SERIES_STREAMS_MAX:
        return Refusal(Kind.TOO_MANY_REQUESTS, f"{SERIES_STREAMS_MAX} streams of this kind are open already.")

    def ended() -> None:
        recorder.streams -= 1

    recorder.streams += 1
    caller.until_answered.callback(ended)
    return Stream(recorder.follow())
