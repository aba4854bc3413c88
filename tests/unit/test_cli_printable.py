"""Text of others reaches a terminal without what the terminal would obey."""

import ast
import json
import sys
from pathlib import Path

import pytest

import livesync_trio.cli
from livesync_trio.cli import printing
from livesync_trio.cli.main import main

TITLE = "\x1b]0;owned\x07"


def test_lines_stay_lines_and_nothing_else_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    printing.note(f"one{TITLE}\ntwo\x9b2J\r\u202e")
    assert capsys.readouterr().err == "one\\x1b]0;owned\\x07\ntwo\\x9b2J\\x0d\\x202e\n"


def test_names_of_facts_are_text_of_others_too(capsys: pytest.CaptureFixture[str]) -> None:
    printing.facts([(f"name{TITLE}", f"value{TITLE}")])
    assert "\x1b]" not in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_json_is_the_same_json_on_a_terminal(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    value = {"args": "\x9b2J\u202e\U000e0001 ö\ud83d"}
    text = json.dumps(value, ensure_ascii=False, indent=1).replace("\ud83d", "\\ud83d").replace(" ", "\t", 1)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    printing.raw_line(text.encode())
    shown = capsysbinary.readouterr().out
    assert json.loads(shown) == value
    assert shown.count(b"\n") == 1
    obeyed = [one for one in shown.decode().strip() if not one.isprintable()]
    assert bool(obeyed) is not terminal


def test_an_unknown_failure_is_told_without_what_it_quotes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(TITLE)

    monkeypatch.setattr("livesync_trio.cli.health._hosts", fails)
    assert main(["health"]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_one_module_speaks() -> None:
    """Whoever calls `click.echo` himself forgets that names of stores are text of others."""
    speaking = {
        path.stem
        for path in Path(livesync_trio.cli.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"echo", "secho"}
    }
    assert speaking == {"printing", "main"}
