"""What a command holds in memory does not grow with the log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from livesync_trio.limits import SQLITE_READER_CACHE_KIB, SQLITE_WRITER_CACHE_KIB
from tests.archive.logs import Opened, plain_log, put
from tests.cli.conftest import environment

SHORT, LONG = 5_000, 100_000
MAY_DIFFER_KIB = 12_000
CACHES_KIB = SQLITE_WRITER_CACHE_KIB + SQLITE_READER_CACHE_KIB
"""What SQLite's caches of pages take once a database is larger than they are. 100,000 events kept take 60,000 KiB."""
LIMIT_S = 120

_MEASURED = """
import sys
from livesync_trio.cli.main import main
code = main(sys.argv[1:])
# Not ru_maxrss: it remembers the process that was forked.
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, file=sys.stderr)
sys.exit(code)
"""


def peak_kib(directory: Path, *arguments: str) -> int:
    """Run a command in a process of its own; the most memory it had."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments],
        cwd=directory,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-2])


@pytest.mark.slow
@pytest.mark.skipif(os.uname().sysname != "Linux", reason="asks /proc")
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks: dict[int, dict[str, int]] = {}
    for events in (SHORT, LONG):
        with Opened(tmp_path / f"{events}.db") as target:
            put(target, "notes", plain_log(events))
        here, there = f"sqlite:///{events}.db", f"sqlite:///{events}-imported.db"
        peaks[events] = {
            "export": peak_kib(tmp_path, "export", f"{events}.jsonl", "--database-url", here),
            "backup": peak_kib(tmp_path, "backup", f"{events}.jsonl.gz", "--database-url", here),
            "tables": peak_kib(tmp_path, "export", f"{events}.sqlite", "--format", "sqlite", "--database-url", here),
            "import": peak_kib(tmp_path, "import", f"{events}.jsonl", "--database-url", there),
            "verify": peak_kib(tmp_path, "verify", "--database-url", there),
            "events": peak_kib(tmp_path, "events", "notes", "--all", "--json", "--database-url", here),
        }
    for what, peak in peaks[LONG].items():
        most = MAY_DIFFER_KIB + (CACHES_KIB if what == "import" else 0)
        assert peak - peaks[SHORT][what] < most, (what, peaks)
