"""What `livesync doctor` looks at on this machine, one function a check. None changes anything."""

import os
import resource
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import attrs

from livesync_trio.app import engines
from livesync_trio.archive.reading import all_stores
from livesync_trio.config import Config, exposure_problems, is_postgresql, sqlite_path
from livesync_trio.errors import LivesyncError
from livesync_trio.hooks import Hooks, load_hooks

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


def configuration(config: Config) -> Iterator[Check]:
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


def database(config: Config) -> Iterator[Check]:
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
    yield Check("database", "ok", f"{engine.describe()}: {len(summaries)} stores, {events:,} events")
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


def open_files() -> Check:
    """Every connection needs a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES_LEAST:
        what = f"{soft} open files are allowed, so about as many clients: `ulimit -n {min(hard, 65_536)}`, or "
        return Check("open files", "careful", f"{what}LimitNOFILE= in the systemd unit")
    return Check("open files", "ok", f"{'any number' if soft == resource.RLIM_INFINITY else soft} allowed")
