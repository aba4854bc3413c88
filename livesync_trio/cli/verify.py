"""`livesync verify`: read every log, or a file, and check all that must be true."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from livesync_trio.archive.reading import all_stores
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.verifying import Fitting, Verified
from livesync_trio.archive.verifying import verify as verified
from livesync_trio.cli import printing
from livesync_trio.cli.options import complete_store, database_options, json_option
from livesync_trio.cli.printing import tell
from livesync_trio.cli.resources import at_hand, database_to_read, no_such_store
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import StoreId
from livesync_trio.rules.schemas import BadSchemas, EventSchemas
from livesync_trio.storage.base import Reader, StoreSummary
from livesync_trio.wording import count


@click.command()
@click.argument("names", metavar="[STORE]...", nargs=-1, shell_complete=complete_store)
@click.option("--file", type=click.Path(), help="An export or backup, instead of the database; also s3://bucket/file.")
@click.option(
    "--schemas", type=click.Path(path_type=Path), help="JSON Schemas by event name, which all events are held against."
)
@json_option
@database_options
def verify(*, names: Sequence[str], file: str | None, schemas: Path | None, as_json: bool, **flags: Any) -> None:
    """Check every invariant of all stores, or of those named, even while a server uses the database.

    Chain, numbers, sizes, checksums, head and identity. The exit code is 10 when anything is wrong.
    """
    fitting = None if schemas is None else _fitting(schemas, as_json=as_json)
    if file is not None:
        if fitting is not None:
            raise click.UsageError("--schemas looks into the database, not into a file.")
        with at_hand(file, flags) as path:
            found = _of_file(path, names)
    else:
        with database_to_read(load(flags, os.environ)) as engine:
            reader = engine.snapshot()
            try:
                found = _of_database(reader, names, fitting)
            finally:
                reader.close()
    bad = [one for one in found if one.problem is not None or one.misfits]
    if as_json:
        for one in found:
            told = {"storeId": one.store_id, "events": one.events, "head": one.head, "problem": one.problem}
            printing.line(told if schemas is None else {**told, "misfits": one.misfits})
    else:
        for one in bad:
            if one.problem is not None:
                tell(one.problem)
        events = sum(one.events for one in found)
        tell(f"{count(len(found), 'store')}, {count(events, 'event')}: {_summary(bad)}")
    if bad:
        raise CommandError(
            Kind.CHECKS_FAILED,
            f"{len(bad)} of {count(len(found), 'store')} {'has' if len(bad) == 1 else 'have'} problems.",
        )


def _fitting(path: Path, *, as_json: bool) -> Fitting:
    """Holds events against the schemas of a file, and tells of each that does not fit."""
    try:
        schemas = EventSchemas.of(path.read_bytes())
    except (OSError, BadSchemas) as error:
        raise CommandError(Kind.BAD_CONFIG, f"The schemas in {path} cannot be used: {error}.") from None

    def on_misfit(store_id: StoreId, seq_num: int, what: str) -> None:
        if as_json:
            printing.line({"storeId": store_id, "seqNum": seq_num, "misfit": what})
        else:
            tell(f"Store {store_id!r}: e{seq_num} does not fit: {what}.")

    return Fitting(schemas.fault_of, on_misfit)


def _of_database(reader: Reader, names: Sequence[str], fitting: Fitting | None) -> list[Verified]:
    summaries = list(_named(reader, names) if names else all_stores(reader))
    total = sum(summary.state.event_count for summary in summaries)
    with printing.progress("verifying", total) as advance:
        return list(verified(reader, summaries, advance, fitting))


def _named(reader: Reader, names: Sequence[str]) -> Iterable[StoreSummary]:
    for name in names:
        summary = reader.summary(StoreId(name))
        if summary is None:
            raise no_such_store(name)
        yield summary


def _of_file(path: Path, names: Sequence[str]) -> list[Verified]:
    with printing.progress(f"verifying {path}") as advance:
        file = JsonlFile(path, advance, keep=False)
        try:
            headers = [section.header for section in file.sections()]
        finally:
            file.close()
    absent = sorted(set(names) - {header.store_id for header in headers})
    if absent:
        raise CommandError(Kind.NO_SUCH_STORE, f"{path} holds no store {absent[0]!r}.")
    if names:
        headers = [header for header in headers if header.store_id in names]
    return [Verified(header.store_id, header.events, header.head, None) for header in headers]


def _summary(bad: Sequence[Verified]) -> str:
    return "all is well" if not bad else f"{len(bad)} with problems"
