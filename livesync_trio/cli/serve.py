"""`livesync serve`: load the configuration, refuse what is dangerous, run the server."""

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from livesync_trio.app import running
from livesync_trio.cli.banner import Control, banner, who_may_connect
from livesync_trio.cli.options import GroupedCommand, configuration_options
from livesync_trio.cli.printable import tell
from livesync_trio.cli.process_one import part_if_first
from livesync_trio.config import Config, exposure_problems, is_loopback, is_postgresql, load
from livesync_trio.errors import Kind, StartupError
from livesync_trio.hooks import Hooks, load_hooks
from livesync_trio.listening import check_name, inherited_listeners, place_of
from livesync_trio.systemd import inherited
from livesync_trio.telemetry import get_logger

_log = get_logger("app")


@click.command(cls=GroupedCommand)
@configuration_options()
def serve(**flags: Any) -> None:
    """Serve LiveStore clients until a signal says stop.

    An option overrides its environment variable, which overrides the TOML file.
    """
    part_if_first()
    sockets = inherited_listeners(inherited(os.environ))
    if sockets:  # that is where it listens, whatever else is said; what may be exposed is judged by the most open one
        places = [place_of(one) for one in sockets]
        host, port = next((place for place in places if not is_loopback(place[0])), places[0])
        flags |= {"host": host, "port": str(port)}
    config, hooks = _read(flags)
    _refuse_what_was_left_behind(config)
    control: list[Control] = []
    running.run(
        config,
        hooks,
        on_ready=partial(_show_banner, config, hooks, control),
        reread=partial(_read, flags, again=True),
        on_control=lambda url, first: control.append(Control(url, first)),
        sockets=sockets,
    )


def _read(flags: Mapping[str, Any], *, again: bool = False) -> tuple[Config, Hooks]:
    """Read configuration and hooks, and see whether they may be used. Raises StartupError."""
    config = load(flags, os.environ)
    hooks = Hooks()
    if config.hooks is not None:
        # A module beside the operator is found however we were started; last, so that it hides none of ours.
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        hooks = load_hooks(config.hooks, again=again)
    refuse_exposure(config, hooks)
    return config, hooks


def refuse_exposure(config: Config, hooks: Hooks) -> None:
    """Stop before anything is open to a network that should not be.

    Raises:
        StartupError: with every reason, and what to do.
    """
    problems = exposure_problems(config, hooks.decide_who_connects)
    if problems:
        check_name(config.host, f"{config.given('host')}, port {config.given('port')}")  # a slip is told as what it is
        reasons = "".join(f"\n  {problem}" for problem in problems)
        raise StartupError(
            Kind.BAD_CONFIG,
            f"refusing to listen on {config.given('host')} (--insecure would do it all the same):{reasons}",
        )


def _refuse_what_was_left_behind(config: Config) -> None:
    """Stop before clients of the FastAPI server begin a second history beside their first.

    Raises:
        StartupError: the database holds events of that server, and no store of ours.
    """
    if not is_postgresql(config.database_url):
        return
    from livesync_trio.archive.sources.fastapi import logs_left_behind  # noqa: PLC0415 - only with PostgreSQL

    tables = logs_left_behind(config.database_url)
    if tables:
        raise StartupError(
            Kind.DATABASE_UNUSABLE,
            f"the database holds {len(tables)} stores of the FastAPI server ({tables[0]}, say) and none of this one. "
            "Bring them in first: `livesync import` with the URL of this database. If you mean to begin anew, use "
            "another database.",
        )


def _show_banner(config: Config, hooks: Hooks, told: list[Control], url: str, database: str) -> None:
    # Where lines are made for machines, the server's own log line says the same and nothing else is printed.
    control = told[0] if told else None
    if config.log_format != "json":
        tell(banner(config, url, database, who_may_connect(config, hooks.decide_who_connects), control))
    elif control is not None and control.first is not None:
        _log.info("nobody can sign in yet", link=control.first_line(config, url))
