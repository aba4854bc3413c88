"""Real Caddy in front of the server: Debian's package, started with a configuration of the test's own."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from pathlib import Path

from .servers import free_port

START_DEADLINE_S = 60.0
PROGRAM = "caddy"


def missing() -> bool:
    """Whether Caddy is not installed here. ``apt-get install caddy`` brings it."""
    return shutil.which(PROGRAM) is None


class Caddy:
    """A running Caddy that listens on a port of its own."""

    def __init__(self, directory: Path, site: str) -> None:
        """``site`` is what stands between the braces of the one site."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        file = directory / "Caddyfile"
        file.write_text(f"{{\n  admin off\n  auto_https off\n}}\nhttp://127.0.0.1:{self.port} {{\n{site}\n}}\n")
        self._log = directory / "caddy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "run", "--config", str(file), "--adapter", "caddyfile"],
                cwd=directory,
                env={"HOME": str(directory), "PATH": "/usr/local/bin:/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while self.status("/health") is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"Caddy did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.05)

    def status(self, path: str) -> int | None:
        """Status of a GET; None while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
