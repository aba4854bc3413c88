"""`livesync reset`, `delete`, `rename`, `freeze`, `thaw`, `rewind`, `erase`: what an operator does to a whole store.

Each works on a running server, which lets its clients know, or on a database, and tells the same of both. `rewind` and
`erase` write a log anew; nothing is left of the old one.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from livesync_trio.access.store_ids import StoreIdPolicy
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
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import database_options, json_option, server_options, store_argument
from livesync_trio.cli.printing import tell
from livesync_trio.cli.resources import no_such_store, target_database
from livesync_trio.cli.store_readers import reading
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import PULL_ANSWER_LIMIT_S, SEQ_NUM_MAX
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Adopt, Appended, Delete, Freeze, NoStore, Reset
from livesync_trio.wire.choice import Choice
from livesync_trio.wire.reading import plain
from livesync_trio.wording import count

REWRITTEN_LIMIT_S: Final = 3600.0
"""How long a command waits for a server that writes a log anew."""

_CLEARED_LOOKS: Final = 40
_CLEARED_LOOK_S: Final = 0.25
"""How often, and after which pause, is looked whether nobody reads the old log any more."""

_Done = dict[str, Any]
"""What came of it, by the names of the control plane's answers."""

_IDENTITY: Final = {"backendId": str}
_LOG: Final = {**_IDENTITY, "head": int}
_REWRITTEN: Final = {**_LOG, "events": int, "overwritten": bool}
"""Which of its members a command tells, and what they are."""

_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def _of_a_store(command: Callable[..., None]) -> Callable[..., None]:
    return json_option(server_options(database_options(command)))


