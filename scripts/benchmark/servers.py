"""Servers under test: ours, one of the others, or whatever listens at a URL.

Every run of a scenario gets a server started for it, with an empty database on the local disk: no run inherits memory,
a warm cache or a long log from the one before. A server at a URL is taken as it is found.
"""

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import attrs
from scripts.benchmark import ROOT, processes
from scripts.benchmark.sockets import Address, BenchError

START_LIMIT_S: Final = 90.0
STOP_LIMIT_S: Final = 15.0
"""From the command to the first connection (half a minute under callgrind), and from the signal to the end."""


@attrs.frozen
class Running:
    """A server that takes connections."""

    address: Address
    pids: list[int]
    started_s: float = 0.0
    """From the command to the first connection."""


@attrs.frozen
class Server:
    """One of the columns of the table.

    Attributes:
        name: as shown.
        command: makes the command line from a port and a directory for data; None for a server that runs already.
        url: of a server that runs already.
        cwd: where the command is run.
        most_stores: how many stores it can keep open here.
        data: where its database is kept from run to run; None for a new one each time.
    """

    name: str
    command: Callable[[int, Path], list[str]] | None = None
    url: str | None = None
    cwd: Path = ROOT
    most_stores: int = 1_000_000
    data: Path | None = None

    @contextmanager
    def running(self, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[Running]:
        """A server to be measured; ended afterwards when it was started here. `settings`: in its environment."""
        if self.command is None:
            yield _found(self.url or "")
            return
        with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DATA_DIR")) as directory:
            data = self.data or Path(directory)
            port = free_port()
            log = (data / "server.log").open("wb")
            start_s = time.monotonic()
            _raise_descriptors()
            process = subprocess.Popen(
                self.command(port, data), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cwd,
                start_new_session=True, env={**os.environ, **settings},
            )  # fmt: skip
            try:
                _wait_until_open(process, port, data / "server.log")
                started_s = time.monotonic() - start_s
                yield Running(Address("127.0.0.1", port), processes.with_children(process.pid), started_s)
            finally:
                _end(process)
                log.close()


def ours(
    tree: Path = ROOT,
    name: str = "ours",
    *,
    data: Path | None = None,
    arguments: Sequence[str] = (),
    program: Sequence[str] = ("-m", "livesync_trio"),
    under: Sequence[str] = (),
) -> Server:
    """livesync_trio as it comes, with an SQLite database.

    Args:
        tree: source tree to start it from, this one or another.
        name: as shown.
        data: where the database is kept from run to run; None for a new one each time.
        arguments: more of the command line.
        program: what the interpreter runs.
        under: a program that runs the interpreter.
    """

    def command(port: int, directory: Path) -> list[str]:
        database = f"sqlite:///{directory / 'bench.db'}"
        serve = [*under, _python_of(tree), *program, "serve"]
        return [*serve, "--port", str(port), "--database-url", database, *arguments]

    return Server(name, command, cwd=tree, data=data)


def counted(tree: Path, counts: Path) -> Server:
    """The server of a tree, which counts its Python calls into a file; see `counted`."""
    return ours(tree, program=(str(Path(__file__).with_name("counted.py")), str(counts)))


def at(url: str) -> Server:
    """A server that runs already; its process is looked for on this machine."""
    return Server(urlsplit(url).netloc, url=url)


def free_port() -> int:
    """A TCP port that nobody has at the moment.

    Below those that the kernel gives to outgoing connections (from 32,768 on): one of them might take it any moment.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise BenchError("a hundred ports in a row are taken")


def _python_of(tree: Path) -> str:
    """The interpreter of another tree's own virtual environment, so that interpreters and pins can be compared too."""
    own = tree / ".venv" / "bin" / "python"
    return str(own) if tree != ROOT and own.exists() else sys.executable


def _found(url: str) -> Running:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "ws") or parts.hostname is None:
        raise BenchError(f"{url!r} is not an http:// or ws:// URL")
    port = parts.port or 80
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    pid = processes.listening_on(port) if local else None
    return Running(Address(parts.hostname, port, parts.path or "/"), processes.with_children(pid) if pid else [])


def _raise_descriptors() -> None:
    """As many as the system allows, for this process and those it starts."""
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
