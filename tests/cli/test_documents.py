"""Every command shown in the pages about the command line is run, in the order of the page, and succeeds."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from livesync_trio.cli.main import livesync as root
from tests.archive.logs import Opened, plain_log, put
from tests.archive.test_cloudflare_tables import CHAIN, make, rows
from tests.cli.conftest import LIMIT_S, SECRET, Site, command, environment

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("command-line.md", "moving-in.md", "backup.md")
DUMP = """\
PRAGMA defer_foreign_keys=TRUE;
CREATE TABLE eventlog_7_my_notes ("seqNum" integer primary key, "parentSeqNum" integer not null, "name" text not null, "args" text, "createdAt" text not null, "clientId" text not null, "sessionId" text not null) strict;
INSERT INTO "eventlog_7_my_notes" ("seqNum","parentSeqNum","name","args","createdAt","clientId","sessionId") VALUES(1,0,'noteAdded','{"text":"it''s"}','2026-11-20T12:00:00.000Z','c','s');
"""  # noqa: E501 - as `wrangler d1 export` writes it


def shown(page: str) -> list[str]:
    """The commands of a page."""
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def directory(tmp_path: Path, site: Site) -> Path:
    """What the pages take for granted."""
    (tmp_path / "work/.wrangler/state").mkdir(parents=True)
    make(tmp_path / "work/.wrangler/state/do.sqlite", {"eventlog_7_todos": rows(CHAIN)}, [("todos", 3, "identity")])
    (tmp_path / "work/dump.sql").write_text(DUMP)
    (tmp_path / "work/payload.json").write_text('{"authToken": "sesame"}')
    return tmp_path / "work"


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_shown_work(page: str, directory: Path, site: Site) -> None:
    if page != "moving-in.md":  # there the stores come in by the commands shown
        with Opened(directory / "livesync.db") as target:
            put(target, "notes", plain_log(40))
            if page == "command-line.md":
                put(target, "a b", plain_log(3))  # its scratch store
    there = {
        "http://127.0.0.1:8000": site.server.url,
        "http://127.0.0.1:8787": site.server.url,
        "http://127.0.0.1:8100": site.control,
    }
    variables = environment() | {"ADMIN_SECRET": SECRET}
    commands = shown(page)
    assert len(commands) > 5
    for line in commands:
        words = shlex.split(line)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            variables[name] = value
            continue
        assert words[0] == "livesync", line
        if "scratch" in words:
            words[words.index("scratch")] = "a b"
        done = subprocess.run(
            command(*(there.get(word, word) for word in words[1:])),
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_every_command_is_on_the_page() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    listed = {re.split(r"[ `]", row)[0] for row in re.findall(r"^\| `(.+?)`", page, re.MULTILINE)}
    commands = set(root.list_commands(click.Context(root)))
    assert commands - {"serve"} <= listed


def test_the_members_listed_are_those_printed() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for name in ("inItsPlace", "keptIdentity", "pushP99Ms", "lastPushAt", "problem"):
        assert f"`{name}`" in page


def test_the_file_shown_is_one_of_ours() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", (DOCS / "moving-in.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [json.loads(line) for line in example.splitlines()]
    assert [sorted(line) for line in lines] == [
        ["backendId", "events", "format", "head", "storeId", "version"],
        ["createdAt", "event"],
        ["createdAt", "event", "user"],
        ["end", "events", "head", "sha256"],
        ["endOfFile", "sha256", "stores"],
    ]
