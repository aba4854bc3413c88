"""`livesync migrate`: bring the tables of a PostgreSQL database up to date, or list what is missing."""

import os
from typing import Any, Final

import click

from livesync_trio.app import engines
from livesync_trio.cli.options import configuration_options
from livesync_trio.cli.printing import tell
from livesync_trio.config import load
from livesync_trio.errors import Kind, StartupError, StorageUnavailable

_MISSING: Final = 1
"""Exit code of `--check` when this version cannot serve yet."""


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; list what is missing, and exit with 1 if it is needed.")
@click.option("--sql", is_flag=True, help="Change nothing; print what is missing as SQL, for a role that may do it.")
@click.option(
    "--finish",
    is_flag=True,
    help="Also take the steps that older servers cannot work with.",
)
@configuration_options("database_url", "database_wait_s")
def migrate(*, check: bool, sql: bool, finish: bool, **flags: Any) -> None:
    """Bring the tables of a PostgreSQL database up to date.

    `livesync serve` does this automatically, except for --finish. An SQLite file is brought up to date by its server.
    """
    engine = engines.shared_engine(load(flags, os.environ))
    if engine is None:
        tell("nothing to do: the server brings an SQLite file up to date when it starts")
        return
    try:
        if not check and not sql:
            engine.migrate(finish=finish)
        needed, later = engine.pending()
        if sql:
            tell(engine.script() if needed or later else "-- nothing to do")
            return
    except StorageUnavailable as error:
        raise StartupError(Kind.DATABASE_UNUSABLE, f"{error}.") from error
    for step in needed:
        tell(f"missing: {step}")
    for step in later:
        tell(f"to be finished (livesync migrate --finish) when no older server runs: {step}")
    if not needed and not later:
        tell(f"up to date: {engine.describe()}")
    if needed:
        click.get_current_context().exit(_MISSING)
