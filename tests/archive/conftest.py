"""Databases and commands for the tests of what comes in and goes out; real clients come from the conformance tests."""

from collections.abc import Callable

import pytest

from livesync_trio.cli.main import main
from livesync_trio.config import CONFIG_ENV, SETTINGS
from tests.conformance.conftest import drivers, make_client, node_packages_ready
from tests.storage.conftest import db

__all__ = ["db", "drivers", "make_client", "node_packages_ready"]

Run = Callable[..., tuple[int, str, str]]
"""Runs a command in this process: exit code, what it printed, what it said beside that."""


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command without settings of the developer's own."""
    for name in {CONFIG_ENV, *(env for setting in SETTINGS for env in (setting.env, setting.file_env))}:
        monkeypatch.delenv(name, raising=False)

    def run_(*arguments: str) -> tuple[int, str, str]:
        capsysbinary.readouterr()
        code = main(list(arguments))
        out, err = capsysbinary.readouterr()
        return code, out.decode(), err.decode()

    return run_
