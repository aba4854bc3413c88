"""Servers under test: ours, one of the others, or whatever listens at a URL.

Every run of a scenario gets a server started for it, with an empty database on the local disk: no run inherits memory,
a warm cache or a long log from the one before. A server at a URL is taken as it is found.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from bench import processes
from bench.sockets import Address, BenchError

START_LIMIT_S: Final = 30.0
STOP_LIMIT_S: Final = 15.0
"""From the command to the first connection, and from the signal to the end."""

ROOT: Final = Path(__file__).resolve().parents[1]


@attrs.frozen
class Running:
    """A server that takes connections."""

    address: Address
    pids: list[int]


@attrs.frozen
class Server:
    """One of the columns of the table.

    Attributes:
        name: as shown.
        command: makes the command line from a port and a directory for data; None for a server that runs already.
        url: of a server that runs already.
        cwd: where the command is run.
    """

    name: str
    command: Callable[[int, Path], list[str]] | None = None
    url: str | None = None
    cwd: Path = ROOT

    @contextmanager
    def running(self) -> Iterator[Running]:
        """A server to be measured; ended afterwards when it was started here."""
        if self.command is None:
            yield _found(self.url or "")
            return
        with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DATA_DIR")) as directory:
            data = Path(directory)
            port = free_port()
            log = (data / "server.log").open("wb")
            process = subprocess.Popen(
                self.command(port, data), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cwd,
                preexec_fn=_raise_descriptors, start_new_session=True,
            )  # fmt: skip
            try:
                _wait_until_open(process, port, data / "server.log")
                yield Running(Address("127.0.0.1", port), processes.with_children(process.pid))
            finally:
                _end(process)
                log.close()


def ours(tree: Path = ROOT, name: str = "ours") -> Server:
    """livesync_trio as it comes, with an SQLite database; of this source tree or another one."""

    def command(port: int, data: Path) -> list[str]:
        database = f"sqlite:///{data / 'bench.db'}"
        return [sys.executable, "-m", "livesync_trio", "serve", "--port", str(port), "--database-url", database]

    return Server(name, command, cwd=tree)


def at(url: str) -> Server:
    """A server that runs already; its process is looked for on this machine."""
    return Server(urlsplit(url).netloc, url=url)


def free_port() -> int:
    """A TCP port that nobody has at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _found(url: str) -> Running:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "ws") or parts.hostname is None:
        raise BenchError(f"{url!r} is not an http:// or ws:// URL")
    port = parts.port or 80
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    pid = processes.listening_on(port) if local else None
    return Running(Address(parts.hostname, port, parts.path or "/"), processes.with_children(pid) if pid else [])


def _raise_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end_s:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchError(f"the server did not start; its last words:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, and stop it when it does not: nothing is measured any more."""
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # ours takes a second one for "at once"
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
