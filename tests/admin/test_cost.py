"""Off, the control plane costs nothing, not even the loading of its libraries; on, nothing until somebody asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from .processes import serving


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
