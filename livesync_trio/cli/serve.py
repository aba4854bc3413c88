"""`livesync serve`: load the configuration, refuse what is dangerous, run the server, say where it is.

As the first process of a container it becomes two: a small parent that reaps, and the server as its child. The kernel
gives every process whose parent has died to process 1, which must take note of its end; else it stays as a zombie. The
server cannot do that itself: it would take away the ends of the programs that hooks wait for.
"""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import click

from livesync_trio.app import running
from livesync_trio.cli.options import GroupedCommand, configuration_options
from livesync_trio.cli.printing import tell
from livesync_trio.config import (
    THIS_MACHINE,
    Config,
    exposure_problems,
    is_loopback,
    is_placeholder,
    is_postgresql,
    load,
)
from livesync_trio.errors import Kind, StartupError
from livesync_trio.hooks import Hooks, load_hooks
from livesync_trio.limits import UNIX
from livesync_trio.listening import address_of, check_name, inherited_listeners
from livesync_trio.systemd import inherited
from livesync_trio.telemetry import get_logger
from livesync_trio.version import VERSION
from livesync_trio.wording import count

_log = get_logger("app")


# --- what is said when it is ready ------------------------------------------------------------------------------------


@attrs.frozen
class Control:
    """The control plane, as it was told.

    Attributes:
        url: where it listens; empty when it has no address.
        first: path and query of the page on which the first operator is made; None: that is not needed.
    """

    url: str
    first: str | None = None

    def line(self, config: Config, url: str) -> str:
        """Where it is. Not to have it is no reason not to serve, but one to be told."""
        line = self.url or f"NOT YET: {config.admin_host}:{config.admin_port} cannot be listened on; see the log"
        return f"{line}   and   {url}/admin" if config.admin_public else line

    def first_line(self, config: Config, url: str) -> str:
        """Where the first operator is made, and how long."""
        own = self.url or (f"{url}/admin" if config.admin_public else f"http://{config.admin_host}:{config.admin_port}")
        return f"{own}{self.first}   (makes the first operator, once, within 30 minutes)"


def banner(config: Config, url: str, database: str, who_may_connect: str, control: Control | None = None) -> str:
    """The text.

    Args:
        config: the configuration.
        url: where the server listens, `http://host:port`, as bound.
        database: where the events are kept, in the engine's words.
        who_may_connect: in words.
        control: the control plane; None where there is none.
    """
    lines = [
        ("listening on", url),
        ("database", database),
        ("may connect", who_may_connect),
        *([] if control is None else [("control", control.line(config, url))]),
        *([] if control is None or control.first is None else [("sign in", control.first_line(config, url))]),
        ("in the app", client_line(config, url)),
    ]
    for env, secret in (("AUTH_TOKEN", config.auth_token), ("ADMIN_SECRET", config.admin_secret)):
        if secret is not None and is_placeholder(secret):
            lines.append(("warning", f"{env} is a placeholder that everybody knows; a proxy in front would expose it"))
    return "\n".join([f"livesync {VERSION}", *(f"  {label:<13}{text}" for label, text in lines)])


def client_line(config: Config, url: str) -> str:
    """The one line to paste into a client's code; it works on this machine."""
    if url.startswith(UNIX):
        return "the URL of the proxy in front"
    parts = urlsplit(url)
    host = THIS_MACHINE.get(parts.hostname or "", parts.netloc.rpartition(":")[0])
    scheme = "wss" if parts.scheme == "https" else "ws"
    line = f"makeWsSync({{ url: '{scheme}://{host}:{parts.port}' }})"
    return line if not config.asks_for_tokens else f"{line}   and   syncPayload: {{ authToken: '…' }}"


def who_may_connect(config: Config, has_validate_payload: bool) -> str:
    """Who gets in, in words.

    Args:
        config: the configuration.
        has_validate_payload: whether a hook decides, whichever of the three that can.
    """
    from_where = "" if not is_loopback(config.host) else " on this machine"
    tokens = [] if config.auth_token is None else ["AUTH_TOKEN"]
    tokens += [] if config.jwt_secret is None and config.jwt_keys is None else ["a valid JSON Web Token"]
    terms = [f"send {' or '.join(tokens)}"] if tokens else []
    terms += ["your hooks accept"] if has_validate_payload else []
    if terms:
        return f"clients{from_where} that {' and that '.join(terms)}"
    return f"anyone{from_where}" if from_where else "ANYONE who reaches this address (--insecure)"


# --- the command ------------------------------------------------------------------------------------------------------


@click.command(cls=GroupedCommand)
@configuration_options()
def serve(**flags: Any) -> None:
    """Serve LiveStore clients until a signal says stop.

    An option overrides its environment variable, which overrides the TOML file.
    """
    part_if_first()
    sockets = inherited_listeners(inherited(os.environ))
    if sockets:  # that is where it listens, whatever else is said; what may be exposed is judged by the most open one
        places = [address_of(one) for one in sockets]
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
            f"the database holds {count(len(tables), 'store')} of the FastAPI server ({tables[0]}, say) and "
            "none of this one. Bring them in first: `livesync import` with the URL of this database. If you mean to "
            "begin anew, use another database.",
        )


def _show_banner(config: Config, hooks: Hooks, told: list[Control], url: str, database: str) -> None:
    # Where lines are made for machines, the server's own log line says the same and nothing else is printed.
    control = told[0] if told else None
    if config.log_format != "json":
        tell(banner(config, url, database, who_may_connect(config, hooks.decide_who_connects), control))
    elif control is not None and control.first is not None:
        _log.info("nobody can sign in yet", link=control.first_line(config, url))


# --- the first process of a container ---------------------------------------------------------------------------------


_PASSED_ON: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
_HEARD: Final = _PASSED_ON | {signal.SIGCHLD}


def part_if_first() -> None:
    """In process 1, become two; returns in the child only, and in any other process at once.

    To be called before there are threads.
    """
    if os.getpid() == 1:
        part()


def part() -> None:
    """Become parent and child; returns in the child only. The parent ends as the child does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # a signal that comes between waits until it is heard
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # Ctrl-C reaches it once, by way of the parent
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(_HEARD)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        status = _reaped(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _reaped(child: int) -> int | None:
    """Take note of every process that has ended; gives how the child did, if it is among them."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = status
    return found
