"""`livesync feed`: look at the change feed and its source, take away what it made there, have it read again."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import click
import psycopg

from livesync_trio.cli import printing
from livesync_trio.cli.options import configuration_options, json_option
from livesync_trio.cli.printing import tell
from livesync_trio.config import Config, FeedTable, load
from livesync_trio.errors import CommandError, Kind, StartupError, StorageUnavailable
from livesync_trio.feed.history.databases import Database
from livesync_trio.feed.history.reading import Reader
from livesync_trio.feed.history.state import State
from livesync_trio.feed.history.writing import Writer
from livesync_trio.feed.polling import may_use_slots
from livesync_trio.feed.position import lsn_text
from livesync_trio.feed.reader import open_stream
from livesync_trio.feed.service import history_of, names_of, rules_of
from livesync_trio.feed.source import Slot, SourceProblem, connect, drop, inspect, is_published, leave_mark, slot_of
from livesync_trio.feed.stream import StreamEnded
from livesync_trio.wording import count

FEED_ARRIVAL_LIMIT_S: Final = 10.0
FEED_ARRIVAL_LOOK_S: Final = 0.05
"""How long, and how often, is looked whether something that was written to the source is stored."""


@click.group()
def feed() -> None:
    """Look at the change feed and its source, and mend it.

    What is asked for needs no running server: it reads the configuration, the history and the source.
    """


@feed.command()
@json_option
@configuration_options("database_url")
def status(*, as_json: bool, **flags: Any) -> None:
    """Tell how far the history goes, and what the source keeps for it."""
    config, table = _configured(flags)
    state = _state(config)
    with _source(), connect(table.source.reveal()) as connection:
        slot = slot_of(connection, table.slot)
    lines = {
        "epoch": state.epoch or "none: the source was never read",
        "head": lsn_text(state.head_lsn),
        "floor": lsn_text(state.floor_lsn),
        "compacted": lsn_text(state.compacted_lsn),
        "confirmed": lsn_text(state.confirmed_lsn),
        "tables": ", ".join(state.tables) or "none",
        "slot": "there is none" if slot is None else _described(slot),
        "arrival": _arrival(config, table)[1],
    }
    if as_json:
        printing.line(lines)
    else:
        for name, text in lines.items():
            tell(text, label=f"{name:<12}")


def _arrival(config: Config, table: FeedTable) -> tuple[bool, str]:
    """Write something to the source, and see whether a server stores it. Gives whether all is well, and words."""
    with _source(), connect(table.source.reveal()) as connection:
        slot = slot_of(connection, table.slot)
        if slot is None or not (slot.active or table.polling):
            return True, "no server reads the source now"
        began_s = time.monotonic()
        lsn = leave_mark(connection)
    while time.monotonic() < began_s + FEED_ARRIVAL_LIMIT_S:
        if _state(config).confirmed_lsn >= lsn:
            return True, f"what was written to the source was stored after {time.monotonic() - began_s:.1f} s"
        time.sleep(FEED_ARRIVAL_LOOK_S)
    return False, f"what was written to the source was not stored within {FEED_ARRIVAL_LIMIT_S:g} s: see /health"


def _described(slot: Slot) -> str:
    reads = "a server reads it" if slot.active else "nobody reads it"
    left = "no limit is set" if slot.safe_bytes is None else f"{slot.safe_bytes:,} bytes until it is lost"
    return f"{slot.wal_status}, {reads}, the source keeps {slot.retained_bytes:,} bytes for it, {left}"


@feed.command()
@configuration_options("database_url")
def doctor(**flags: Any) -> None:
    """Check everything that the feed needs of its source. Changes nothing there; exits with 10 when one fails."""
    config, table = _configured(flags)
    names = names_of(table)
    wrong = 0
    checks: dict[str, Callable[[], str]] = {
        "filters": partial(_filters, table),
        "history": partial(_history, config),
        "tables": partial(_tables, table),
        "publication": partial(_publication, table),
        "replication": partial(_replication, table),
        "limits": partial(_limits, table),
        "arrival": partial(_arrives, config, table),
    }
    for about, check in checks.items():
        try:
            tell(check(), label=f"{about:<12} ok       ", colour="green")
        except (SourceProblem, StreamEnded, StartupError, StorageUnavailable, psycopg.Error) as error:
            wrong += 1
            tell(" ".join(str(error).split()), label=f"{about:<12} wrong    ", colour="red")
    if wrong:
        raise CommandError(Kind.CHECKS_FAILED, f"{count(wrong, 'check')} of the feed {names.slot} failed.")


def _arrives(config: Config, table: FeedTable) -> str:
    well, words = _arrival(config, table)
    if not well:
        raise SourceProblem(words)
    return words


def _filters(table: FeedTable) -> str:
    rules_of(table, None)
    hidden = [name for name in table.tables if name not in table.access]
    return f"nobody sees {', '.join(hidden)}: there is no rule" if hidden else "every table has a rule"


def _history(config: Config) -> str:
    database = history_of(config.database_url)
    database.open()
    return database.place


def _tables(table: FeedTable) -> str:
    with connect(table.source.reveal()) as connection:
        return f"{count(len(inspect(connection, table.tables)), 'table')} can be followed"


def _publication(table: FeedTable) -> str:
    with connect(table.source.reveal()) as connection:
        names, tables = names_of(table), inspect(connection, table.tables)
        if is_published(connection, names, tables):
            return f"{table.publication} holds them"
        return f"{table.publication} will be made or changed when the server starts"


def _replication(table: FeedTable) -> str:
    """Poolers, and roles without the right, are met here."""
    if table.polling:
        with connect(table.source.reveal()) as connection:
            if not may_use_slots(connection):
                raise SourceProblem("the feed's role may use no replication slot: ALTER ROLE … REPLICATION")
    try:
        stream = open_stream(names_of(table), lambda: False)
    except psycopg.OperationalError as error:
        connect(table.source.reveal()).close()  # raises when it is every connection that is refused
        raise SourceProblem(
            f"{error}: connect to the database itself, raise max_wal_senders, or set polling = true"
        ) from None
    try:
        system = stream.identify()
    finally:
        stream.close()
    return f"{'the log is polled' if table.polling else 'the connection replicates'}, timeline {system.timeline}"


def _limits(table: FeedTable) -> str:
    with connect(table.source.reveal()) as connection:
        [(slots, used, kept)] = connection.execute(
            "SELECT current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots), "
            "current_setting('max_slot_wal_keep_size')"
        ).fetchall()
        if used >= slots and slot_of(connection, table.slot) is None:
            raise SourceProblem(f"all {slots} replication slots are taken: raise max_replication_slots")
    if kept == "-1":
        return "the source keeps its log for the feed without a limit: set max_slot_wal_keep_size, or its disk may fill"
    return f"{used} of {slots} slots are used; the source keeps at most {kept} for one"


@feed.command(name="drop")
@click.option("--yes", is_flag=True, help="Do not ask.")
@configuration_options("database_url")
def drop_command(*, yes: bool, **flags: Any) -> None:
    """Take the feed's slot and publication away from the source, so that it keeps nothing for it any more.

    Stop the servers first, or they make them again. The history stays; a server that starts later reads all rows again.
    """
    _, table = _configured(flags)
    if not yes:
        click.confirm(f"Drop slot {table.slot} and publication {table.publication} in the source?", abort=True)
    with _source(), connect(table.source.reveal()) as connection:
        gone = drop(connection, names_of(table))
    tell(f"dropped: {', '.join(gone)}" if gone else "there was nothing to drop")


@feed.command()
@configuration_options("database_url")
def resync(**flags: Any) -> None:
    """Have all rows compared with the source. What is different reaches the clients as changes; nobody fetches anew."""
    config, _ = _configured(flags)
    _state(config)
    writer = Writer(history_of(config.database_url))
    try:
        writer.take_over()
        writer.distrust()
    except StorageUnavailable as error:
        raise StartupError(Kind.DATABASE_UNUSABLE, str(error)) from error
    finally:
        writer.close()
    tell("the server that reads the source, or the next one that starts, compares all rows")


def _configured(flags: dict[str, Any]) -> tuple[Config, FeedTable]:
    config = load(flags, os.environ)
    if config.feed is None:
        raise CommandError(Kind.BAD_CONFIG, "There is no [feed] in the configuration: see docs/change-feed.md.")
    return config, config.feed


def _state(config: Config) -> State:
    database: Database = history_of(config.database_url)
    reader = None
    try:
        database.open()
        reader = Reader(database)
        return reader.state()
    except StorageUnavailable as error:
        raise StartupError(Kind.DATABASE_UNUSABLE, str(error)) from error
    finally:
        if reader is not None:
            reader.close()


@contextmanager
def _source() -> Iterator[None]:
    """What an error of the source means for whoever asked."""
    try:
        yield
    except (psycopg.Error, SourceProblem) as error:
        raise CommandError(Kind.SERVER_UNREACHABLE, f"The source: {' '.join(str(error).split())}.") from error
