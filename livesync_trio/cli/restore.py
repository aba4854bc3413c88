"""`livesync restore`: go back to a backup."""

import os
from collections.abc import Sequence
from typing import Any

import click

from livesync_trio.archive.entries import Broken
from livesync_trio.archive.restoring import Claim, Planned, Restored, Verdict, decide, plan
from livesync_trio.archive.restoring import restore as restored
from livesync_trio.archive.sources.jsonl_file import JsonlFile
from livesync_trio.archive.staging import Target
from livesync_trio.cli import printing
from livesync_trio.cli.options import database_options, json_option
from livesync_trio.cli.resources import at_hand, target_database
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import StoreId
from livesync_trio.wording import count


@click.command()
@click.argument("file", type=click.Path())
@click.option("--store", "names", multiple=True, metavar="STORE", help="Only this store; may be repeated.")
@click.option("--complete", is_flag=True, help="Nothing was acknowledged after the backup: clients continue.")
@click.option("--lost-tail", is_flag=True, help="Events came after the backup: clients must start over.")
@click.option("--yes", is_flag=True, help="Replace stores whose contents differ, although they are not named.")
@click.option("--dry-run", is_flag=True, help="Check FILE and say what would happen; change nothing.")
@json_option
@database_options
def restore(
    *,
    file: str,
    names: Sequence[str],
    complete: bool,
    lost_tail: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Bring back the stores of the backup FILE, after all of it was checked.

    A store gets a new identity, so that its clients start over, unless --complete says that nothing was acknowledged
    after the backup: clients that have later events would wait for ever. If the database shows otherwise, that counts.
    FILE may lie in a bucket: s3://bucket/file.
    """
    if complete and lost_tail:
        raise click.UsageError("--complete and --lost-tail contradict each other")
    claim = Claim.COMPLETE if complete else Claim.LOST_TAIL if lost_tail else Claim.UNKNOWN
    with at_hand(file, flags) as path, target_database(load(flags, os.environ), change=not dry_run) as target:
        backup = JsonlFile(path)
        try:
            planned = plan(target, backup, frozenset(map(StoreId, names)))
            if dry_run:
                _show_plan(planned, decide(target, planned, claim), as_json)
                return
            if not names and not yes:
                _check_replaces_nothing(planned)
            _carry_out(target, backup, planned, decide(target, planned, claim), as_json)
        finally:
            backup.close()


def _check_replaces_nothing(planned: Sequence[Planned]) -> None:
    replaced = [one for one in planned if one.replaces]
    if replaced:
        what = "; ".join(
            f"{one.store_id!r} has {count(one.found.event_count, 'event')}: {one.relation.value}"
            for one in replaced[:3]
            if one.found is not None
        )
        raise CommandError(
            Kind.ALREADY_THERE,
            f"This would replace {count(len(replaced), 'store')} ({what}): "
            "name those to restore by --store, or pass --yes.",
        )


def _carry_out(
    target: Target, backup: JsonlFile, planned: Sequence[Planned], verdicts: Sequence[Verdict | None], as_json: bool
) -> None:
    """Restore one store after the other; what came of each is shown whatever happens to the next."""
    total = sum(one.events for one in planned)
    done: list[Restored] = []
    try:
        with printing.progress(f"restoring from {backup.describe()}", total) as advance:
            for one, decided in zip(planned, verdicts, strict=True):
                done.append(restored(target, backup, one, decided, advance))
                if as_json:
                    _show(done[-1:], as_json)
    except Broken as error:
        raise CommandError(Kind.BAD_ARCHIVE, f"{backup.describe()} changed while it was read: {error}.") from None
    finally:
        if not as_json and (done or not planned):
            _show(done, as_json)


def _show(done: Sequence[Restored], as_json: bool) -> None:
    if as_json:
        for one in done:
            printing.line(
                {
                    "storeId": one.store_id,
                    "events": one.events,
                    "head": one.head,
                    "lostEvents": one.lost_events,
                    "backendId": one.backend_id,
                    "keptIdentity": one.kept_identity,
                    "outcome": one.outcome,
                    "reason": one.reason,
                }
            )
        return
    printing.table(
        ("store", "events#", "head#", "lost#", "outcome_", "clients_", "because_"),
        (
            (
                one.store_id,
                one.events,
                f"e{one.head}",
                one.lost_events,
                one.outcome,
                "continue" if one.kept_identity else "start over",
                one.reason,
            )
            for one in done
        ),
        empty="The backup holds no stores.",
    )


def _show_plan(planned: Sequence[Planned], verdicts: Sequence[Verdict | None], as_json: bool) -> None:
    """What would become of each store."""
    rows: list[dict[str, Any]] = []
    for one, decided in zip(planned, verdicts, strict=True):
        kept = decided is None or decided.keeps_identity
        rows.append(
            {
                "storeId": one.store_id,
                "events": one.events,
                "head": one.head,
                "inItsPlace": one.relation.value,
                "outcome": "nothing to do" if decided is None else "would be restored",
                "lostEvents": 0 if decided is None else one.lost_events,
                "keptIdentity": kept,
                "reason": one.relation.value if decided is None else decided.reason,
            }
        )
    if as_json:
        for row in rows:
            printing.line(row)
        return
    printing.table(
        ("store", "events#", "head#", "in the database_", "lost#", "outcome_", "clients_", "because_"),
        (
            (
                row["storeId"],
                row["events"],
                f"e{row['head']}",
                row["inItsPlace"],
                row["lostEvents"],
                row["outcome"],
                "continue" if row["keptIdentity"] else "start over",
                row["reason"],
            )
            for row in rows
        ),
        empty="The backup holds no stores.",
    )
