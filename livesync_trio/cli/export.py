"""`livesync export`, `backup` and `backups`: stores as files."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import click

from livesync_trio.archive.export import Exported
from livesync_trio.archive.export import export as write_file
from livesync_trio.archive.files import STANDARD_OUTPUT
from livesync_trio.archive.places import keep_newest
from livesync_trio.archive.reading import all_stores
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.table_shape import export_tables
from livesync_trio.cli import printing
from livesync_trio.cli.options import complete_store, configuration_options, database_options, json_option
from livesync_trio.cli.printing import tell
from livesync_trio.cli.resources import database_files, database_to_read, no_such_store, on_the_way, place_of
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import RESERVED_STORES, LogState, StoreId
from livesync_trio.openapi import wire_time
from livesync_trio.storage.base import Reader
from livesync_trio.wording import count

Format = Literal["jsonl", "sqlite"]
_FORMATS: Final = ("jsonl", "sqlite")

_stores_option = click.option(
    *("--store", "names"),
    multiple=True,
    metavar="STORE",
    shell_complete=complete_store,
    help="This store; may be repeated. [default: all]",
)

_Stores = list[tuple[StoreId, LogState]]


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@_stores_option
@click.option(
    "--format", "kind", type=click.Choice(_FORMATS), default="jsonl", help="JSON Lines, or the tables of sync-cf."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@json_option
@database_options
def export(*, file: str, names: Sequence[str], kind: Format, overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Write stores into FILE, even while a server uses the database.

    A FILE that ends with .gz is compressed; - is standard output. An export that was interrupted
    continues when it is run again, unless it is compressed.
    """
    config = load(flags, os.environ)
    with database_to_read(config) as engine:
        reader = engine.snapshot()
        try:
            chosen = _chosen(reader, names)
            with printing.progress(f"exporting to {file}", _events(chosen)) as advance:
                if kind == "sqlite":
                    stores, events = export_tables(
                        reader,
                        chosen,
                        Path(file),
                        overwrite=overwrite,
                        protected=database_files(config),
                        on_events=advance,
                    )
                else:
                    done = write_file(
                        reader, chosen, file, overwrite=overwrite, protected=database_files(config), on_events=advance
                    )
                    stores, events = done.stores, done.events
        finally:
            reader.close()
    size_bytes = 0 if file == STANDARD_OUTPUT else Path(file).stat().st_size
    _tell(file, stores, events, size_bytes, as_json)


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@_stores_option
@click.option("--overwrite", is_flag=True, help="Replace FILE once the new backup is whole.")
@click.option(
    *("--keep", "keep"),
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Afterwards remove all but the newest of the scheduled backups beside FILE.",
)
@json_option
@database_options
def backup(*, file: str, names: Sequence[str], overwrite: bool, keep: int | None, as_json: bool, **flags: Any) -> None:
    """Save the database, or some of its stores, as of one moment into FILE, even while a server uses it.

    The file is the same as that of `livesync export`, and is read back and checked before it gets its name.
    s3://bucket/file writes it into a bucket, and reads it back from there too.
    """
    config = load(flags, os.environ)
    with on_the_way(file, config, overwrite=overwrite) as target:
        with database_to_read(config) as engine:
            reader = engine.snapshot()
            try:
                chosen = _chosen(reader, names)
                with printing.progress(f"saving to {file}", _events(chosen)) as advance:
                    done = write_file(
                        reader,
                        chosen,
                        target,
                        overwrite=overwrite,
                        resume=False,
                        protected=database_files(config),
                        on_events=advance,
                        check=_check,
                    )
            finally:
                reader.close()
        size_bytes = 0 if target == STANDARD_OUTPUT else Path(target).stat().st_size
    if keep is not None and file != STANDARD_OUTPUT:
        keep_newest(place_of(os.path.dirname(file) or ".", config), keep)  # noqa: PTH120 - it may be a URL
    _tell(file, done.stores, done.events, size_bytes, as_json)


@click.command()
@click.argument("place", required=False)
@json_option
@configuration_options("backup_dir")
def backups(*, place: str | None, as_json: bool, **flags: Any) -> None:
    """List the scheduled backups, the newest first.

    Of the folder or bucket PLACE, or of the one in which the server makes them.
    """
    config = load(flags, os.environ)
    where = place or config.backup_dir
    if where is None:
        raise CommandError(Kind.BAD_CONFIG, "Nothing says where they are: name a folder, or set LIVESYNC_BACKUP_DIR.")
    found = [(one, _moment(one.begun_s)) for one in place_of(where, config).kept()[::-1]]
    if as_json:
        for one, begun_at in found:
            printing.line({"name": one.name, "begunAt": begun_at, "bytes": one.size_bytes})
        return
    rows = [(one.name, printing.ago(begun_at), printing.size(one.size_bytes)) for one, begun_at in found]
    printing.table(("backup", "begun", "size"), rows, empty=f"There are no scheduled backups in {where} yet.")


def _moment(at_s: float) -> str:
    return wire_time(datetime.fromtimestamp(at_s, UTC))


def _check(file: Path, done: Exported) -> None:
    """Read a backup from the disk as a restore would. Raises CommandError when it is not what was written."""
    with printing.progress(f"checking {file}", done.events) as advance:
        backup_file = JsonlFile(file, advance, keep=False)
        try:
            headers = [section.header for section in backup_file.sections()]
        finally:
            backup_file.close()
    if (len(headers), sum(header.events for header in headers)) != (done.stores, done.events):
        raise CommandError(Kind.BAD_ARCHIVE, f"{file} does not hold what was written to it: make it again.")


def _chosen(reader: Reader, names: Sequence[str]) -> _Stores:
    """The stores that are named, or all of them, but those that are only half imported."""
    if not names:
        found = all_stores(reader)
        stores: _Stores = []
        left: _Stores = []
        for one in found:
            (left if one.store_id.startswith(RESERVED_STORES) else stores).append((one.store_id, one.state))
        if left:
            names = ", ".join(repr(store_id) for store_id, _ in left[:3])
            printing.note(
                f"Left out: {count(len(left), 'store')} of imports that were not finished ({names}; "
                f"{count(_events(left), 'event')}). Name one by --store to have it in the file."
            )
        return stores
    chosen: _Stores = []
    for name in dict.fromkeys(names):
        state = reader.state(StoreId(name))
        if state is None:
            raise no_such_store(name)
        chosen.append((StoreId(name), state))
    return chosen


def _events(stores: _Stores) -> int:
    return sum(log.event_count for _, log in stores)


def _tell(file: str, stores: int, events: int, size_bytes: int, as_json: bool) -> None:
    if file == STANDARD_OUTPUT:
        printing.note(_counts(stores, events))
    elif as_json:
        printing.line({"file": file, "stores": stores, "events": events, "bytes": size_bytes})
    else:
        tell(f"{file}: {_counts(stores, events)}, {printing.size(size_bytes)}")


def _counts(stores: int, events: int) -> str:
    return f"{count(stores, 'store')}, {count(events, 'event')}"
