"""What the first process of a container does, tried in one that the kernel gives its orphans as well."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.torture.server import ROOT

PROGRAM = """
import ctypes, os, signal, subprocess, sys, time

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
from livesync_trio.cli.serve import part

first = os.getpid()
part()
assert os.getppid() == first
orphans = [int(subprocess.check_output(["sh", "-c", "sleep 0.05 >/dev/null & echo $!"])) for _ in range(3)]
assert subprocess.run(["sh", "-c", "exit 3"]).returncode == 3
for _ in range(500):
    if not any(os.path.exists(f"/proc/{pid}") for pid in orphans):
        break
    time.sleep(0.01)
else:
    print("zombies", flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
print("ready", flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="containers are of Linux")
@pytest.mark.parametrize(("how", "code"), [("told", 7), ("killed", 128 + signal.SIGKILL)])
def test_it_reaps_orphans_passes_signals_on_and_ends_as_its_child(how: str, code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, how], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if how == "told":
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == code
    finally:
        process.kill()
        process.communicate()
