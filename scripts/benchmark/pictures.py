"""Pictures of how cost grows, drawn from the figures: small SVG files. An axis begins at zero or is logarithmic."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Content = dict[str, Any]
Rows = list[dict[str, Any]]

SIZE_INCHES: Final = (6.4, 3.6)
BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#777777"
PAUSE_GOAL_MS: Final = 20
"""p99.9 that garbage collection must stay under (issue 5)."""

KIB_GOAL: Final = 16
"""Per idle connection (issue 5)."""


def draw(content: Content, directory: Path, where: str = "") -> None:
    """Draw what there are figures for. `where`: on which database, when it is not SQLite."""
    mpl.rcParams["svg.hashsalt"] = "livesync"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.family"] = "sans-serif"
    mpl.rcParams["font.size"] = 9
    for name, picture in _PICTURES.items():
        if name in content:
            figure = Figure(figsize=SIZE_INCHES, layout="constrained")
            picture(figure, content[name])
            for axes in figure.axes:
                axes.spines["top"].set_visible(False)
                if where:
                    axes.set_title(f"{axes.get_title(loc='left')}, on {where}", loc="left", fontsize=10)
            path = directory / f"{'-'.join([*name.split('_'), *where.lower().split()])}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None})


def _column(rows: Rows, name: str, factor: float = 1.0) -> list[float]:
    return [row[name] * factor for row in rows]


def _axes(figure: Figure, title: str, x: str, y: str, *, logarithmic: bool) -> Axes:
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines["right"].set_visible(False)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_thousands)
        axes.xaxis.set_minor_formatter("")
    else:
        axes.xaxis.set_major_formatter(_thousands)
    return axes


def _thousands(value: float, _position: float) -> str:
    return f"{value:,.0f}"


def _finish(axes: Axes, columns: int = 2) -> None:
    """Begin at zero, and leave room for the legend above everything."""
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(frameon=False, loc="upper left", ncols=columns)


def _log_length(figure: Figure, rows: Rows) -> None:
    axes = _axes(figure, "One push, by the length of the log", "events in the store", "ms", logarithmic=True)
    x = _column(rows, "events")
    axes.plot(x, _column(rows, "p50_ms"), "o-", color=BLUE, label="median latency")
    axes.plot(x, _column(rows, "cpu_us", 0.001), "s--", color=ORANGE, label="CPU of the server")
    _finish(axes)


def _stores_known(figure: Figure, rows: Rows) -> None:
    axes = _axes(figure, "By the number of stores in the database", "stores", "ms", logarithmic=True)
    x = _column(rows, "stores")
    axes.plot(x, _column(rows, "p50_ms"), "o-", color=BLUE, label="push, median latency")
    axes.plot(x, _column(rows, "first_push_ms"), "s-", color=ORANGE, label="first push after a start")
    axes.plot(x, _column(rows, "start_ms", 0.01), "^--", color=GREY, label="start-up / 100")
    _finish(axes, columns=1)


def _subscribers(figure: Figure, rows: Rows) -> None:
    axes = _axes(figure, "Fan-out, by the number of subscribers", "live subscribers of one store", "CPU ms",
                 logarithmic=False)  # fmt: skip
    x = _column(rows, "subscribers")
    per_event = [row["subscribers"] * row["cpu_us"] / 1000 for row in rows]
    axes.plot(x, per_event, "o-", color=BLUE, label="of the server per event: push, deliveries and their Acks")
    first, last = 0, len(rows) - 1
    slope_us = (per_event[last] - per_event[first]) / max(1, x[last] - x[first]) * 1000
    axes.plot([x[first], x[last]], [per_event[first], per_event[last]], "--", color=GREY,
              label=f"{slope_us:.0f} µs a delivery")  # fmt: skip
    _finish(axes, columns=1)


def _connections(figure: Figure, rows: Rows) -> None:
    axes = _axes(figure, "Memory, by the number of idle connections", "connections, each following a store of its own",
                 "MiB", logarithmic=False)  # fmt: skip
    x = _column(rows, "connections")
    axes.plot(x, _column(rows, "memory_kib", 1 / 1024), "o-", color=BLUE, label="the whole server")
    last = rows[-1]
    base_kib = last["memory_kib"] - last["connections"] * last["kib_per_connection"]
    axes.plot([0, x[-1]], [base_kib / 1024, (base_kib + KIB_GOAL * x[-1]) / 1024], "--", color=GREY,
              label=f"{KIB_GOAL} KiB a connection")  # fmt: skip
    _finish(axes)


def _long_pull(figure: Figure, content: Content) -> None:
    axes = _axes(figure, f"One client pulls {content['events']:,} events", "seconds", "MiB", logarithmic=False)
    samples = content["samples"]
    axes.plot(_column(samples, "s"), _column(samples, "memory_kib", 1 / 1024), "-", color=BLUE, label="server's memory")
    axes.axhline(content["memory_kib_before"] / 1024, linestyle="--", color=GREY, label="before the pull")
    axes.xaxis.set_major_formatter("{x:g}")
    _finish(axes)


def _pauses(figure: Figure, rows: Rows) -> None:
    axes = _axes(figure, "Pauses: latency of pushes beside many actors", "actors in memory", "ms", logarithmic=True)
    x = _column(rows, "actors")
    axes.plot(x, _column(rows, "p50_ms"), "o-", color=BLUE, label="median")
    axes.plot(x, _column(rows, "p99_ms"), "s-", color=BLUE, alpha=0.5, label="p99")
    axes.plot(x, _column(rows, "p999_ms"), "^-", color=ORANGE, label="p99.9")
    axes.axhline(PAUSE_GOAL_MS, linestyle="--", color=GREY, label=f"goal for p99.9: {PAUSE_GOAL_MS} ms")
    _finish(axes)


_PICTURES: Final[dict[str, Callable[[Figure, Any], None]]] = {
    "log_length": _log_length,
    "stores_known": _stores_known,
    "subscribers": _subscribers,
    "connections": _connections,
    "long_pull": _long_pull,
    "pauses": _pauses,
}
