"""`livesync stores`, `events`, `tail`, `info` and `connections`: what is there, for a person or a pipe."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import click

from livesync_trio.archive.entries import Broken, moment_of
from livesync_trio.cli import showing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.looking import looking
from livesync_trio.cli.printable import tell
from livesync_trio.cli.showing import json_flag
from livesync_trio.cli.shown import Shown
from livesync_trio.cli.where import configured, database_flags, server_flags
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ADMIN_PAGE_MAX, SEQ_NUM_MAX, SHOWN_ARGS_CHARACTERS
from livesync_trio.model import StoreId
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain

_NUMBER: Final = click.IntRange(-SEQ_NUM_MAX, SEQ_NUM_MAX)
_EVENT_COLUMNS: Final = ("event#", "name", "client", "session", "pushed", "args")


@click.command()
@click.argument("containing", default="")
@json_flag
@server_flags
@database_flags
def stores(*, containing: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """List the stores, all or those with CONTAINING in their name."""
    with looking(url, flags) as place:
        found = place.stores(containing)
        if as_json:
            for store in found:
                showing.line(store)
            return
        showing.table(
            ("store", "events#", "head#", "size#", "last push", *(("peers#",) if url else ())),
            (
                (
                    store["storeId"],
                    store["events"],
                    f"e{store['head']}",
                    showing.size(store["bytes"]),
                    showing.ago(store["lastPushAt"]),
                    *((store["peers"],) if url else ()),
                )
                for store in found
            ),
            empty="There are no stores yet." if not containing else f"No store has {containing!r} in its name.",
        )


@click.command()
@click.argument("store")
@click.option("--after", type=_NUMBER, default=0, metavar="NUMBER", help="Events behind this number only.")
@click.option("--limit", type=click.IntRange(1, SEQ_NUM_MAX), default=100, show_default=True, help="At most this many.")
@click.option("--all", "everything", is_flag=True, help="All of them, instead of --limit.")
@click.option("--name", help="Events of this name only.")
@click.option("--client", help="Events of this client only.")
@click.option("--session", help="Events of this session only.")
@click.option("--since", metavar="MOMENT", help="Pushed at this moment or later, like 2026-11-20T12:00:00.000Z.")
@click.option("--until", metavar="MOMENT", help="Pushed before this moment.")
@json_flag
@server_flags
@database_flags
def events(
    *, store: str, after: int, limit: int, everything: bool, as_json: bool, url: str | None, **flags: Any
) -> None:
    """Show events of a store, from the first one on or behind --after."""
    since, until = (_moment(flags.pop(name), f"--{name}") for name in ("since", "until"))
    choice = Choice(flags.pop("name"), flags.pop("client"), flags.pop("session"), since, until)
    with looking(url, flags) as place:
        found = place.events(StoreId(store), after, choice)
        chosen = found if everything else islice(found, limit)
        if as_json:
            for event in chosen:
                showing.raw_line(event.text)
            return
        if everything:  # as they come: a table is as wide as its widest row, and would have to hold them all
            for event in chosen:
                _say(event)
            return
        last: list[Shown] = []
        showing.table(_EVENT_COLUMNS, _rows(chosen, last), empty="There are no such events.")
        if last and next(found, None) is not None:
            showing.note(f"There are more: livesync events {store} --after {last[-1].seq_num}")


@click.command()
@click.argument("store")
@click.option("--after", type=_NUMBER, metavar="NUMBER", help="Begin behind this number; at the head when absent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@server_flags
@database_flags
def tail(*, store: str, after: int | None, as_json: bool, url: str | None, **flags: Any) -> None:
    """Show events of a store as they are pushed, until interrupted."""
    with looking(url, flags) as place:
        for event in place.tail(StoreId(store), after):
            if as_json:
                showing.raw_line(event.text)
            else:
                _say(event)


@click.command()
@json_flag
@server_flags
@database_flags
def info(*, as_json: bool, url: str | None, **flags: Any) -> None:
    """Tell what the database holds, or how a running server is."""
    with looking(url, flags) as place:
        found = place.info()
    if as_json:
        showing.line(found)
        return
    pairs = [(name, value) for name, value in found.items() if not isinstance(value, dict)]
    for members in (value for value in found.values() if isinstance(value, dict)):
        pairs += [(f"  {name}", value) for name, value in members.items()]
    showing.facts([(name, showing.size(value) if name == "bytes" else value) for name, value in pairs])


@click.command()
@click.option("--store", help="Connections to this store only.")
@json_flag
@server_flags
@database_flags
def connections(*, store: str | None, as_json: bool, url: str | None, **flags: Any) -> None:
    """List the open WebSockets of a running server."""
    plane = running_server(url, flags)
    found = plane.all("/connections", "connections", storeId=store, limit=ADMIN_PAGE_MAX)
    if as_json:
        for text in found:
            showing.raw_line(text)
        return
    with plane.understood():
        _show_connections(map(plain, found))


def _show_connections(found: Iterable[Any]) -> None:
    showing.table(
        ("number#", "store", "address", "user", "client", "pulls#", "lag#", "queued#", "since"),
        (
            (
                one["connectionId"],
                one["storeId"],
                one["address"],
                one["user"],
                one["generation"],
                one["openPulls"],
                one["lagEvents"],
                showing.size(one["queuedBytes"]),
                showing.ago(one["since"]),
            )
            for one in found
        ),
        empty="Nobody is connected.",
    )


def running_server(url: str | None, flags: dict[str, Any]) -> ControlPlane:
    """The control plane that the flags mean, for what only a running server knows. Raises CommandError."""
    if url is None:
        raise CommandError(Kind.BAD_CONFIG, "Only a running server knows: name its control plane by --url.")
    return ControlPlane(url, configured(flags).admin_secret)


_AGO: Final = re.compile(r"(\d{1,6})(min|h|d)", re.ASCII)
_UNITS: Final = {"min": "minutes", "h": "hours", "d": "days"}


def _moment(text: str | None, flag: str) -> str | None:
    """A moment as events have theirs: `2h` ago, or ISO 8601, UTC where no zone is given. Raises BadParameter."""
    if text is None:
        return None
    try:
        if match := _AGO.fullmatch(text):
            return moment_of(datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])}))
        return moment_of(text)
    except (Broken, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no moment: say 2026-11-20T12:00:00Z, 2026-11-20, 30min, 2h or 3d (ago)", param_hint=flag
        ) from None


def _say(event: Shown) -> None:
    """One event in a line."""
    place = f"{event.created_at}  e{event.seq_num}  {event.name}  {event.client_id}  {_short(event.args)}"
    tell(place)


def _rows(events: Iterator[Shown], last: list[Shown]) -> Iterator[tuple[object, ...]]:
    """Rows of the table of events; leaves the last event in `last`."""
    for event in events:
        last[:] = [event]
        yield (
            f"e{event.seq_num}", event.name, event.client_id, event.session_id, event.created_at, _short(event.args)
        )  # fmt: skip


def _short(args: str) -> str:
    """Arguments as far as a person wants to see them at a glance."""
    flat = " ".join(args.split())
    return flat if len(flat) <= SHOWN_ARGS_CHARACTERS else f"{flat[: SHOWN_ARGS_CHARACTERS - 1]}…"
