"""What the kernel says a server's process used: CPU time and memory."""

import os
import re
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def with_children(pid: int) -> list[int]:
    """A process and everything it started, and so on."""
    found = [pid]
    for parent in found:
        for task in (_PROC / str(parent) / "task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def cpu_s(pids: list[int]) -> float:
    """CPU seconds, of the program and of the kernel on its behalf, all threads, those that ended too."""
    total = 0
    for pid in pids:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime and stime (proc(5)); the split starts at field 3
    return total / _TICKS_PER_S


def memory_kib(pids: list[int]) -> int:
    """Proportional set size: memory in use, shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        total += int(match[1]) if match else 0
    return total


def listening_on(port: int) -> int | None:
    """The process on this machine that listens on a TCP port, None when that cannot be seen."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: listening
                inodes.add(f"socket:[{fields[9]}]")
    for link in _PROC.glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in inodes:
                return int(link.parts[2])
        except OSError:
            continue
    return None
