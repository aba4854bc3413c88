"""The todo app of examples/todo, as readers of docs/start.md run it: LiveStore programs that share a list."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from tests.cli.conftest import environment
from tests.conformance.node_packages import CLIENTS
from tests.conformance.servers import ServerProcess

TODO = Path(__file__).parents[2] / "examples" / "todo"
PACKAGES = CLIENTS / "runtime-0.4"
LIMIT_S = 120


def dependencies(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    return found


def pass_on(lines: Iterable[str], seen: queue.SimpleQueue[str]) -> None:
    for line in lines:
        seen.put(line)


def test_it_has_the_packages_that_are_tested() -> None:
    assert dependencies(TODO).items() <= dependencies(PACKAGES).items()


def test_what_one_adds_another_ticks_off(tmp_path: Path, node_packages_ready: None) -> None:
    app = tmp_path / "todo"
    shutil.copytree(TODO, app, ignore=shutil.ignore_patterns("node_modules", "data"))
    (app / "node_modules").symlink_to(PACKAGES / "node_modules")
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path}/live.db")
    server.start()

    def todo(name: str, *arguments: str) -> str:
        done = subprocess.run(
            ["node", "todo.mjs", *arguments],
            cwd=app,
            env=environment() | {"SYNC_URL": server.url.replace("http", "ws", 1), "NAME": name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    watching = subprocess.Popen(
        ["node", "todo.mjs"],
        cwd=app,
        env=environment() | {"SYNC_URL": server.url.replace("http", "ws", 1), "NAME": "cat"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert watching.stdout is not None
    reader = threading.Thread(target=pass_on, args=(watching.stdout, seen))
    reader.start()
    try:
        assert todo("ann", "add", "Buy milk") == "1. [ ] Buy milk\n"
        assert todo("bob", "done", "1") == "1. [x] Buy milk\n"
        while seen.get(timeout=LIMIT_S) != "1. [x] Buy milk\n":
            pass
    finally:
        watching.kill()
        watching.wait()
        reader.join()
        watching.stdout.close()
        server.stop_if_ours()
