"""Where the output goes may fail: a full device is told in a line, a reader that wants no more is not told at all."""

import subprocess
from pathlib import Path

import pytest

from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import LIMIT_S, command, environment


@pytest.mark.parametrize("name", ["stores", "events a --all", "export -"])
@pytest.mark.parametrize("to", ["/dev/full", "closed pipe"])
def test_no_traceback_when_the_output_fails(tmp_path: Path, name: str, to: str) -> None:
    with Opened(tmp_path / "one.db") as target:
        put(target, "a", plain_log(3_000))
    shown = command(*name.split(), "--database-url", f"sqlite:///{tmp_path}/one.db")
    process = subprocess.Popen(
        ["/bin/sh", "-c", '"$@" > /dev/full' if to == "/dev/full" else '"$@" | true; exit 0', "sh", *shown],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    _, error = process.communicate(timeout=LIMIT_S)
    told = [line for line in error.splitlines() if not line.startswith(("Traceback", "Exception"))]
    assert told == error.splitlines()
    assert "fault of the program" not in error
    if to == "/dev/full":
        assert (process.returncode, "No space left" in error) == (2, True)
    else:
        assert "livesync: " not in error
