"""The command line's root: which commands there are, and how a failure ends."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final

import click

from livesync_trio.cli.health import health
from livesync_trio.cli.migrate import migrate
from livesync_trio.cli.printable import tell
from livesync_trio.cli.serve import serve
from livesync_trio.errors import RULES, CommandError, StartupError
from livesync_trio.telemetry import hold_standard_descriptors
from livesync_trio.version import VERSION

_EXIT_FAULT: Final = 1
_EXIT_USAGE: Final = 2
_EXIT_READER_GONE: Final = 141
"""128 + SIGPIPE, as shells have it."""
_EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


_OTHERS: Final = {
    "backup": "export:backup",
    "bench": "bench:bench",
    "completion": "completion:completion",
    "config": "config:config",
    "connections": "look:connections",
    "doctor": "doctor:doctor",
    "events": "look:events",
    "export": "export:export",
    "import": "bring:bring",
    "info": "look:info",
    "reset": "reset:reset",
    "restore": "restore:restore",
    "stores": "look:stores",
    "tail": "look:tail",
    "verify": "verify:verify",
}
"""Commands that are loaded when they are called: a server shall not carry what they need."""


class _Commands(click.Group):
    """The commands that are loaded, and those that can be."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_OTHERS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _OTHERS:
            module, _, name = _OTHERS[cmd_name].partition(":")
            found = getattr(import_module(f"livesync_trio.cli.{module}"), name)
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="livesync %(version)s")
def livesync() -> None:
    """Self-hosted sync server for LiveStore apps."""


livesync.add_command(serve)
livesync.add_command(migrate)
livesync.add_command(health)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process when None.

    Returns:
        The exit code. Every failure has become one plain message on stderr; a traceback is shown only when
        `LOG_LEVEL=debug` asks for it.
    """
    hold_standard_descriptors()
    given = list(sys.argv[1:] if arguments is None else arguments)
    for number, argument in enumerate(given, 1):
        if not argument.isprintable() and any("\ud800" <= one <= "\udfff" for one in argument):
            tell(f"livesync: argument {number} is not UTF-8", err=True)
            return _EXIT_USAGE
    try:
        code = livesync.main(given, prog_name="livesync", standalone_mode=False) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as error:  # as click ends when the reader of its output is gone
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_gone()
        raise
    except OSError as error:
        if error.filename is not None or error.errno not in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
            return _ended_by(error)
        _forget_output()
        tell(f"livesync: the output cannot be written: {error.strerror}", err=True)
        return _EXIT_USAGE
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    except BaseException as error:
        return _ended_by(error)


def _reader_gone() -> int:
    """The reader of a pipe wanted no more: that is no failure to be told."""
    _forget_output()
    return _EXIT_READER_GONE


def _forget_output() -> None:
    """Let the interpreter, when it ends, write what is buffered to nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _ended_by(error: BaseException) -> int:
    """Tell why the process ends; whatever escaped a Trio nursery comes as a group of one."""
    causes = list(_leaves(error))
    for cause in causes:
        if isinstance(cause, StartupError | CommandError):
            _tell(f"livesync: {cause}")
            code = RULES[cause.kind].exit_code
            return _EXIT_FAULT if code is None else code
    if any(isinstance(cause, SystemExit) for cause in causes):
        raise error
    if all(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return _EXIT_INTERRUPTED
    if (os.environ.get("LIVESYNC_LOG_LEVEL") or os.environ.get("LOG_LEVEL", "")).lower() == "debug":
        with suppress(OSError):
            traceback.print_exception(error, file=sys.stderr)
    for cause in causes:
        _tell(f"livesync: a fault of the program: {type(cause).__name__}: {cause}")
    _tell("livesync: run it again with LOG_LEVEL=debug in the environment to see where")
    return _EXIT_FAULT


def _tell(text: str) -> None:
    """Say something on standard error; that nobody can hear it must not change how the process ends."""
    with suppress(OSError):
        tell(text, err=True)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
