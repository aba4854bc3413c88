"""`livesync stores`, `events`, `tail`, `info` and `connections`: what is there, for a person or a pipe."""

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import click

from livesync_trio.archive.entries import Broken, moment_of
from livesync_trio.cli import printing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import complete_store, database_options, json_option, server_options, store_argument
from livesync_trio.cli.printing import tell
from livesync_trio.cli.store_readers import Event, StoreReader, reading
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ADMIN_PAGE_MAX, SEQ_NUM_MAX
from livesync_trio.model import SCRATCH_STORES, StoreId
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain

_LAST_MAX: Final = 10_000
"""Most events that `--last` turns round: they are held meanwhile."""
_ARGS_CHARACTERS: Final = 100
"""Of an event's arguments, no more than this is shown to a person."""
_STORE_LOOK_S: Final = 0.5
"""How often `tail` looks whether the store is there."""


def _event_number(_: click.Context, __: click.Parameter, value: int | None) -> int | None:
    if value is not None and abs(value) > SEQ_NUM_MAX:
        raise click.BadParameter(f"{value} is no event number")
    return value


@click.command()
@click.argument("containing", default="")
@json_option
@server_options
@database_options
def stores(*, containing: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """List the stores, all or those with CONTAINING in their name."""
    with reading(url, flags) as source:
        found = source.stores(containing)
        if as_json:
            for store in found:
                printing.line(store)
            return
        printing.table(
            ("store", "events#", "head#", "size#", "last push!", *(("peers#",) if url else ()), "state_"),
            (
                (
                    store["storeId"],
                    store["events"],
                    f"e{store['head']}",
                    printing.size(store["bytes"]),
                    printing.ago(store["lastPushAt"]),
                    *((store["peers"],) if url else ()),
                    "frozen" if store.get("frozen") else "",
                )
                for store in found
                if containing or not store["storeId"].startswith(SCRATCH_STORES)
            ),
            empty="There are no stores yet." if not containing else f"No store has {containing!r} in its name.",
        )


@click.command()
@store_argument
@click.option("--after", type=int, callback=_event_number, metavar="NUMBER", help="Events after this number only.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, metavar="COUNT", show_default=True, help="At most this many."
)
@click.option("--last", type=click.IntRange(1, _LAST_MAX), metavar="COUNT", help="The last COUNT events.")
@click.option("--newest-first", is_flag=True, help="In descending order, from the head back.")
@click.option("--all", "everything", is_flag=True, help="All of them, instead of --limit.")
@click.option("--name", help="Events of this name only.")
@click.option("--client", help="Events of this client only.")
@click.option("--session", help="Events of this session only.")
@click.option("--since", metavar="TIME", help="Pushed at this time or later: 2026-11-20T12:00:00Z, or 2h ago.")
@click.option("--until", metavar="TIME", help="Pushed before this time.")
@click.option("--wide", is_flag=True, help="Every column in full, however wide the terminal is.")
@json_option
@server_options
@database_options
def events(
    *,
    store: str,
    after: int | None,
    limit: int,
    last: int | None,
    newest_first: bool,
    everything: bool,
    wide: bool,
    as_json: bool,
    url: str | None,
    **flags: Any,
) -> None:
    """Show events of a store, oldest first: from the beginning, after a number, or the last ones."""
    if after is not None and (last is not None or newest_first):
        raise click.UsageError("--after begins at a number, --last and --newest-first at the head: give one of them")
    since, until = (_moment(flags.pop(name), f"--{name}") for name in ("since", "until"))
    choice = Choice(flags.pop("name"), flags.pop("client"), flags.pop("session"), since, until)
    with reading(url, flags) as source:
        if newest_first or last is not None:
            found = source.newest(StoreId(store), choice)
        else:
            found = source.events(StoreId(store), after or 0, choice)
        chosen = found if everything and last is None else islice(found, min(last or limit, SEQ_NUM_MAX))
        if last is not None and not newest_first:
            chosen = reversed(list(chosen))
        if as_json:
            for event in chosen:
                printing.raw_line(event.text)
        elif everything:  # as they come: a table is as wide as its widest row, and would have to hold them all
            for event in chosen:
                _print_line(event)
        else:
            shown = list(chosen)
            _print_table(shown, wide=wide)
            if shown and last is None and not newest_first and next(found, None) is not None:
                printing.note(f"There are more: livesync events {store} --after {shown[-1].seq_num}, or --last 20")


@click.command()
@store_argument
@click.option(
    "--after", type=int, callback=_event_number, metavar="NUMBER", help="Begin after this number. [default: the head]"
)
@json_option
@server_options
@database_options
def tail(*, store: str, after: int | None, as_json: bool, url: str | None, **flags: Any) -> None:
    """Show events of a store as they are pushed, until interrupted. Waits for a store that does not exist yet."""
    with reading(url, flags) as source:
        for event in _tail(source, StoreId(store), after):
            if as_json:
                printing.raw_line(event.text)
            else:
                _print_line(event)


def _tail(source: StoreReader, store_id: StoreId, after: int | None) -> Iterator[Event]:
    """The events of a tail, from the first one on if the store has to come into being."""
    waiting = False
    while True:
        try:
            yield from source.tail(store_id, after)
            return
        except CommandError as error:
            if error.kind is not Kind.NO_SUCH_STORE:
                raise
            if not waiting:
                printing.note(f"There is no store {store_id!r} yet: waiting for its first event.")
            waiting, after = True, 0
            time.sleep(_STORE_LOOK_S)


@click.command()
@json_option
@server_options
@database_options
def info(*, as_json: bool, url: str | None, **flags: Any) -> None:
    """Tell what the database holds, or how a running server is."""
    with reading(url, flags) as source:
        found = source.info()
        if as_json:
            printing.line(found)
        elif url is None:
            printing.facts(
                [(name, printing.size(value) if name == "bytes" else value) for name, value in found.items()]
            )
        else:
            _print_server(found)


def _print_server(found: dict[str, Any]) -> None:
    """What a person wants to know of a server: whether it is well, and what has happened; not what has not."""
    health, counters = dict(found["health"]), found["counters"]
    pairs: list[tuple[str, object]] = [
        ("status", health.pop("status", "healthy" if found["healthy"] else "not healthy")),
        ("version", found["version"]),
        ("database", f"{found['database']} ({found['engine']})"),
        ("up for", f"{printing.duration(found['uptimeSeconds'])}, since {found['startedAt']}"),
    ]
    known = {"version", "engine", "uptimeS", "uptimeSeconds"}
    pairs += [(printing.words(name), value) for name, value in health.items() if name not in known]
    happened: list[tuple[str, object]] = []
    for name, value in counters.items():
        if isinstance(value, dict):
            happened += [(f"{printing.words(name)}: {part}", number) for part, number in value.items() if number]
        elif value:
            happened.append((printing.words(name), value))
    if happened:
        pairs += [("", ""), ("since the start", ""), *happened]
    printing.facts(pairs)


@click.command()
@click.option("--store", help="Connections to this store only.", shell_complete=complete_store)
@json_option
@server_options
@database_options
def connections(*, store: str | None, as_json: bool, url: str | None, **flags: Any) -> None:
    """List the open WebSockets of a running server."""
    plane = ControlPlane.needed(url, flags)
    found = plane.all("/connections", "connections", storeId=store, limit=ADMIN_PAGE_MAX)
    if as_json:
        for text in found:
            printing.raw_line(text)
        return
    with plane.understood():
        _print_connections(map(plain, found))


def _print_connections(found: Iterable[Any]) -> None:
    printing.table(
        ("number#", "store", "address!", "user", "client", "pulls#", "lag#", "queued#", "since!"),
        (
            (
                one["connectionId"],
                one["storeId"],
                one["address"],
                one["user"],
                one["generation"],
                one["openPulls"],
                one["lagEvents"],
                printing.size(one["queuedBytes"]),
                printing.ago(one["since"]),
            )
            for one in found
        ),
        empty="Nobody is connected.",
    )


# --- times and events ----------------------------------------------------------------------------------------------

_AGO: Final = re.compile(r"(\d{1,6})(min|h|d)", re.ASCII)
_UNITS: Final = {"min": "minutes", "h": "hours", "d": "days"}


def _moment(text: str | None, flag: str) -> str | None:
    """A time as events have theirs: `2h` ago, or ISO 8601, UTC where no zone is given. Raises BadParameter."""
    if text is None:
        return None
    try:
        if match := _AGO.fullmatch(text):
            return moment_of(datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])}))
        return moment_of(text)
    except (Broken, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time: say 2026-11-20T12:00:00Z, 2026-11-20, 30min, 2h or 3d (ago)", param_hint=flag
        ) from None


def _print_line(event: Event) -> None:
    """One event in a line."""
    place = f"{event.created_at}  e{event.seq_num}  {event.name}  {event.client_id}  {_short(event.args)}"
    tell(place)


def _print_table(found: Iterable[Event], *, wide: bool) -> None:
    empty = "There are no such events."
    if wide or not printing.at_terminal():
        rows = ((f"e{e.seq_num}", e.name, e.client_id, e.session_id, e.created_at, _flat(e.args)) for e in found)
        printing.table(("event#", "name", "client", "session", "pushed", "args"), rows, empty=empty, whole=True)
        return
    glances = (
        (printing.clock(event.created_at), f"e{event.seq_num}", event.name, event.client_id, _short(event.args))
        for event in found
    )
    printing.table(("pushed!", "event#", "name", "client", "args…"), glances, empty=empty)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _short(args: str) -> str:
    """Arguments as far as a person wants to see them at a glance."""
    flat = _flat(args)
    return flat if len(flat) <= _ARGS_CHARACTERS else f"{flat[: _ARGS_CHARACTERS - 1]}…"
