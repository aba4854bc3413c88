"""`livesync import`: stores out of files, other servers' tables and other servers, into the database."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from livesync_trio.archive.moving import Moved, Wishes, missing, move_in
from livesync_trio.archive.sources import Source, SourceStore
from livesync_trio.archive.sources.opening import open_source
from livesync_trio.archive.staging import Target
from livesync_trio.cli import printing
from livesync_trio.cli.options import database_options, json_option, payload_option
from livesync_trio.cli.probe import read_payload
from livesync_trio.cli.resources import target_database
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import BackendId, StoreId
from livesync_trio.wording import count


@click.command("import")
@click.argument("source")
@click.option("--store", "names", multiple=True, metavar="STORE", help="Only this one, as SOURCE calls it; repeatable.")
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="Call a store NEW here; may be repeated.")
@click.option("--backend-id", metavar="ID", help="Identity of the one store, where SOURCE does not know it.")
@payload_option
@click.option("--dry-run", is_flag=True, help="Look at SOURCE and say what would come in; change nothing.")
@json_option
@database_options
def import_(
    *,
    source: str,
    names: Sequence[str],
    renames: Sequence[str],
    backend_id: str | None,
    payload_file: Path | None,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Bring stores in from SOURCE; nothing that exists is overwritten.

    SOURCE is an export file or backup, a D1 export (SQL or SQLite), the SQLite file of a Durable Object, a directory
    such as .wrangler/state, the postgresql:// URL of the FastAPI server's database, or the URL of a running server.
    Run again after an interruption, it continues where it stopped.
    """
    wishes = Wishes(
        frozenset(map(StoreId, names)),
        _renamed(renames),
        None if backend_id is None else BackendId(backend_id),
        dry_run,
    )
    payload = None if payload_file is None else read_payload(payload_file)
    with target_database(load(flags, os.environ), change=not dry_run) as target:
        opened = open_source(source, sorted(wishes.only), payload, printing.note)
        try:
            moved = _move(target, opened, wishes, as_json)
        finally:
            opened.close()
    _judge(opened.describe(), moved)


def _move(target: Target, source: Source, wishes: Wishes, as_json: bool) -> list[Moved]:
    """Bring in what is wished, tell of each store as soon as it is done."""
    there = source.stores()
    absent = missing(there, wishes)
    if absent:
        raise CommandError(Kind.NO_SUCH_STORE, f"There is no store {absent[0]!r} in {source.describe()}.")
    ignored = sorted(wishes.renamed.keys() - wishes.only) if wishes.only else []
    if ignored:
        raise CommandError(Kind.BAD_CONFIG, f"--rename of {ignored[0]!r}, which is not among the stores of --store.")
    if wishes.backend_id is not None and len(wishes.only or there) != 1:
        raise CommandError(Kind.BAD_CONFIG, "--backend-id is the identity of one store: name which by --store.")
    moved: list[Moved] = []
    what = f"{'looking at' if wishes.dry_run else 'importing'} {source.describe()}"
    try:
        with printing.progress(what, _steps(there, wishes)) as advance:
            for one in move_in(target, source, wishes, on_events=advance):
                moved.append(one)
                if as_json:
                    printing.line(_as_json(one))
    finally:  # what came in is told, whatever ends the rest
        if not as_json and (moved or not there):
            _table(source, moved)
    return moved


def _table(source: Source, moved: Sequence[Moved]) -> None:
    printing.table(
        ("store", "from", "events#", "head#", "outcome_", "notes_"),
        (
            (one.store_id, one.place, one.events, f"e{one.head}", one.outcome, "; ".join(one.problems + one.notes))
            for one in moved
        ),
        empty=f"{source.describe()} holds no stores.",
    )


def _steps(stores: Sequence[SourceStore], wishes: Wishes) -> int | None:
    """How often an event will be told of: when it is looked at, and when it comes in. None where nobody knows."""
    counts = [store.events for store in stores if not wishes.only or store.store_id in wishes.only]
    known = [count for count in counts if count is not None]
    return sum(known) * (1 if wishes.dry_run else 2) if len(known) == len(counts) else None


def _judge(source: str, moved: Sequence[Moved]) -> None:
    """Raise what the exit code comes from, unless all is well."""
    if not moved:
        raise CommandError(Kind.BAD_ARCHIVE, f"There are no stores in {source}.")
    for outcome, kind in (("refused", Kind.BAD_ARCHIVE), ("in the way", Kind.ALREADY_THERE)):
        bad = [one for one in moved if one.outcome == outcome]
        if bad:
            why = "; ".join(bad[0].problems)
            raise CommandError(
                kind, f"{len(bad)} of {count(len(moved), 'store')} cannot come in. {bad[0].store_id!r}: {why}."
            )


def _as_json(one: Moved) -> dict[str, Any]:
    return {
        "storeId": one.store_id,
        "place": one.place,
        "events": one.events,
        "head": one.head,
        "backendId": one.backend_id,
        "outcome": one.outcome,
        "problems": one.problems,
        "notes": one.notes,
    }


def _renamed(renames: Sequence[str]) -> Mapping[StoreId, StoreId]:
    pairs = [rename.partition("=") for rename in renames]
    for old, equals, new in pairs:
        if not (old and equals and new):
            raise click.BadParameter(f"{old!r} is not OLD=NEW", param_hint="--rename")
    olds = [old for old, _, _ in pairs]
    for old in olds:
        if olds.count(old) > 1:
            raise click.BadParameter(f"{old!r} is given two names", param_hint="--rename")
    return {StoreId(old): StoreId(new) for old, _, new in pairs}
