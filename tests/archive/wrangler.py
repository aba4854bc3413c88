"""The real Cloudflare servers on this machine: `wrangler dev` with each generation's own package."""

import contextlib
import http.client
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.conformance.node_packages import CLIENTS
from tests.conformance.servers import free_port

START_LIMIT_S = 60
STOP_LIMIT_S = 60
STEP_LIMIT_S = 60

_OBJECTS = {"v0.3": {"WEBSOCKET_SERVER": "WebSocketServer"}, "v0.4": {"IN_OBJECT": "InObject", "IN_D1": "InD1"}}
_BINDING = '[[durable_objects.bindings]]\nname = "{name}"\nclass_name = "{class_name}"\n'
_SETTINGS = """\
name = "moving-out"
main = "{main}"
compatibility_date = "2025-05-07"
compatibility_flags = ["enable_request_signal", "nodejs_compat"]
{bindings}
[[migrations]]
tag = "v1"
new_sqlite_classes = {classes}
[[d1_databases]]
binding = "DB"
database_name = "livestore"
database_id = "11111111-1111-1111-1111-111111111111"
[vars]
ADMIN_SECRET = "nobody-knows"
"""


class Wrangler:
    """One `wrangler dev` in a project of its own."""

    def __init__(self, directory: Path, package_set: str) -> None:
        """Write the settings; nothing is started yet."""
        self._directory = directory
        self.state = directory / ".wrangler" / "state"
        objects = _OBJECTS[package_set]
        bindings = "".join(_BINDING.format(name=name, class_name=one) for name, one in objects.items())
        main = CLIENTS / package_set / "cloudflare-worker.mjs"
        settings = _SETTINGS.format(main=main, bindings=bindings, classes=list(objects.values()))
        (directory / "wrangler.toml").write_text(settings)
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = directory / "wrangler.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self, *words: str) -> list[str]:
        program = CLIENTS / "cloudflare" / "node_modules" / ".bin" / "wrangler"
        return [str(program), *words, "--local"]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "WRANGLER_SEND_METRICS": "false", "CI": "1", "NO_COLOR": "1"}

    def start(self) -> None:
        """Start it; `wait` waits until it answers."""
        port = str(self._port)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command("dev", "--port", port, "--ip", "127.0.0.1", "--inspector-port", str(free_port())),
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when it answers; raises with its log when it does not."""
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"wrangler did not start:\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=STEP_LIMIT_S)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def dump(self) -> Path:
        """What `wrangler d1 export` writes."""
        path = self._directory / "dump.sql"
        finished = subprocess.run(
            self._command("d1", "export", "livestore", "--output", str(path)),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_LIMIT_S,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return path

    def stop(self) -> None:
        """End it with all it has started."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
