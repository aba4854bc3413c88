"""A directory and a server in which the commands of one page are run as a reader would."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from livesync_trio.config import CONFIG_ENV, SETTINGS
from tests.archive.logs import Opened, plain_log, put
from tests.conformance.servers import free_port
from tests.docs.pages import ROOT, blocks

LIMIT_S = 60
SECRET = "an-admin-secret-for-tests"
STORES = ("notes", "scratch", "team-7")
"""Stores that pages take for granted, with a few events each."""
STUBS = ("rclone",)
"""Programs of others, which do nothing here."""
ENDLESS = ("curl -N ", "livesync tail ")
"""Commands that go on until they are interrupted: what they print first is waited for."""

_ASSIGNMENT = re.compile(r"(?:[A-Z_]+=(?:\"[^\"]*\"|'[^']*'|\S)+\s*)+")
_SERVES = re.compile(r"(?:^|\s)livesync serve(?:\s|$)")


@contextlib.contextmanager
def sandbox(directory: Path, page: str, postgres_url: str) -> Iterator[Sandbox]:
    """What a page takes for granted; its server is stopped at the end.

    Args:
        directory: an empty one.
        page: files that it shows as Python are there under the names it calls them by.
        postgres_url: of an empty database.

    Yields:
        The sandbox, with the stores `STORES` in its database.
    """
    port, admin_port = str(free_port()), str(free_port())
    ours = {CONFIG_ENV, "LIVESYNC_URL", *(env for one in SETTINGS for env in (one.env, one.file_env))}
    variables = {name: value for name, value in os.environ.items() if name not in ours} | {
        "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CURL_HOME": str(directory),  # its .curlrc: an HTTP error is a failure
        "PORT": port,
        "ADMIN_PORT": admin_port,
    }
    _fill(directory, page)
    replaced = _replaced(directory, port, admin_port, postgres_url)
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(f"{short}/notices")  # the name of a socket may have a hundred bytes
        made = Sandbox(directory, variables | {"NOTIFY_SOCKET": f"{short}/notices"}, replaced, notices)
        try:
            yield made
        finally:
            made.stop()


def _replaced(directory: Path, port: str, admin_port: str, postgres_url: str) -> dict[str, str]:
    """Literals of the pages, and what stands for them here."""
    return {
        "scripts/serve": "livesync serve",  # what the script ends with; tests/unit/test_scripts.py has the rest
        "--host 0.0.0.0": "--host 127.0.0.1",  # servers in tests listen on loopback only
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "127.0.0.1:8100": f"127.0.0.1:{admin_port}",
        "/run/secrets": f"{directory}/secrets",
        "/etc/livesync/issuer.pem": f"{directory}/secrets/issuer.pem",
        "/backups": f"{directory}/backups",
        "postgresql://livesync:secret@db.example.org/livesync": shlex.quote(postgres_url),
        "postgresql://livesync:secret@pgbouncer:6432/livesync": shlex.quote(postgres_url),
        "postgresql://livesync:secret@postgres:5432/livesync": shlex.quote(postgres_url),
    }


def _fill(directory: Path, page: str) -> None:
    for folder in ("bin", "secrets", "backups", "myapp"):
        (directory / folder).mkdir()
    programs = {"livesync": f'exec {shlex.quote(sys.executable)} -P -m livesync_trio "$@"', **dict.fromkeys(STUBS, ":")}
    for name, script in programs.items():
        (directory / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / "bin" / name).chmod(0o755)
    (directory / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    (directory / "secrets" / "token").write_text("a-token-for-tests")
    (directory / "secrets" / "admin-password").write_text("a password for tests")
    (directory / "secrets" / "jwt").write_text("a-secret-for-tests-of-more-than-32-bytes")
    key = Ed25519PrivateKey.generate().public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (directory / "secrets" / "issuer.pem").write_bytes(pem)
    for block in blocks(page):
        if block.text.startswith("# rules.py\n"):
            (directory / "rules.py").write_text(block.text)
            (directory / "myapp" / "sync_rules.py").write_text(block.text)
    with Opened(directory / "livesync.db") as target:
        for store in STORES:
            put(target, store, plain_log(3))


@attrs.define
class Sandbox:
    """Runs commands one after the other; what a page exports lasts to its end."""

    directory: Path
    variables: dict[str, str]
    replaced: dict[str, str]
    """Literals of the pages, and what stands for them here."""
    notices: socket.socket
    """Where a server says that it is ready."""
    _server: subprocess.Popen[bytes] | None = None

    def run(self, command: str) -> str:
        """Run a command as shown; returns what it printed.

        Raises:
            AssertionError: it failed, with what it said.
        """
        for literal, here in self.replaced.items():
            command = command.replace(literal, here)
        if command.startswith("export ") or _ASSIGNMENT.fullmatch(command):
            self._remember(command)
            return ""
        if _SERVES.search(command):
            return self.serve(command.removesuffix("&").strip())
        if command.startswith(ENDLESS):
            return self._first_words(command)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def serve(self, command: str) -> str:
        """Start the server of a page, in place of the one before; returns what it printed once it is healthy."""
        self.stop()
        server = self._start(command)
        try:
            printed = self._until_ready(command, server)
        except BaseException:
            with server:
                server.kill()
            raise
        self._server = server
        health = http.client.HTTPConnection("127.0.0.1", int(self.variables["PORT"]), timeout=LIMIT_S)
        with contextlib.closing(health):
            health.request("GET", "/health")
            assert health.getresponse().status == 200, command
        return printed

    def _until_ready(self, command: str, server: subprocess.Popen[bytes]) -> str:
        assert server.stdout is not None
        notices, output = self.notices.fileno(), server.stdout.fileno()
        said, printed = b"", b""
        while b"READY=1" not in said:
            readable, _, _ = select.select([notices, output], [], [], LIMIT_S)
            assert readable, f"{command}\nnot ready after {LIMIT_S} s\n{self._errors()}"
            if notices in readable:
                said += self.notices.recv(4096)
            else:
                more = os.read(output, 65536)
                assert more, f"{command}\nhas ended\n{self._errors()}"
                printed += more
        return printed.decode()

    def stop(self) -> None:
        """Stop the page's server in order, if there is one."""
        server, self._server = self._server, None
        if server is None:
            return
        with server:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                code = server.wait(LIMIT_S)
            finally:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGKILL)
        assert code == 0, f"the server ended with {code}\n{self._errors()}"

    def _remember(self, command: str) -> None:
        names = re.findall(r"\b([A-Z_]+)=", command)
        script = f'set -a; {command}\nprintf "%s\\0" ' + " ".join(f'"${name}"' for name in names)
        done = subprocess.run(
            ["bash", "-euc", script], env=self.variables, capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
        self.variables |= dict(zip(names, done.stdout.split("\0"), strict=False))

    def _first_words(self, command: str) -> str:
        process = self._start(command)
        assert process.stdout is not None
        with process:
            try:
                readable, _, _ = select.select([process.stdout], [], [], LIMIT_S)
                words = os.read(process.stdout.fileno(), 65536) if readable else b""
            finally:
                os.killpg(process.pid, signal.SIGTERM)
        assert words, f"{command}\nprinted nothing\n{self._errors()}"
        return words.decode()

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        with self._log.open("w") as errors:
            return subprocess.Popen(
                ["bash", "-euc", command],
                cwd=self.directory,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def _log(self) -> Path:
        return self.directory / "errors.log"

    def _errors(self) -> str:
        return self._log.read_text(errors="replace")
