"""The server process itself: what it is, how it is set up, its metrics."""

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
import trio

from livesync_trio.admin.declaring import Answer, Asked
from livesync_trio.admin.rooms import Rooms, moment
from livesync_trio.config.showing import shown_settings
from livesync_trio.errors import Kind, Refusal
from livesync_trio.version import VERSION


async def show_info(rooms: Rooms, _asked: Asked) -> Answer:
    """What this server is and how it is."""
    well, health = rooms.health()
    return Answer(
        msgspec.json.encode(
            {
                "version": VERSION,
                "engine": rooms.engine,
                "database": rooms.database(),
                "startedAt": moment(rooms.started_s),
                "uptimeSeconds": round(trio.current_time() - rooms.started_s, 3),
                "healthy": well,
                "health": {_camel(name): value for name, value in health.items()},
                "counters": _counters(rooms),
            }
        )
    )


def _counters(rooms: Rooms) -> dict[str, Any]:
    """The totals; histograms are left to the metrics."""
    totals: dict[str, Any] = {}
    for field in attrs.fields(type(rooms.counters)):
        value = getattr(rooms.counters, field.name)
        if isinstance(value, int):
            totals[_camel(field.name)] = value
        elif isinstance(value, Mapping) and all(isinstance(count, int) for count in value.values()):
            totals[_camel(field.name)] = {str(name): count for name, count in value.items()}
    return totals


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


async def show_config(rooms: Rooms, _asked: Asked) -> Answer:
    """Every setting with its value and where it was given; of a secret only whether there is one."""
    return Answer(msgspec.json.encode({"settings": shown_settings(rooms.config())}))


async def show_metrics(rooms: Rooms, _asked: Asked) -> Answer | Refusal:
    """The metrics in Prometheus' text format."""
    if rooms.metrics is None:
        return Refusal(Kind.NOT_FOUND, "This server renders no metrics.")
    return Answer(*rooms.metrics())
