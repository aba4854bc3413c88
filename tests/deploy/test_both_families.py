"""`HOST=::` for real, in a network namespace that holds nothing but its own loopback device."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60

INSIDE = """
import http.client, json, os, signal, socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as switch:
    switch.write(sys.argv[1])
environment = {**os.environ, "HOST": "::", "PORT": "8000", "LOG_FORMAT": "json", "LIVESYNC_INSECURE": "true"}
livesync = [sys.executable, "-m", "livesync_trio"]
server = subprocess.Popen([*livesync, "serve"], env=environment, stderr=open("log", "w"))

def answers(host):
    connection = http.client.HTTPConnection(host, 8000, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()

deadline = time.monotonic() + 40
while not answers("127.0.0.1") and server.poll() is None and time.monotonic() < deadline:
    time.sleep(0.05)
health = subprocess.run([*livesync, "health"], env=environment, capture_output=True).returncode
found = {"ipv4": answers("127.0.0.1"), "ipv6": answers("::1"), "health": health}
server.send_signal(signal.SIGTERM)
found["exit"] = server.wait(20)
print(json.dumps(found))
"""


def served(folder: Path, *, without_ipv6: bool) -> tuple[dict[str, Any], list[str]]:
    """Who was answered, and the addresses that the log says are not there."""
    probe = ["unshare", "--net", "sh", "-c", "ip link set lo up && test -w /proc/sys/net/ipv6/conf/all/disable_ipv6"]
    needed = shutil.which("unshare") and shutil.which("ip")
    if not needed or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("network namespaces cannot be made here: this asks for root, unshare and ip")
    run = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", INSIDE, "1" if without_ipv6 else "0"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return json.loads(run.stdout.splitlines()[-1]), [
        line["address"] for line in lines if line["event"] == "an address cannot be listened on"
    ]


def test_every_address_is_both_families(tmp_path: Path) -> None:
    found, missing = served(tmp_path, without_ipv6=False)
    assert found == {"ipv4": True, "ipv6": True, "health": 0, "exit": 0}
    assert missing == []


def test_without_ipv6_the_others_are_served_and_the_log_says_so(tmp_path: Path) -> None:
    found, missing = served(tmp_path, without_ipv6=True)
    assert found == {"ipv4": True, "ipv6": False, "health": 0, "exit": 0}
    assert missing == ["::"]
