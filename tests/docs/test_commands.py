"""Every command shown in the documentation works: it is run here, or by a test that is named, or it is said why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from livesync_trio.cli.main import livesync
from scripts.benchmark.cli import main as bench
from tests.docs import accounts
from tests.docs.pages import COMMANDS, OTHERS, PAGES, ROOT, Block, Command, blocks, commands, inline, outside_blocks
from tests.docs.sandbox import SECRET, Sandbox, sandbox
from tests.postgres.server import fresh_schema
from tests.torture.__main__ import main as torture

SHOWN = [command for page in PAGES for block in blocks(page) for command in commands(block)]
RUN_HERE = sorted({command.page for command in SHOWN if accounts.ours(command)})
SERVED = "docs/operations.md"
"""The page that speaks of a server which runs already, and whose tables name commands to look with."""

# --- they are run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", RUN_HERE)
def test_the_commands_shown_work(page: str, tmp_path: Path) -> None:
    with sandbox(tmp_path, page, fresh_schema(page)) as box:
        if page == SERVED:
            box.run(f"export ADMIN_SECRET={SECRET}")
            box.serve("livesync serve")
        for block in blocks(page):
            follow(box, block)
        if page == SERVED:
            for command in set(inline(page)) - {command.text for command in SHOWN if command.page == page}:
                box.run(command)


def follow(box: Sandbox, block: Block) -> None:
    """Do what a block shows, and compare what is printed with what it shows."""
    mine = [command for command in commands(block) if accounts.ours(command)]
    for command in mine:
        printed = box.run(command.text)
        missing = words(command.shown) - words(printed)
        assert not missing, f"{command}\nprinted nothing of {sorted(missing)}:\n{printed}"
    if mine and all(re.fullmatch(r"[A-Z_]+=\S*", command.text) for command in mine):
        box.serve("livesync serve")  # a block of settings: a server can be started with them


def words(text: str) -> set[str]:
    """What has to be the same: not numbers, times and sizes."""
    return set(re.findall(r"[A-Za-z_]{3,}", text))


def test_output_that_is_not_printed_is_noticed(tmp_path: Path) -> None:
    text = "$ printf 'is well\\n'\nis poorly 12\n"
    with sandbox(tmp_path, "README.md", "postgresql://nowhere") as box, pytest.raises(AssertionError, match="poorly"):
        follow(box, Block("docs/x.md", 1, "console", text))


@pytest.mark.parametrize("command", ["livesync stores --nonsense", "false | true", "LOG_LEVEL=x livesync serve"])
def test_a_command_that_fails_is_noticed(command: str, tmp_path: Path) -> None:
    with sandbox(tmp_path, "README.md", "postgresql://nowhere") as box, pytest.raises(AssertionError):
        box.run(command)


# --- somebody accounts for each --------------------------------------------------------------------------------------


def test_commands_are_found() -> None:
    assert len(SHOWN) > 60
    assert {"README.md", "docs/start.md", "docs/operations.md", "docs/control-plane.md"} <= set(RUN_HERE)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert [str(block) for block in blocks(page) if block.language not in (*COMMANDS, *OTHERS)] == []
    hidden = re.findall(r"^ {4,}(?:\$ |(?:scripts/|livesync )[a-z]+ --).*", outside_blocks(page), re.MULTILINE)
    assert hidden == [], "commands stand in blocks with a language"
    for block in blocks(page):
        if block.language == "text":
            assert not re.search(r"^(\$ |livesync [a-z]+ --|curl )", block.text, re.MULTILINE), block


@pytest.mark.parametrize("rule", accounts.RUN_BY, ids=str)
def test_the_tests_that_run_the_others_exist(rule: accounts.Rule) -> None:
    path, _, name = rule.instead.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    defined = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    assert name in defined
    program = rule.begins[0].split()[0].rpartition("/")[2]
    assert Path(rule.page).name in source or program in source, "it speaks of neither the page nor the program"


@pytest.mark.parametrize(
    "rule", [*accounts.RUN_BY, *accounts.NOT_HERE], ids=lambda rule: f"{rule.page}-{rule.begins[0]}"
)
def test_no_rule_is_left_over(rule: accounts.Rule) -> None:
    for begin in rule.begins:
        assert any(command.page == rule.page and command.text.startswith(begin) for command in SHOWN), begin


# --- calls of our own programs, wherever they stand ------------------------------------------------------------------


def flags_of(call: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", call))


def known_to(command: click.Command) -> set[str]:
    if isinstance(command, click.Group):
        return set().union(*map(known_to, command.commands.values()))
    return {"--help", "--version", *(option for one in command.params for option in one.opts)}


@pytest.mark.parametrize("page", PAGES)
def test_calls_use_commands_and_flags_that_exist(page: str) -> None:
    shown = [command.text for command in SHOWN if command.page == page]
    for call in [*shown, *inline(page)]:
        for part in re.split(r"&&|\|", call):
            found = re.search(r"(?:^|\s)livesync ([a-z]+)(?:\s|$)", part)
            if found:
                command = livesync.get_command(click.Context(livesync), found[1])
                assert command is not None, f"{page}: {call}"
                assert flags_of(part) <= known_to(command), f"{page}: {call}"


@pytest.mark.parametrize(("program", "command"), [("scripts/bench", bench), ("scripts/torture", torture)])
def test_scripts_that_are_not_run_have_the_flags_shown(program: str, command: click.Command) -> None:
    calls = [shown for shown in SHOWN if shown.text.startswith(program)]
    assert calls
    for call in calls:
        assert flags_of(call.text) <= known_to(command), str(call)


def test_a_flag_that_does_not_exist_is_noticed() -> None:
    assert flags_of("scripts/bench --nonsense x --seconds 3") - known_to(bench) == {"--nonsense"}
    assert commands(Block("docs/x.md", 1, "sh", "curl a \\\n  -d b  # c\n\n")) == [
        Command("docs/x.md", 1, "curl a -d b", "")
    ]
