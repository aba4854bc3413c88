"""`deploy/livesync.service`: what systemd would do with it, done by hand to a real server."""

from __future__ import annotations

import configparser
import ctypes
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livesync_trio import limits
from livesync_trio.config import SETTINGS
from tests.conformance.clients import Generation
from tests.conformance.conftest import MakeClient
from tests.conformance.events import chain
from tests.conformance.servers import free_port
from tests.deploy.conftest import Serve
from tests.deploy.manager import HEARD_LIMIT_S, forget, heard
from tests.deploy.processes import Served

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "livesync.service"
SETTINGS_FILE = ROOT / "deploy" / "livesync.toml"
LIVESYNC = [sys.executable, "-m", "livesync_trio"]
TOKEN = "c0ffee"
WATCHDOG_S = 0.6

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65

BLOCKING_HOOK = """
from pathlib import Path

gate = Path("gate")

async def validate_payload(payload, context):
    if gate.exists():
        gate.read_text()  # in the loop's own thread, until somebody has written
        gate.unlink()
"""


class Unit(configparser.RawConfigParser):
    """A unit file: a key may stand several times."""

    def __init__(self) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.service = [
            (key, value)
            for key, _, value in (line.partition("=") for line in UNIT.read_text().splitlines())
            if value and not key.startswith("#")
        ]
        self.read_string(UNIT.read_text())

    def all(self, key: str) -> list[str]:
        return [value for name, value in self.service if name == key]

    def writable(self) -> list[str]:
        """The folders that the service may write, under the names that people use."""
        directories = ("StateDirectory", "/var/lib"), ("LogsDirectory", "/var/log"), ("CacheDirectory", "/var/cache")
        own = [f"{root}/{name}" for key, root in directories for value in self.all(key) for name in value.split()]
        return own + [path for value in self.all("ReadWritePaths") for path in value.split()]

    def command(self, etc: Path) -> list[str]:
        """The server as the unit starts it, with `etc` in place of /etc/livesync."""
        (start,) = self.all("ExecStart")
        program, *arguments = shlex.split(start.replace("/etc/livesync", str(etc)))
        assert program.endswith("/livesync")
        return [*LIVESYNC, *arguments]

    def environment(self, state: Path, credentials: Path) -> dict[str, str]:
        """What the process would find in its environment."""
        text = " ".join(self.all("Environment")).replace("%S", str(state)).replace("%d", str(credentials))
        return dict(assignment.split("=", 1) for assignment in shlex.split(text))


@pytest.fixture
def unit() -> Unit:
    return Unit()


