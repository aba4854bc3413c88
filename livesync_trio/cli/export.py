"""`livesync export` and `livesync backup`: stores as files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import click

from livesync_trio.archive.export import Exported
from livesync_trio.archive.export import export as write_file
from livesync_trio.archive.files import STANDARD_OUTPUT
from livesync_trio.archive.reading import all_stores
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.table_shape import export_tables
from livesync_trio.cli import printing
from livesync_trio.cli.completing import complete_store
from livesync_trio.cli.databases import database_files, database_to_read
from livesync_trio.cli.options import database_options, json_option
from livesync_trio.cli.printable import tell
from livesync_trio.cli.reading.database import no_such_store
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import RESERVED_STORES, LogState, StoreId
from livesync_trio.storage.base import Reader

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
    _tell(file, stores, events, as_json)


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@_stores_option
@click.option("--overwrite", is_flag=True, help="Replace FILE once the new backup is whole.")
@json_option
@database_options
def backup(*, file: str, names: Sequence[str], overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Save the database, or some of its stores, as of one moment into FILE, even while a server uses it.

    The file is the same as that of `livesync export`, and is read back and checked before it gets its name.
    """
    config = load(flags, os.environ)
    with database_to_read(config) as engine:
        reader = engine.snapshot()
        try:
            chosen = _chosen(reader, names)
            with printing.progress(f"saving to {file}", _events(chosen)) as advance:
                done = write_file(
                    reader,
                    chosen,
                    file,
                    overwrite=overwrite,
                    resume=False,
                    protected=database_files(config),
                    on_events=advance,
                    check=_check,
                )
        finally:
            reader.close()
    _tell(file, done.stores, done.events, as_json)


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
                f"Left out: {len(left)} stores of imports that were not finished ({names}; "
                f"{_events(left):,} events). Name one by --store to have it in the file."
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


def _tell(file: str, stores: int, events: int, as_json: bool) -> None:
    if file == STANDARD_OUTPUT:
        printing.note(_counts(stores, events))
    elif as_json:
        printing.line({"file": file, "stores": stores, "events": events, "bytes": Path(file).stat().st_size})
    else:
        tell(f"{file}: {_counts(stores, events)}, {printing.size(Path(file).stat().st_size)}")


def _counts(stores: int, events: int) -> str:
    return f"{printing.count(stores, 'store')}, {printing.count(events, 'event')}"
