"""`livesync doctor`: look at everything a server needs, and sync an event as a client would.

Each check looks at one thing, changes nothing, and says what it saw and what to do about it.
"""

import os
import resource
import shutil
import stat
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import attrs
import click

from livesync_trio.app import engines
from livesync_trio.archive.entries import Broken
from livesync_trio.archive.reading import all_stores
from livesync_trio.archive.sources.wire import connected
from livesync_trio.cli import printing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import configuration_options, json_option, sync_options, url_option
from livesync_trio.cli.printing import Colour, tell
from livesync_trio.cli.probe import payload, scratch, sync_probe, sync_url
from livesync_trio.config import Config, exposure_problems, is_loopback, is_postgresql, load, sqlite_path
from livesync_trio.errors import CommandError, Kind, LivesyncError
from livesync_trio.hooks import Hooks, load_hooks
from livesync_trio.wire.reading import plain
from livesync_trio.wording import count, shown_url

OPEN_FILES_LEAST: Final = 4_096
"""Open files below which it warns: one a connection, a few for the database; many systems allow 1,024 by default."""

DISK_FREE_LEAST_BYTES: Final = 1024 * 1024 * 1024
"""Free room below which it warns: a full disk refuses every push."""

CLOCK_AHEAD_MAX_S: Final = 60.0
"""How far in the future the newest event may seem to have been pushed; clocks kept by NTP differ by less than 1 s."""

State = Literal["ok", "careful", "wrong", "not looked at"]


@attrs.frozen
class Check:
    """What was found.

    Attributes:
        about: what was looked at.
        state: how it is.
        text: what was seen, and what to do about it.
    """

    about: str
    state: State
    text: str


def _configuration(config: Config) -> Iterator[Check]:
    """Hooks can be loaded, and nothing is open to a network that should not be."""
    hooks = Hooks()
    if config.hooks is not None:
        sys.path.append(str(Path.cwd()))
        try:
            hooks = load_hooks(config.hooks)
        except LivesyncError as error:
            yield Check("hooks", "wrong", str(error))
            return
        yield Check("hooks", "ok", f"{config.hooks} can be loaded")
    problems = exposure_problems(config, hooks.decide_who_connects)
    if problems:
        yield from (Check("exposure", "wrong", problem) for problem in problems)
    else:
        yield Check("exposure", "ok", f"{config.host}:{config.port} may be listened on with these settings")


def _database(config: Config) -> Iterator[Check]:
    """The database can be read, and its newest event does not come from the future."""
    if not is_postgresql(config.database_url):
        path = sqlite_path(config.database_url).resolve()
        yield from _file(path)
        if not path.exists():
            return
    engine = engines.engine_of(config)
    try:
        engine.open_to_read()
        reader = engine.reader()
        try:
            summaries = list(all_stores(reader))
        finally:
            reader.close()
            engine.close()
    except LivesyncError as error:
        yield Check("database", "wrong", str(error))
        return
    events = sum(one.state.event_count for one in summaries)
    yield Check("database", "ok", f"{engine.describe()}: {count(len(summaries), 'store')}, {count(events, 'event')}")
    yield _clock(max((one.last_push_at for one in summaries if one.last_push_at), default=None))


def _file(path: Path) -> Iterator[Check]:
    directory = path.parent
    if not directory.is_dir():
        yield Check("database", "wrong", f"{directory} does not exist: make it, or name another file")
        return
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Check(
            "permissions", "wrong", f"{directory} may not be written by this user; SQLite makes files beside its own"
        )
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield Check("permissions", "wrong", f"{path} may not be read and written by this user")
    elif path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Check("permissions", "careful", f"{path} is open to other users of this machine: chmod 600")
    else:
        yield Check("permissions", "ok", f"{directory} may be written")
    if not path.exists():
        yield Check("database", "ok", f"{path} will be made by the first `livesync serve`")
    free = shutil.disk_usage(directory).free
    state: State = "ok" if free >= DISK_FREE_LEAST_BYTES else "careful"
    yield Check("disk", state, f"{free / 2**30:.1f} GiB are free in {directory}")


