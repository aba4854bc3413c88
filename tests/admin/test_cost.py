"""Off, the control plane costs nothing, not even the loading of its libraries; on, nothing until somebody asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from .processes import ROOT, serving

LIBRARIES = ("quart", "quart_trio", "hypercorn", "werkzeug", "flask", "jinja2", "livesync_trio.admin")

PROGRAM = """
import sys
import trio
from livesync_trio import app
from livesync_trio.cli import main
from livesync_trio.config import Config
from livesync_trio.hooks import Hooks
from livesync_trio.storage.memory import MemoryEngine
async def serve():
    app.Server(Config(port=0), Hooks(), MemoryEngine())
trio.run(serve)
print([name for name in sys.argv[1].split(",") if name in sys.modules])
"""


def test_off_it_is_not_even_loaded() -> None:
    command = [sys.executable, "-c", PROGRAM, ",".join(LIBRARIES)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.slow
async def test_on_and_idle_it_uses_no_processor_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.info()
        before_s = used_s(server.pid)
        await trio.sleep(5)  # what is measured is the absence of work
        assert used_s(server.pid) - before_s < 0.1


def used_s(pid: int) -> float:
    """Processor time of a process so far (proc_pid_stat(5): user and system)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
