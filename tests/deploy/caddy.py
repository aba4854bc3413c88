"""`deploy/Caddyfile`, as it is shipped, in a real Caddy."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conformance import caddy
from tests.conformance.servers import free_port
from tests.deploy.processes import answers

CADDYFILE = Path(__file__).resolve().parents[2] / "deploy" / "Caddyfile"


class ShippedCaddy:
    """Caddy in front of servers of this machine. Skips the test, and says so, where there is none; fails in CI."""

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        if caddy.missing():
            reason = "THE SHIPPED CADDYFILE WAS NOT RUN: caddy not found (apt-get install caddy)"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "caddy.log"
        config = directory / "Caddyfile"
        # Several run at a time under test, and the port of the admin interface is one for all.
        config.write_text(f"{{\n\tadmin off\n}}\nimport {CADDYFILE}\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "SITE": self.url,
            "SERVERS": " ".join(f"127.0.0.1:{port}" for port in ports),
        }
        command = [caddy.PROGRAM, "run", "--config", str(config), "--adapter", "caddyfile"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + caddy.START_DEADLINE_S
        while not answers(self.port, "/"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"Caddy did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.05)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
