"""A server process with stores in it, and commands in processes of their own, as an operator has them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from livesync_trio.client import open_backend_blocking
from livesync_trio.config import CONFIG_ENV, SETTINGS
from tests.archive.conftest import run
from tests.conformance.events import chain, python_events
from tests.conformance.servers import REPOSITORY, ServerProcess, free_port

__all__ = ["run"]

LIMIT_S = 180
SECRET = "an-admin-secret-for-tests"


def environment() -> dict[str, str]:
    """That of the tests without settings of the developer's own."""
    ours = {CONFIG_ENV, "LIVESYNC_URL", *(env for one in SETTINGS for env in (one.env, one.file_env))}
    return {name: value for name, value in os.environ.items() if name not in ours} | {"PYTHONPATH": str(REPOSITORY)}


def command(*arguments: str) -> list[str]:
    """The command line of `livesync`."""
    return [sys.executable, "-m", "livesync_trio", *arguments]


Livesync = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def livesync(tmp_path: Path) -> Livesync:
    """Runs a command in a process of its own."""

    def run_(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment() | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    return run_


@attrs.frozen
class Site:
    """A server that runs, with the stores `notes` (30 events) and `a b` (5)."""

    server: ServerProcess
    database_url: str
    control: str
    """URL of its control plane."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server on an SQLite file."""
    url = f"sqlite:///{tmp_path}/live.db"
    port = free_port()
    server = ServerProcess(tmp_path, url, {"ADMIN_SECRET": SECRET, "ADMIN_PORT": str(port)})
    server.start()
    try:
        push(server.url, "notes", 1, 30)
        push(server.url, "a b", 1, 5)
        yield Site(server, url, f"http://127.0.0.1:{port}")
    finally:
        server.stop_if_ours()


def push(url: str, store: str, first: int, count: int) -> None:
    """Push events over the wire."""
    with open_backend_blocking(url, store_id=store) as client:
        client.push(python_events(chain(first, count)))
