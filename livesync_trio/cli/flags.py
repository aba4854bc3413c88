"""The flags of commands that take the whole configuration, derived from its settings."""

from collections.abc import Callable
from typing import Any

import click

from livesync_trio.config import CONFIG_ENV, SETTINGS, Setting

_Command = Callable[..., Any]


def configuration_flags(command: _Command) -> _Command:
    """Give a command `--config` and a flag for every setting.

    Flags take any text: what they mean is judged together with environment and file, so that all mistakes are told at
    once (`config.load`). A flag that is not given is None.
    """
    for setting in reversed(SETTINGS):
        if not setting.only_in_file:
            command = option(setting)(command)
    return click.option("--config", metavar="FILE", help=f"TOML file with settings. [env: {CONFIG_ENV}]")(command)


def option(setting: Setting) -> Callable[[_Command], _Command]:
    """The flag of one setting."""
    help_text = f"{setting.help} {_origin(setting)}"
    if setting.type is bool:
        return click.option(setting.flag, setting.name, is_flag=True, default=None, help=help_text)
    if setting.secret:
        return click.option(setting.flag, setting.file_name, metavar="FILE", help=f"File that holds it. {help_text}")
    return click.option(setting.flag, setting.name, metavar=_metavar(setting), help=help_text)


def _origin(setting: Setting) -> str:
    environment = f"{setting.env} or {setting.file_env}" if setting.from_file else setting.env
    default = f"; default: {setting.default_text}" if setting.default_text and setting.type is not bool else ""
    return f"[env: {environment}{default}]"


def _metavar(setting: Setting) -> str:
    if setting.type is float:
        return "SECONDS"
    return "NUMBER" if setting.type is int else "TEXT"
