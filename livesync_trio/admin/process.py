"""The server process itself: what it is, how it is set up, its metrics, what it did in the last 15 minutes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import attrs
import msgspec
import trio
from msgspec import Meta

from livesync_trio.admin.declaring import Answer, Caller, Nothing, Raw, Request, Stream, Time, camel, refused
from livesync_trio.admin.server_view import Reloading, ServerView, moment
from livesync_trio.config import SETTINGS, shown_settings
from livesync_trio.errors import Kind, Refusal
from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.version import VERSION

SERIES_STREAMS_MAX: Final = 64
"""Streams of rows open at the same time."""

COLUMNS: Final = (
    *("at", "pushes", "events", "receivedBytes", "sentBytes", "refusals"),
    *("connections03", "connections04", "connectionsNext", "connectionsPlain", "connectionsOther"),
    *("commitP50Ms", "commitP99Ms", "loopDelayMs", "cpuPercent", "memoryBytes", "databaseBytes", "walBytes"),
)
"""What the numbers of a row are, in their order. `at` is Unix time in seconds; what is counted is per second."""

_OFF: Final = Refusal(Kind.NOT_FOUND, "This server records no series.")
_FIXED: Final = Refusal(Kind.NOT_FOUND, "This server cannot read its configuration again.")


class Info(Answer, frozen=True):
    """What this server is and how it is."""

    version: str
    engine: str
    database: str
    started_at: Time
    uptime_seconds: float
    healthy: bool
    health: dict[str, Any]
    counters: dict[str, int | dict[str, int]]


class Setting(Answer, frozen=True):
    """One setting."""

    name: str
    env: str
    value: str | int | float | bool | list[Any] | dict[str, Any] | None
    secret: bool
    set: bool
    origin: str
    group: str
    meaning: str
    accepts: str
    default: str
    reloadable: bool


class Settings(Answer, frozen=True):
    """Every setting, and what of the environment looks like a mistake, a sentence each."""

    settings: list[Setting]
    remarks: list[str]


class Reload(Answer, frozen=True):
    """Settings, by name, that a reload changes, and those that differ but need a restart."""

    changed: list[str]
    needs_restart: list[str]
    problem: str | None


class Feed(Answer, frozen=True):
    """The change feed."""

    feed: dict[str, Any]


async def info(server: ServerView, _asked: Nothing, _caller: Caller) -> Info:
    """What this server is and how it is."""
    well, health = server.health()
    return Info(
        version=VERSION,
        engine=server.engine,
        database=server.database(),
        started_at=moment(server.started_s),
        uptime_seconds=round(trio.current_time() - server.started_s, 3),
        healthy=well,
        health={camel(name): value for name, value in health.items()},
        counters=_counters(server),
    )


def _counters(server: ServerView) -> dict[str, Any]:
    """The totals; histograms are left to the metrics."""
    totals: dict[str, Any] = {}
    for field in attrs.fields(type(server.counters)):
        value = getattr(server.counters, field.name)
        if isinstance(value, int):
            totals[camel(field.name)] = value
        elif isinstance(value, Mapping) and all(isinstance(count, int) for count in value.values()):
            totals[camel(field.name)] = {str(name): count for name, count in value.items()}
    return totals


async def show_config(server: ServerView, _asked: Nothing, _caller: Caller) -> Settings:
    """Every setting, its value and where it was given; of secrets only whether there is one."""
    shown = zip(shown_settings(server.config()), SETTINGS, strict=True)
    told = [
        {
            **setting,
            "group": declared.group,
            "meaning": declared.help,
            "accepts": declared.accepts,
            "default": declared.default_text,
            "reloadable": server.reloads is not None and server.reloads.takes_effect(declared.name),
        }
        for setting, declared in shown
    ]
    return Settings(settings=msgspec.convert(told, list[Setting]), remarks=list(server.config().remarks))


async def look_at_reload(server: ServerView, _asked: Nothing, _caller: Caller) -> Reload | Refusal:
    """What a reload of the configuration would change now; nothing is changed."""
    return _FIXED if server.reloads is None else _reload(await server.reloads.look())


async def reload(server: ServerView, _asked: Nothing, caller: Caller) -> Reload | Refusal:
    """Read the configuration and the hooks again, as SIGHUP does: all of it takes effect, or nothing."""
    if server.reloads is None:
        return _FIXED
    server.audit.record("reload", store="", address=caller.address, user=caller.user)
    done = await server.reloads.reload()
    return _reload(done) if done.problem is None else refused(f"Nothing was changed: {done.problem}")


def _reload(found: Reloading) -> Reload:
    return Reload(changed=found.changed, needs_restart=found.needs_restart, problem=found.problem)


async def show_feed(server: ServerView, _asked: Nothing, _caller: Caller) -> Feed | Refusal:
    """How the change feed is."""
    if server.feed is None:
        return Refusal(Kind.NOT_FOUND, "This server has no change feed (the table [feed] of its file).")
    return Feed(feed=server.feed())


async def show_metrics(server: ServerView, _asked: Nothing, _caller: Caller) -> Raw | Refusal:
    """Metrics in Prometheus' text format."""
    if server.metrics is None:
        return Refusal(Kind.NOT_FOUND, "This server renders no metrics.")
    return Raw(*server.metrics())


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
