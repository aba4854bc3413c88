"""`livesync reset`: an empty log and a new identity for a store."""

import os
import sys
from typing import Any

import click

from livesync_trio.cli import printing
from livesync_trio.cli.completing import complete_store
from livesync_trio.cli.databases import target_database
from livesync_trio.cli.options import database_options, json_option, server_options
from livesync_trio.cli.printable import tell
from livesync_trio.cli.reading import reading
from livesync_trio.cli.reading.control_plane import ControlPlane
from livesync_trio.cli.reading.database import no_such_store
from livesync_trio.config import Config, load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.model import LogState, StoreId
from livesync_trio.storage.base import Reset


@click.command()
@click.argument("store", shell_complete=complete_store)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@server_options
@database_options
def reset(*, store: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Give STORE an empty log and a new identity: all of its events are gone, and its clients start over."""
    config = load(flags, os.environ)
    with reading(url, flags) as source:
        found = next((one for one in source.stores(store) if one["storeId"] == store), None)
    if found is None:
        raise no_such_store(store)
    if not yes:
        _ask(store, found)
    backend_id = _on_server(url, config, store) if url is not None else _in_database(config, store)
    if as_json:
        printing.line({"storeId": store, "backendId": backend_id, "head": 0})
    else:
        tell(f"{store} is empty now; its clients start over.")


def _ask(store: str, found: dict[str, Any]) -> None:
    """Let a person type the name; a program passes --yes."""
    if not sys.stdin.isatty():
        raise CommandError(Kind.BAD_CONFIG, f"This deletes every event of {store!r}: pass --yes.")
    clients = f", and {found['peers']} clients are connected" if "peers" in found else ""
    typed = click.prompt(
        f"This deletes all {found['events']:,} events of {store!r}{clients}. Type its name to continue",
        default="",
        show_default=False,
    )
    if typed != store:
        raise CommandError(Kind.BAD_CONFIG, f"That is not the name of {store!r}: nothing was changed.")


def _on_server(url: str, config: Config, store: str) -> str:
    plane = ControlPlane(url, config.admin_secret)
    with plane.understood():
        return str(plane.post("/store/reset", {"storeId": store, "confirm": store})["backendId"])


def _in_database(config: Config, store: str) -> str:
    with target_database(config, change=True) as target:
        if target.reader.state(StoreId(store)) is None:
            raise no_such_store(store)
        state = target.one(Reset(StoreId(store)))
        assert isinstance(state, LogState)
        target.tell([StoreId(store)])
    return state.backend_id
