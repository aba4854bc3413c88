"""docs/change-feed.md, walked as its reader does: its statements, its files and its commands, and nothing else."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from livesync_trio.config import SETTINGS
from tests.conformance.servers import free_port
from tests.docs.pages import ROOT, Block, blocks
from tests.feed.client import DEADLINE_S
from tests.feed.conftest import DEADLINE_S as START_S
from tests.feed.conftest import SourceDatabase

PAGE = "docs/change-feed.md"


def five_minutes() -> list[Block]:
    """The blocks of the first chapter."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    until = text[: text.index("### Hosted PostgreSQL")].count("\n")
    return [block for block in blocks(PAGE) if block.line < until]


def test_five_minutes(source: SourceDatabase, tmp_path: Path) -> None:
    chapter = five_minutes()
    statements = [block.text for block in chapter if block.language == "sql"]
    [toml] = [block.text for block in chapter if block.language == "toml"]
    [program] = [block.text for block in chapter if block.language == "python"]
    served, followed = [block.text for block in chapter if block.language == "sh"]
    *before, after = statements
    assert len(before) == 3
    port = free_port()
    settings = {name for one in SETTINGS for name in (one.env, one.file_env)}
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    environment |= {"PORT": str(port), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # what differs from a reader's machine: where the database is, and which ports are free
    host = f"feed:change-me@127.0.0.1:{source.server.port}/{source.name}"
    assert "feed:change-me@db/app" in toml
    toml = toml.replace("feed:change-me@db/app", host).replace("[feed]", f'[feed]\nslot = "feed_{source.name}"')
    (tmp_path / "livesync.toml").write_text(toml)
    assert "127.0.0.1:8000" in program
    (tmp_path / "follow.py").write_text(program.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    started: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []

    def start(script: str, output: Path | int) -> subprocess.Popen[str]:
        with open(output, "w", encoding="utf-8") if isinstance(output, Path) else open(os.devnull, "w") as log:  # noqa: PTH123
            started.append(subprocess.Popen(
                ["bash", "-ec", script], cwd=tmp_path, env=environment, text=True, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, stdout=output if isinstance(output, int) else log, start_new_session=True,
            ))  # fmt: skip
        return started[-1]

    try:
        for text in before:
            source.run(*(line for line in text.split(";\n") if line.strip() and not line.strip().startswith("--")))
        server, log = start(served, tmp_path / "server.log"), tmp_path / "server.log"
        deadline = time.monotonic() + START_S
        while f":{port}" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        assert "2 tables can be followed" in log.read_text()
        client = start(followed, subprocess.PIPE)
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert client.stdout is not None

        def read() -> None:
            for line in client.stdout or ():
                lines.put(line)

        readers.append(threading.Thread(target=read, daemon=True))
        readers[0].start()
        printed = [lines.get(timeout=DEADLINE_S) for _ in range(3)]
        assert [line.split(" {")[0] for line in printed] == ["insert users", "insert users", "insert todos"]
        assert "Buy milk" in printed[2]
        source.run(after)
        assert "Water the plants" in lines.get(timeout=DEADLINE_S)
        source.run("INSERT INTO users VALUES ('eve', 'Eve')")
        assert "Eve" in lines.get(timeout=DEADLINE_S)  # and nothing of Bob's was before it
    finally:
        for process in reversed(started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(DEADLINE_S)
            if process.stdout is not None:
                for reader in readers:
                    reader.join(DEADLINE_S)
                process.stdout.close()
        if source.run("SELECT 1 FROM pg_roles WHERE rolname = 'feed'"):
            source.run("DROP OWNED BY feed", "DROP ROLE feed")
        source.run("ALTER SYSTEM RESET ALL")