def _clock(newest: str | None) -> Check:
    if newest is None:
        return Check("clock", "ok", f"it is {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    ahead_s = (datetime.fromisoformat(newest) - datetime.now(UTC)).total_seconds()
    if ahead_s > CLOCK_AHEAD_MAX_S:
        return Check("clock", "wrong", f"the newest event was pushed at {newest}, in the future: set the clock by NTP")
    return Check("clock", "ok", f"it is {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, after the newest event")


def _open_files() -> Check:
    """Every connection needs a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES_LEAST:
        what = f"{soft} open files are allowed, so about as many clients: `ulimit -n {min(hard, 65_536)}`, or "
        return Check("open files", "careful", f"{what}LimitNOFILE= in the systemd unit")
    return Check("open files", "ok", f"{'any number' if soft == resource.RLIM_INFINITY else soft} allowed")


# --- the command ------------------------------------------------------------------------------------------------------


_COLUMN: Final = 14
_INDENT: Final = 2 * _COLUMN
_LEAST_COLUMNS: Final = 20
_SHOWN: Final[Mapping[State, tuple[str, Colour]]] = {
    "ok": ("ok", "green"),
    "careful": ("warning", "yellow"),
    "wrong": ("wrong", "red"),
    "not looked at": ("skipped", "white"),
}
"""How a person is told of each state."""


@click.command()
@url_option("Control plane of the running server.")
@sync_options
@json_option
@configuration_options("host", "port", "database_url", "admin_secret")
def doctor(*, url: str | None, sync_url: str | None, payload_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Check configuration, database, permissions, clock, limits and proxy, and sync a probe through a scratch store.

    The exit code is 10 when something is wrong. With --url the scratch store is deleted again. Takes every option of
    `livesync serve`.
    """
    config = load(flags, os.environ)
    found = []
    for check in _all(config, url, sync_url, payload_file):
        found.append(check)
        if as_json:
            printing.line({"about": check.about, "state": check.state, "text": check.text})
        else:
            _print(check)
    wrong = [check for check in found if check.state == "wrong"]
    if wrong:
        raise CommandError(Kind.CHECKS_FAILED, f"{len(wrong)} of {count(len(found), 'check')} failed.")


def _all(config: Config, url: str | None, given_url: str | None, payload_file: Path | None) -> Iterator[Check]:
    yield Check("configuration", "ok", "every setting is understood")  # else `load` has said why
    yield from (Check("environment", "careful", remark) for remark in config.remarks)
    yield from _configuration(config)
    yield from _database(config)
    yield _open_files()
    plane = None if url is None else ControlPlane(url, config.admin_secret)
    yield from _probed(
        config, sync_url(config, given_url), payload(config, payload_file), plane, asked=given_url or url
    )


def _probed(config: Config, where: str, who: Any, plane: ControlPlane | None, *, asked: str | None) -> Iterator[Check]:
    """Sync an event through a scratch store; on the way, look how the server sees us."""
    store = scratch("doctor")
    try:
        with connected(where, store, who) as client:
            synced = sync_probe(client)
            times = f"durable after {synced.push_s * 1000:.0f} ms, pulled in {synced.pull_s * 1000:.0f} ms"
            yield Check("probe", "ok", f"e{synced.head} of {store!r} through {shown_url(where)}: {times}")
            with nullcontext() if plane is None else plane.understood():
                proxy = proxy_check(config, where, plane, store)
            yield proxy
    except (CommandError, Broken) as error:
        if asked is None:
            yield Check("probe", "not looked at", f"no server answers at {shown_url(where)}: name one by --sync-url")
        else:
            yield Check("probe", "wrong", str(error))
        return
    if plane is not None:
        with suppress(CommandError):
            plane.post("/store/delete", {"storeId": store, "confirm": store})


def _print(check: Check) -> None:
    """One check in a line; at a terminal folded at spaces, beside its name."""
    text = check.text
    if printing.at_terminal():
        width = max(_LEAST_COLUMNS, shutil.get_terminal_size().columns - _INDENT)
        text = f"\n{' ' * _INDENT}".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))
    word, colour = _SHOWN[check.state]
    tell(f"{check.about:<{_COLUMN}}{text}", label=word.ljust(_COLUMN), colour=colour)


class Connections(Protocol):
    """What is asked of the control plane while the probe is connected."""

    def all(self, path: str, members: str, **query: str | int | None) -> Iterator[bytes]:
        """Every entry of a list."""


def proxy_check(config: Config, where: str, plane: Connections | None, store: str) -> Check:
    """Whether the server knows for whom a proxy asks: it should not see the proxy's own address.

    Args:
        config: says which proxies are trusted.
        where: URL through which the probe is connected.
        plane: the control plane; None: nobody can be asked.
        store: the probe's store.
    """
    if plane is None:
        return Check("proxy", "not looked at", "with --url the server is asked from where it saw the probe come")
    seen = [str(plain(text)["address"]) for text in plane.all("/connections", "connections", storeId=store)]
    host = urlsplit(where).hostname or ""
    address = seen[-1] if seen else "nowhere"
    if is_loopback(host) or not is_loopback(address.rpartition(":")[0].strip("[]")):
        return Check("proxy", "ok", f"the server saw the probe come from {address}")
    trusted = "they do not fit what it sends" if config.trusted_proxies else "none are set"
    return Check(
        "proxy",
        "careful",
        f"the server saw the probe come from {address}, its proxy: LIVESYNC_TRUSTED_PROXIES, {trusted}",
    )
