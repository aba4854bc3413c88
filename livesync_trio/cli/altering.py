"""`livesync reset`, `delete`, `rename`, `freeze`, `thaw`: what an operator does to a store as a whole.

Each works on a running server, which lets its clients know, or on a database.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from livesync_trio.access.store_ids import StoreIdPolicy
from livesync_trio.cli import printing
from livesync_trio.cli.completing import complete_store
from livesync_trio.cli.databases import target_database
from livesync_trio.cli.options import database_options, json_option, server_options
from livesync_trio.cli.printable import tell
from livesync_trio.cli.reading import reading
from livesync_trio.cli.reading.control_plane import ControlPlane
from livesync_trio.cli.reading.database import no_such_store
from livesync_trio.config import load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import PULL_ANSWER_LIMIT_S
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Adopt, Appended, Delete, Freeze, NoStore, Reset

REWRITTEN_LIMIT_S: Final = 3600.0
"""How long a command waits for a server that writes a log anew."""

T = TypeVar("T")

_store_argument = click.argument("store", shell_complete=complete_store)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@_store_argument
@_yes_option
@json_option
@server_options
@database_options
def reset(*, store: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Give STORE an empty log and a new identity: all of its events are gone, and its clients start over."""
    confirm(store, url, flags, "This deletes all {events:,} events of {store}{clients}.", yes=yes)
    if url is not None:
        backend_id = on_server(url, flags, "reset", store, lambda told: str(told["backendId"]))
    else:
        with target_database(load(flags, os.environ), change=True) as target:
            state = target.one(Reset(StoreId(store)))
            assert isinstance(state, LogState)
            target.tell([StoreId(store)])
            backend_id = state.backend_id
    if as_json:
        printing.line({"storeId": store, "backendId": backend_id, "head": 0})
    else:
        tell(f"{store} is empty now; its clients start over.")


@click.command()
@_store_argument
@_yes_option
@json_option
@server_options
@database_options
def delete(*, store: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Delete STORE with all of its events: its clients start over, and whoever opens it again makes a new one."""
    confirm(store, url, flags, "This deletes {store} with all {events:,} events{clients}.", yes=yes)
    if url is not None:
        on_server(url, flags, "delete", store, lambda told: told["storeId"])
    else:
        with target_database(load(flags, os.environ), change=True) as target:
            target.one(Delete(StoreId(store)))
            target.tell([StoreId(store)])
    if as_json:
        printing.line({"storeId": store})
    else:
        tell(f"{store} is deleted.")


@click.command()
@_store_argument
@click.argument("to", metavar="NEW_NAME")
@_yes_option
@json_option
@server_options
@database_options
def rename(*, store: str, to: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Rename STORE to NEW_NAME, under which there must be no events: it keeps its events and its identity.

    Clients of the old name start over, those of the new one find the events.
    """
    if (unfit := StoreIdPolicy().refusal(to)) is not None or not to or to == store:
        raise CommandError(Kind.BAD_CONFIG, unfit.message if unfit else "Give the store another name than it has.")
    confirm(store, url, flags, "{store} with {events:,} events gets another name{clients}.", yes=yes)
    if url is not None:
        backend_id, head = on_server(
            url, flags, "rename", store, lambda told: (str(told["backendId"]), int(told["head"])), to=to
        )
    else:
        backend_id, head = _renamed_in_database(flags, StoreId(store), StoreId(to))
    if as_json:
        printing.line({"storeId": to, "previous": store, "backendId": backend_id, "head": head})
    else:
        tell(f"{store} is {to} now.")


def _renamed_in_database(flags: dict[str, Any], store: StoreId, to: StoreId) -> tuple[str, int]:
    with target_database(load(flags, os.environ), change=True) as target:
        state, there = target.reader.state(store), target.reader.state(to)
        if state is None:
            raise no_such_store(store)
        outcome = None
        if there is None or not there.event_count:
            outcome = target.one(Adopt(to, store, state, state.backend_id, there))
        if not isinstance(outcome, Appended):
            raise CommandError(Kind.ALREADY_THERE, f"There is a store {to!r} with events in it. Nothing was changed.")
        target.tell([store, to])
        return outcome.state.backend_id, outcome.state.head


@click.command()
@_store_argument
@json_option
@server_options
@database_options
def freeze(*, store: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Let STORE take no more events until it is thawed: it can be read, and clients keep what they cannot push."""
    _set_frozen(store, url, flags, frozen=True, as_json=as_json)


@click.command()
@_store_argument
@json_option
@server_options
@database_options
def thaw(*, store: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Let a frozen STORE take events again."""
    _set_frozen(store, url, flags, frozen=False, as_json=as_json)


def _set_frozen(store: str, url: str | None, flags: dict[str, Any], *, frozen: bool, as_json: bool) -> None:
    if url is not None:
        head = on_server(url, flags, "freeze", store, lambda told: int(told["head"]), frozen=frozen)
    else:
        with target_database(load(flags, os.environ), change=True) as target:
            state = target.one(Freeze(StoreId(store), frozen))
            if isinstance(state, NoStore):
                raise no_such_store(store)
            assert isinstance(state, LogState)
            target.tell([StoreId(store)])
            head = state.head
    if as_json:
        printing.line({"storeId": store, "frozen": frozen, "head": head})
    else:
        tell(f"{store} takes {'no events until you thaw it' if frozen else 'events again'}.")


# --- what they share -------------------------------------------------------------------------------------------------


def confirm(store: str, url: str | None, flags: dict[str, Any], warning: str, *, yes: bool) -> None:
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
    told = warning.format(store=repr(store), events=found["events"], clients=clients)
    if not sys.stdin.isatty():
        raise CommandError(Kind.BAD_CONFIG, f"{told} If you mean it, pass --yes.")
    typed = click.prompt(f"{told} Type its name to continue", default="", show_default=False)
    if typed != store:
        raise CommandError(Kind.BAD_CONFIG, f"That is not the name of {store!r}: nothing was changed.")


def on_server(
    url: str,
    flags: dict[str, Any],
    verb: str,
    store: str,
    told: Callable[[dict[str, Any]], T],
    *,
    patiently: bool = False,
    **members: Any,
) -> T:
    """Have a running server do it; what `told` makes of its answer.

    Args:
        url: of its control plane.
        flags: of the command.
        verb: what is to be done.
        store: to which store.
        told: reads the answer.
        patiently: it may take as long as a long log takes.
        members: what else is asked.

    Raises:
        CommandError: it was not done, or nobody can tell.
    """
    plane = ControlPlane(url, load(flags, os.environ).admin_secret)
    limit_s = REWRITTEN_LIMIT_S if patiently else PULL_ANSWER_LIMIT_S
    with plane.understood():
        return told(plane.post(f"/store/{verb}", {"storeId": store, "confirm": store, **members}, limit_s))