@click.command()
@store_argument
@_yes_option
@_of_a_store
def reset(*, store: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Give STORE an empty log and a new identity: all of its events are gone, and its clients start over."""
    _confirm(store, url, flags, "This deletes all {events} of {store}{clients}.", yes=yes)

    def in_database(target: Target) -> _Done:
        state = target.one(Reset(StoreId(store)))
        assert isinstance(state, LogState)
        target.tell([StoreId(store)])
        return {"backendId": state.backend_id}

    done = _carried_out("reset", store, url, flags, in_database, answers=_IDENTITY)
    _tell({"storeId": store, **done, "head": 0}, f"{store} is empty now; its clients start over.", as_json=as_json)


@click.command()
@store_argument
@_yes_option
@_of_a_store
def delete(*, store: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Delete STORE with all of its events: its clients start over, and whoever opens it again makes a new one."""
    _confirm(store, url, flags, "This deletes {store} with all {events}{clients}.", yes=yes)

    def in_database(target: Target) -> _Done:
        target.one(Delete(StoreId(store)))
        target.tell([StoreId(store)])
        return {}

    _carried_out("delete", store, url, flags, in_database, answers={})
    _tell({"storeId": store}, f"{store} is deleted.", as_json=as_json)


@click.command()
@store_argument
@click.argument("to", metavar="NEW_NAME")
@_yes_option
@_of_a_store
def rename(*, store: str, to: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Rename STORE to NEW_NAME, under which there must be no events: it keeps its events and its identity.

    Clients of the old name start over, those of the new one find the events.
    """
    if (unfit := StoreIdPolicy().refusal(to)) is not None or not to or to == store:
        raise CommandError(Kind.BAD_CONFIG, unfit.message if unfit else "Give the store another name than it has.")
    _confirm(store, url, flags, "{store} with {events} gets another name{clients}.", yes=yes)

    def in_database(target: Target) -> _Done:
        return _renamed(target, StoreId(store), StoreId(to))

    done = _carried_out("rename", store, url, flags, in_database, answers=_LOG, to=to)
    _tell({"storeId": to, "previous": store, **done}, f"{store} is {to} now.", as_json=as_json)


def _renamed(target: Target, store: StoreId, to: StoreId) -> _Done:
    state, there = target.reader.state(store), target.reader.state(to)
    if state is None:
        raise no_such_store(store)
    outcome = None
    if there is None or not there.event_count:
        outcome = target.one(Adopt(to, store, state, state.backend_id, there))
    if not isinstance(outcome, Appended):
        raise CommandError(Kind.ALREADY_THERE, f"There is a store {to!r} with events in it. Nothing was changed.")
    target.tell([store, to])
    return {"backendId": outcome.state.backend_id, "head": outcome.state.head}


@click.command()
@store_argument
@_of_a_store
def freeze(*, store: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Let STORE take no more events until it is thawed: it can be read, and clients keep what they cannot push."""
    _set_frozen(store, url, flags, frozen=True, as_json=as_json)


@click.command()
@store_argument
@_of_a_store
def thaw(*, store: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Let a frozen STORE take events again."""
    _set_frozen(store, url, flags, frozen=False, as_json=as_json)


def _set_frozen(store: str, url: str | None, flags: dict[str, Any], *, frozen: bool, as_json: bool) -> None:
    def in_database(target: Target) -> _Done:
        state = target.one(Freeze(StoreId(store), frozen))
        if isinstance(state, NoStore):
            raise no_such_store(store)
        assert isinstance(state, LogState)
        target.tell([StoreId(store)])
        return {"head": state.head}

    done = _carried_out("freeze", store, url, flags, in_database, answers={"head": int}, frozen=frozen)
    told = {"storeId": store, "frozen": frozen, **done}
    _tell(told, f"{store} takes {'no events until you thaw it' if frozen else 'events again'}.", as_json=as_json)


@click.command()
@store_argument
@click.argument("to", type=click.IntRange(0, SEQ_NUM_MAX), metavar="NUMBER")
@_yes_option
@_of_a_store
def rewind(*, store: str, to: int, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Go back: STORE ends at the event NUMBER, under a new identity, and its clients start over.

    Of the events after it nothing is left in the database.
    """
    _confirm(store, url, flags, f"Of {{events}} of {{store}} those after e{to} go for good{{clients}}.", yes=yes)

    def in_database(target: Target) -> _Done:
        return _rewritten(target, StoreId(store), Rewind(to))

    done = _carried_out("rewind", store, url, flags, in_database, answers=_REWRITTEN, limit_s=REWRITTEN_LIMIT_S, to=to)
    _tell_rewritten(store, done, as_json=as_json)


@click.command()
@store_argument
@click.option("--event", "events", type=int, multiple=True, metavar="NUMBER", help="This event; may be repeated.")
@click.option("--name", metavar="NAME", help="Events of this name only.")
@click.option("--client", "client_id", metavar="ID", help="Events of this client only.")
@click.option("--session", "session_id", metavar="ID", help="Events of this session only.")
@click.option("--args", "text", required=True, metavar="JSON", help="What stands for their args from now on.")
@_yes_option
@_of_a_store
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
    _confirm(store, url, flags, "Chosen ones of {events} of {store} lose their args for good{clients}.", yes=yes)

    def in_database(target: Target) -> _Done:
        return _rewritten(target, StoreId(store), how)

    chosen = {"name": name, "clientId": client_id, "sessionId": session_id}
    members = {"events": sorted(how.numbers), "args": plain(how.args), **chosen}
    done = _carried_out(
        "erase", store, url, flags, in_database, answers=_REWRITTEN, limit_s=REWRITTEN_LIMIT_S, **members
    )
    _tell_rewritten(store, done, as_json=as_json)


def _rewritten(target: Target, store: StoreId, how: Rewriting) -> _Done:
    """Write the log anew beside the old one, let it take its place, and see that nothing is left."""
    before = target.reader.state(store)
    if before is None:
        raise no_such_store(store)
    try:
        with printing.progress(f"writing {store} anew", before.event_count) as advance:
            staged = staged_anew(target, store, before, how, advance)
    except NotInLog as error:
        raise CommandError(Kind.BAD_CONFIG, str(error)) from None
    outcome = target.one(adoption(store, staged, before))
    if not isinstance(outcome, Appended):
        given_up(target, store)
        raise CommandError(
            Kind.ALREADY_THERE,
            f"Store {store!r} was used meanwhile, and stays as it is: freeze it first, or let a server do it (--url).",
        )
    target.tell([store])
    overwritten = clear(target, before)
    for _ in range(_CLEARED_LOOKS):
        if overwritten:
            break
        time.sleep(_CLEARED_LOOK_S)
        overwritten = clear(target, before)
    after = outcome.state
    return {
        "backendId": after.backend_id,
        "head": after.head,
        "events": after.event_count,
        "overwritten": overwritten,
    }


def _tell_rewritten(store: str, done: _Done, *, as_json: bool) -> None:
    has = count(done["events"], "event")
    _tell(
        {"storeId": store, **done},
        f"{store} has {has} up to e{done['head']} now; its clients start over.",
        as_json=as_json,
    )
    if not as_json and not done["overwritten"]:
        tell("The bytes of the old log are still in the database: somebody reads it. The server goes on by itself.")


# --- what they share -------------------------------------------------------------------------------------------------


def _confirm(store: str, url: str | None, flags: dict[str, Any], warning: str, *, yes: bool) -> None:
    """See that there is such a store, and that it is meant: a person types its name, a program passes --yes.

    Args:
        store: the store.
        url: of the running server that is asked; None: a database.
        flags: of the command.
        warning: what is about to happen; `{store}`, `{events}` and `{clients}` stand for what there is.
        yes: it is meant.

    Raises:
        CommandError: there is no such store, or it is not meant.
    """
    with reading(url, flags) as source:
        found = next((one for one in source.stores(store) if one["storeId"] == store), None)
    if found is None:
        raise no_such_store(store)
    if yes:
        return
    clients = f"; connected clients: {found['peers']}" if "peers" in found else ""
    told = warning.format(store=repr(store), events=count(found["events"], "event"), clients=clients)
    if not sys.stdin.isatty():
        raise CommandError(Kind.BAD_CONFIG, f"{told} If you mean it, pass --yes.")
    typed = click.prompt(f"{told} Type its name to continue", default="", show_default=False)
    if typed != store:
        raise CommandError(Kind.BAD_CONFIG, f"That is not the name of {store!r}: nothing was changed.")


def _carried_out(
    verb: str,
    store: str,
    url: str | None,
    flags: Mapping[str, Any],
    in_database: Callable[[Target], _Done],
    *,
    answers: Mapping[str, Callable[[Any], object]],
    limit_s: float = PULL_ANSWER_LIMIT_S,
    **members: Any,
) -> _Done:
    """Have a running server do it, or do it in the database.

    Args:
        verb: what is to be done, as the control plane calls it.
        store: to which store.
        url: of the control plane; None: in the database.
        flags: of the command.
        in_database: does it there.
        answers: the members of its answer that count, and what makes sure that they are what they should be.
        limit_s: how long a server may take.
        members: what else a server is asked.

    Raises:
        StartupError, CommandError: it was not done, or nobody can tell.
    """
    config = load(flags, os.environ)
    if url is None:
        with target_database(config, change=True) as target:
            return in_database(target)
    plane = ControlPlane(url, config.admin_secret)
    with plane.understood():
        told = plane.post(f"/store/{verb}", {"storeId": store, "confirm": store, **members}, limit_s)
        return {name: read(told[name]) for name, read in answers.items()}


def _tell(told: _Done, words: str, *, as_json: bool) -> None:
    if as_json:
        printing.line(told)
    else:
        tell(words)
