"""The command line's root: which commands there are, and how a failure ends."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final

import click

from livesync_trio.cli.printing import tell
from livesync_trio.errors import RULES, CommandError, StartupError
from livesync_trio.version import VERSION

_EXIT_FAULT: Final = 1
_EXIT_USAGE: Final = 2
_EXIT_READER_GONE: Final = 141
"""128 + SIGPIPE, as shells have it."""
_EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

_STANDARD: Final = 3
"""Descriptors 0, 1 and 2: standard input, output and error."""

_GROUPS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Run a server": {
        "serve": ("serve:serve", "Serve LiveStore clients until a signal says stop."),
        "health": ("health:health", "Ask the server on this machine how it is."),
        "doctor": ("doctor:doctor", "Check everything a server needs, and sync a probe."),
        "config": ("config:config", "Show the settings, and where each was given."),
        "migrate": ("migrate:migrate", "Bring the tables of a PostgreSQL database up to date."),
    },
    "Look": {
        "stores": ("inspect:stores", "List the stores."),
        "events": ("inspect:events", "Show events of a store."),
        "tail": ("inspect:tail", "Show events of a store as they are pushed."),
        "info": ("inspect:info", "Tell what the database holds, or how a server is."),
        "connections": ("inspect:connections", "List the open WebSockets of a running server."),
        "webhooks": ("webhooks:webhooks", "List, test and replay the webhooks of a running server."),
        "operators": ("operators:operators", "Say who may sign in to the console."),
    },
    "Keep and move data": {
        "backup": ("export:backup", "Save all stores as of one moment into a file."),
        "backups": ("export:backups", "List the scheduled backups."),
        "restore": ("restore:restore", "Go back to a backup."),
        "verify": ("verify:verify", "Check every log, or a file."),
        "export": ("export:export", "Write stores into a file."),
        "import": ("imports:import_", "Bring in stores from a file or another server."),
        "reset": ("altering:reset", "Give a store an empty log and a new identity."),
        "delete": ("altering:delete", "Delete a store with all of its events."),
        "rename": ("altering:rename", "Give a store another name."),
        "freeze": ("altering:freeze", "Let a store take no more events."),
        "rewind": ("altering:rewind", "Take a store back to an event."),
        "erase": ("altering:erase", "Replace what events say, for good."),
        "thaw": ("altering:thaw", "Let a frozen store take events again."),
    },
    "Follow a PostgreSQL database": {
        "feed": ("feed:feed", "Look at the change feed and its source, and mend it."),
    },
    "More": {
        "token": ("token:token", "Make a token to try an app with, or explain one."),
        "bench": ("bench:bench", "Measure a running server, as clients see it."),
        "completion": ("main:completion", "Print the completion script of a shell."),
    },
}
"""Every command by its group: module and name below `livesync_trio.cli`, and what it does, for the list. A module is
loaded when its command is called: a server shall not carry what the others need."""

_COMMANDS: Final = {name: where for group in _GROUPS.values() for name, (where, _) in group.items()}

_COMPLETION_VARIABLE: Final = "_LIVESYNC_COMPLETE"
"""By this the completion script asks the program; click's convention."""


class _Commands(click.Group):
    """The commands, loaded when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _COMMANDS:
            module, _, name = _COMMANDS[cmd_name].partition(":")
            found = getattr(import_module(f"livesync_trio.cli.{module}"), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0].isalpha() and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in _GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, meaning) for name, (_, meaning) in commands.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="livesync %(version)s")
def livesync() -> None:
    """Self-hosted sync server for LiveStore apps.

    `livesync COMMAND --help` explains a command.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the completion script for SHELL: append it to ~/.bashrc or ~/.zshrc.

    For fish: `livesync completion fish > ~/.config/fish/completions/livesync.fish`.
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(livesync, {}, "livesync", _COMPLETION_VARIABLE).source())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process when None.

    Returns:
        The exit code. Every failure has become one plain message on stderr; a traceback is shown only when
        `LOG_LEVEL=debug` asks for it.
    """
    _hold_standard_descriptors()
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


def _hold_standard_descriptors() -> None:
    """Open those of the three standard descriptors that are closed.

    Otherwise the next file that is opened gets the number, and what is written to standard error goes into it.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < _STANDARD:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