def needs(program: str) -> str:
    """Path of a program of the machine; the test is skipped without it, and said so."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed here")
    return found


# --- the file --------------------------------------------------------------------------------------------------------


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    copy = tmp_path / "livesync.service"
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/livesync", sys.executable))
    run = subprocess.run(
        [needs("systemd-analyze"), "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_sandbox_is_tight() -> None:
    """2.0 of 10, where 10 is no sandbox; what remains is the network that a server needs."""
    command = [needs("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-200:]


def test_its_numbers_fit_those_of_the_server(unit: Unit) -> None:
    assert int(unit["Service"]["TimeoutStartSec"]) > limits.DATABASE_WAIT_S
    assert int(unit["Service"]["TimeoutStopSec"]) > limits.DRAIN_LIMIT_S
    known = {name for setting in SETTINGS for name in (setting.env, setting.file_env)}
    assert unit.environment(Path("/s"), Path("/c")).keys() <= known


def allowed_system_calls(unit: Unit) -> set[str]:
    """What `SystemCallFilter=` leaves, in systemd's own words."""

    def members(group: str) -> set[str]:
        text = subprocess.run(
            [needs("systemd-analyze"), "syscall-filter", "--no-pager", group],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        names = {line.strip() for line in text.splitlines()[1:] if line.strip() and not line.strip().startswith("#")}
        inner = {name for name in names if name.startswith("@")}
        return (names - inner).union(*map(members, inner))

    allowed: set[str] = set()
    for words in unit.all("SystemCallFilter"):
        change = set[str]().union(*(members(word) for word in words.removeprefix("~").split()))
        allowed = allowed - change if words.startswith("~") else allowed | change
    return allowed


def test_the_server_makes_no_system_call_that_the_sandbox_forbids(
    unit: Unit, serve: Serve, make_client: MakeClient, store_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    port = free_port()
    traced = [needs("strace"), "-f", "-qq", "-c", "-U", "name,errors", "-o", str(trace), *LIVESYNC, "serve"]
    server = serve(traced, port, tmp_path, {"PYTHONPATH": str(ROOT), "PORT": str(port)})
    make_client(Generation.V04_WS, server.url, store_id).push(chain(1, 20))
    (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    assert server.process.wait(HEARD_LIMIT_S) == 0
    used = set(re.findall(r"^ *([a-z]\w*)", trace.read_text(), re.MULTILINE)) - {"syscall", "total"}
    assert {"accept4", "fdatasync", "epoll_wait"} <= used
    # Python asks for its limits when it starts, and goes on without an answer.
    tolerated = {"prlimit64"} | ({"fchown"} if os.geteuid() == 0 else set())
    assert used - tolerated <= allowed_system_calls(unit)


# --- the process -----------------------------------------------------------------------------------------------------


def _confine() -> None:
    """In the child: two of the sandbox's walls that need no systemd."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0)  # MemoryDenyWriteExecute; Linux 6.3 and newer


def configured(folder: Path, database: str | None = None, more: str = "") -> Path:
    """What is shipped for /etc/livesync, in a folder of the test."""
    etc = folder / "etc"
    etc.mkdir()
    text = SETTINGS_FILE.read_text()
    if database is not None:
        text = text.replace("/var/lib/livesync/livesync.db", database)
    (etc / "livesync.toml").write_text(text + more)
    return etc


def hand_over(unit: Unit, credentials: Path) -> None:
    """The secrets, as systemd would put them where the service finds them."""
    credentials.mkdir()
    for credential in unit.all("LoadCredential"):
        name, _, path = credential.partition(":")
        assert path == f"/etc/livesync/{name}"
        (credentials / name).write_text(f"{TOKEN}\n")


def test_it_serves_with_the_units_own_environment(
    unit: Unit, serve: Serve, make_client: MakeClient, store_id: str, tmp_path: Path
) -> None:
    state, credentials = tmp_path / "lib", tmp_path / "credentials"
    (state / "livesync").mkdir(parents=True)
    etc = configured(tmp_path, database=f"{state}/livesync/livesync.db")
    hand_over(unit, credentials)
    environment = unit.environment(state, credentials)
    port = free_port()
    server = serve(
        unit.command(etc),
        port,
        Path(unit["Service"]["WorkingDirectory"].replace("%S", str(state))),
        {**environment, "PYTHONPATH": str(ROOT), "PORT": str(port)},
        preexec_fn=_confine,
    )
    make_client(Generation.V04_WS, server.url, store_id, payload={"authToken": TOKEN}).push(chain(1, 1))
    stranger = make_client(Generation.V04_HTTP, server.url, store_id, payload={"authToken": "wrong"})
    stranger.refusal_of_push(chain(2, 1))
    assert server.stop() == 0
    assert (state / "livesync" / "livesync.db").stat().st_size > 0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of `NOTIFY_SOCKET`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(str(tmp_path / "notify"))
        yield inbox


@pytest.fixture
def watched(serve: Serve, tmp_path: Path, manager: socket.socket) -> Callable[..., Served]:
    """Starts a server that a watchdog watches."""

    def start(**settings: str) -> Served:
        port = free_port()
        environment = {
            "PYTHONPATH": str(ROOT),
            "PORT": str(port),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            **settings,
        }
        return serve([*LIVESYNC, "serve"], port, tmp_path, environment)

    return start


def test_the_manager_hears_of_start_life_reload_and_end(watched: Callable[..., Served], manager: socket.socket) -> None:
    server = watched(LIVESYNC_AUDIT_LOG="audit.jsonl")
    heard(manager, "READY=1")
    assert heard(manager, "WATCHDOG=1")[1] == "STATUS=ok: 0 connections, 0 stores active"
    server.process.send_signal(signal.SIGHUP)
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", heard(manager, "RELOADING=1")[1])
    heard(manager, "READY=1")
    heard(manager, "WATCHDOG=1")
    server.process.send_signal(signal.SIGTERM)
    heard(manager, "STOPPING=1")
    assert server.process.wait(HEARD_LIMIT_S) == 0


def test_a_blocked_loop_gives_no_sign_of_life(
    watched: Callable[..., Served],
    manager: socket.socket,
    make_client: MakeClient,
    store_id: str,
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "rules.py").write_text(BLOCKING_HOOK)
    server = watched(LIVESYNC_HOOKS="rules.py")
    heard(manager, "READY=1")
    heard(manager, "WATCHDOG=1")
    push = make_client(Generation.V04_HTTP, server.url, store_id).start_push(chain(1, 1))
    with (tmp_path / "gate").open("w") as gate:  # opens when the hook has opened it, too: the loop stands
        forget(manager)
        manager.settimeout(2 * WATCHDOG_S)
        with pytest.raises(TimeoutError):
            manager.recv(65536)
        gate.write("go on")
    heard(manager, "WATCHDOG=1")
    push.result(HEARD_LIMIT_S)
