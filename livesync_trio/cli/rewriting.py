"""`livesync rewind` and `erase`: a log is written anew, and nothing is left of the old one."""

import os
import time
from collections.abc import Sequence
from typing import Any, Final

import attrs
import click

from livesync_trio.archive.rewriting import (
    Erase,
    NotInLog,
    Rewind,
    Rewriting,
    adoption,
    args_text,
    clear,
    given_up,
    staged_anew,
)
from livesync_trio.archive.staging import Target
from livesync_trio.cli import printing
from livesync_trio.cli.altering import confirm, on_server
from livesync_trio.cli.completing import complete_store
from livesync_trio.cli.databases import target_database
from livesync_trio.cli.options import database_options, json_option, server_options
from livesync_trio.cli.printable import tell
from livesync_trio.cli.reading.database import no_such_store
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Appended
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain

_CLEARED_LOOKS: Final = 40
_CLEARED_LOOK_S: Final = 0.25

_store_argument = click.argument("store", shell_complete=complete_store)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@attrs.frozen
class _Done:
    """What came of it."""

    backend_id: str
    head: int
    events: int
    overwritten: bool


@click.command()
@_store_argument
@click.argument("to", type=click.IntRange(0, SEQ_NUM_MAX), metavar="NUMBER")
@_yes_option
@json_option
@server_options
@database_options
def rewind(*, store: str, to: int, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Go back: STORE ends at the event NUMBER, under a new identity, and its clients start over.

    Of the events after it nothing is left in the database.
    """
    confirm(
        store, url, flags, f"Of the {{events:,}} events of {{store}} those after e{to} go for good{{clients}}.", yes=yes
    )
    if url is not None:
        done = on_server(url, flags, "rewind", store, _done, patiently=True, to=to)
    else:
        done = _in_database(flags, StoreId(store), Rewind(to))
    _tell(store, done, as_json=as_json)


@click.command()
@_store_argument
@click.option("--event", "events", type=int, multiple=True, metavar="NUMBER", help="This event; may be repeated.")
@click.option("--name", metavar="NAME", help="Events of this name only.")
@click.option("--client", "client_id", metavar="ID", help="Events of this client only.")
@click.option("--session", "session_id", metavar="ID", help="Events of this session only.")
@click.option("--args", "text", required=True, metavar="JSON", help="What stands for their args from now on.")
@_yes_option
@json_option
@server_options
@database_options
def erase(
    *,
    store: str,
    events: Sequence[int],
    name: str | None,
    client_id: str | None,
    session_id: str | None,
    text: str,
    yes: bool,
    as_json: bool,
    url: str | None,
    **flags: Any,
) -> None:
    """Replace the args of chosen events of STORE by JSON for good; it gets a new identity, and its clients start over.

    Of what the args were nothing is left in the database, nor of who pushed them. The JSON must be args that your app's
    materializers understand.
    """
    choice = Choice(name, client_id, session_id)
    if not events and choice == Choice():
        raise click.UsageError("say which events, by --event, --name, --client or --session")
    try:
        how = Erase(frozenset(events), choice, args_text(text))
    except ValueError as error:
        raise click.UsageError(f"--args is not JSON: {error}") from None
    confirm(store, url, flags, "Chosen events of the {events:,} of {store} lose their args for good{clients}.", yes=yes)
    if url is not None:
        chosen = {"name": name, "clientId": client_id, "sessionId": session_id}
        members = {"events": sorted(how.numbers), "args": plain(how.args), **chosen}
        done = on_server(url, flags, "erase", store, _done, patiently=True, **members)
    else:
        done = _in_database(flags, StoreId(store), how)
    _tell(store, done, as_json=as_json)


def _in_database(flags: dict[str, Any], store: StoreId, how: Rewriting) -> _Done:
    with target_database(load(flags, os.environ), change=True) as target:
        before = target.reader.state(store)
        if before is None:
            raise no_such_store(store)
        try:
            with printing.progress(f"writing {store} anew", before.event_count) as advance:
                staged = staged_anew(target, store, before, how, advance)
        except NotInLog as error:
            raise CommandError(Kind.BAD_CONFIG, str(error)) from None
        after = _take_place(target, store, staged, before)
        overwritten = clear(target, before)
        for _ in range(_CLEARED_LOOKS):
            if overwritten:
                break
            time.sleep(_CLEARED_LOOK_S)
            overwritten = clear(target, before)
    return _Done(after.backend_id, after.head, after.event_count, overwritten)


def _take_place(target: Target, store: StoreId, staged: LogState, before: LogState) -> LogState:
    outcome = target.one(adoption(store, staged, before))
    if not isinstance(outcome, Appended):
        given_up(target, store)
        raise CommandError(
            Kind.ALREADY_THERE,
            f"Store {store!r} was used meanwhile, and stays as it is: freeze it first, or let a server do it (--url).",
        )
    target.tell([store])
    return outcome.state


def _done(told: dict[str, Any]) -> _Done:
    return _Done(str(told["backendId"]), int(told["head"]), int(told["events"]), bool(told["overwritten"]))


def _tell(store: str, done: _Done, *, as_json: bool) -> None:
    if as_json:
        printing.line(
            {
                "storeId": store,
                "backendId": done.backend_id,
                "head": done.head,
                "events": done.events,
                "overwritten": done.overwritten,
            }
        )
        return
    tell(f"{store} has {done.events:,} events up to e{done.head} now; its clients start over.")
    if not done.overwritten:
        tell("The bytes of the old log are still in the database: somebody reads it. The server goes on by itself.")
