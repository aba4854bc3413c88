"""The server process itself: what it is, how it is set up, its metrics."""

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
import trio

from livesync_trio.admin.declaring import Answer, Caller, Nothing, Raw, Time, camel
from livesync_trio.admin.server_view import ServerView, moment
from livesync_trio.config import shown_settings
from livesync_trio.errors import Kind, Refusal
from livesync_trio.version import VERSION


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


class Settings(Answer, frozen=True):
    """Every setting."""

    settings: list[Setting]


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
    return Settings(settings=msgspec.convert(shown_settings(server.config()), list[Setting]))


async def show_metrics(server: ServerView, _asked: Nothing, _caller: Caller) -> Raw | Refusal:
    """Metrics in Prometheus' text format."""
    if server.metrics is None:
        return Refusal(Kind.NOT_FOUND, "This server renders no metrics.")
    return Raw(*server.metrics())
