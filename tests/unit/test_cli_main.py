import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import click
import pytest

from livesync_trio.cli.main import livesync, main
from livesync_trio.errors import RULES, Kind, StartupError
from livesync_trio.version import VERSION


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Runs a command that raises; returns the exit code."""
    monkeypatch.delenv("LOG_LEVEL", raising=False)

    def run(error: BaseException) -> int:
        @click.command("fail")
        def fail() -> NoReturn:
            raise error

        monkeypatch.setitem(livesync.commands, "fail", fail)
        return main(["fail"])

    return run


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"livesync {VERSION}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["serve", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "Usage: livesync" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["serv"], ["serve", "--prot", "1"], ["serve", "extra"], ["serve", "--port"]])
def test_wrong_use_is_told_in_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Error: " in error
    assert "Traceback" not in error


@pytest.mark.parametrize("kind", [kind for kind in Kind if RULES[kind].exit_code is not None])
def test_a_startup_error_ends_with_the_code_of_the_table(
    kind: Kind, fail_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(StartupError(kind, "what to do")) == RULES[kind].exit_code
    assert capsys.readouterr().err == "livesync: what to do\n"


def test_a_startup_error_out_of_a_nursery_too(
    fail_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    inner = ExceptionGroup("inner", [OSError("noise"), StartupError(Kind.CANNOT_LISTEN, "port 8000 is taken")])
    assert fail_with(ExceptionGroup("nursery", [inner])) == 5
    assert capsys.readouterr().err == "livesync: port 8000 is taken\n"


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), EOFError(), BaseExceptionGroup("nursery", [KeyboardInterrupt(), KeyboardInterrupt()])],
)
def test_an_interrupt_is_quiet(
    error: BaseException, fail_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(error) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_fault_is_a_line_without_a_traceback(
    fail_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(ExceptionGroup("nursery", [ZeroDivisionError("by zero")])) == 1
    error = capsys.readouterr().err
    assert error.startswith("livesync: a fault of the program: ZeroDivisionError: by zero\n")
    assert "Traceback" not in error


def test_the_traceback_can_be_asked_for(
    fail_with: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "Debug")
    code = fail_with(ZeroDivisionError("by zero"))
    assert code == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_exit_inside_is_an_exit(fail_with: Callable[[BaseException], int]) -> None:
    with pytest.raises(SystemExit) as exit_:
        fail_with(SystemExit(7))
    assert exit_.value.code == 7


def test_as_a_module() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "livesync_trio", "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"livesync {VERSION}\n", "")
