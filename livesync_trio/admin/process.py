"""The server process itself: what it is, how it is set up, its metrics."""

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
import trio

from livesync_trio.admin.declaring import Answer, Caller, Nothing, Raw, Time, camel
from livesync_trio.admin.rooms import Rooms, moment
from livesync_trio.config.showing import shown_settings
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
    value: str | int | float | bool | list[str] | None
    secret: bool
    set: bool
    origin: str


class Settings(Answer, frozen=True):
    """Every setting."""

    settings: list[Setting]


async def info(rooms: Rooms, _asked: Nothing, _caller: Caller) -> Info:
    """What this server is and how it is."""
    well, health = rooms.health()
    return Info(
        version=VERSION,
        engine=rooms.engine,
        database=rooms.database(),
        started_at=moment(rooms.started_s),
        uptime_seconds=round(trio.current_time() - rooms.started_s, 3),
        healthy=well,
        health={camel(name): value for name, value in health.items()},
        counters=_counters(rooms),
    )


def _counters(rooms: Rooms) -> dict[str, Any]:
    """The totals; histograms are left to the metrics."""
    totals: dict[str, Any] = {}
    for field in attrs.fields(type(rooms.counters)):
        value = getattr(rooms.counters, field.name)
        if isinstance(value, int):
            totals[camel(field.name)] = value
        elif isinstance(value, Mapping) and all(isinstance(count, int) for count in value.values()):
            totals[camel(field.name)] = {str(name): count for name, count in value.items()}
    return totals


async def show_config(rooms: Rooms, _asked: Nothing, _caller: Caller) -> Settings:
    """Every setting, its value and where it was given; of secrets only whether there is one."""
    return Settings(settings=msgspec.convert(shown_settings(rooms.config()), list[Setting]))


async def show_metrics(rooms: Rooms, _asked: Nothing, _caller: Caller) -> Raw | Refusal:
    """Metrics in Prometheus' text format."""
    if rooms.metrics is None:
        return Refusal(Kind.NOT_FOUND, "This server renders no metrics.")
    return Raw(*rooms.metrics())
