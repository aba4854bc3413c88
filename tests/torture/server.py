"""A real server process under attack: started, told to stop, killed, and asked how much it holds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from tests.conformance.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
ADMIN_SECRET = "torture-admin-secret"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
_FOREIGN = ("HOST", "PORT", "DATABASE_URL", "AUTH_TOKEN", "ADMIN_SECRET", "LOG_LEVEL", "LOG_FORMAT")


class ServerFailedError(AssertionError):
    """The server did not start, or did not end as it should; with the end of its log."""


class ServerProcess:
    """A server on a port and a database file of its own, both kept through its lives."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.database = directory / "live.db"
        self.log = directory / "server.log"
        self.process: trio.Process | None = None
        self.stderr: int | None = None
        """Where its log goes instead of the file."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in _FOREIGN and not name.startswith("LIVESYNC_")
        }
        search_path = [str(ROOT), environment.get("PYTHONPATH", "")]
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
            "ADMIN_SECRET": ADMIN_SECRET,
            "LOG_LEVEL": "warning",
        }
        self.environment = environment | dict(settings or {})

    @property
    def command(self) -> list[str]:
        """What is run."""
        url = f"sqlite:///{self.database}"
        return [sys.executable, "-m", "livesync_trio", "serve", "--port", str(self.port), "--database-url", url]

    @property
    def pid(self) -> int:
        """Of the life of the moment."""
        assert self.process is not None
        return self.process.pid

    async def launch(self) -> None:
        """Start the process and wait for nothing."""
        assert self.process is None, "already running"
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                self.command,
                cwd=self.database.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log if self.stderr is None else self.stderr,
            )

    async def start(self) -> None:
        """Start the process and wait until it says that clients may connect."""
        await self.launch()
        await self.ready()

    async def ready(self) -> None:
        """Wait until the process says that clients may connect. Raises ServerFailedError when it ends instead."""
        assert self.process is not None
        assert self.process.stdout is not None
        said = b""
        with trio.move_on_after(START_LIMIT_S):
            while b"listening on" not in said:
                data = await self.process.stdout.receive_some(4096)
                if not data:
                    break
                said += data
        if b"listening on" not in said:
            await self.end(signal.SIGKILL)
            raise ServerFailedError(f"the server did not start: {said.decode()}\n{self.log_tail()}")

    async def kill(self) -> None:
        """Take it away without warning."""
        await self.end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to stop; it must end well."""
        code = await self.end(signal.SIGTERM)
        if code != 0:
            raise ServerFailedError(f"ended with {code}\n{self.log_tail()}")

    async def end(self, how: signal.Signals) -> int:
        """Send a signal and wait for the end. Gives the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        with trio.CancelScope(shield=True):
            process.send_signal(how)
            with trio.move_on_after(STOP_LIMIT_S):
                await process.wait()
            late = process.returncode is None
            if late:
                process.kill()
                await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()
        if late:
            raise ServerFailedError(f"not ended {STOP_LIMIT_S:g} s after {how.name}\n{self.log_tail()}")
        assert process.returncode is not None
        return process.returncode

    def log_tail(self, lines: int = 60) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


# --- what the kernel says of a process ------------------------------------------------------------------------------


def memory_kib(pid: int) -> int:
    """Resident memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def descriptors(pid: int) -> int:
    """Open descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """Threads."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def cpu_s(pid: int) -> float:
    """Processor time it has used: on a busy machine this tells more than the clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)
