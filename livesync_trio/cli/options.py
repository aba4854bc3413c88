"""Options that commands share. Those of settings are derived from the settings, so that names and meanings agree.

Options take any text: what they mean is decided together with environment and file, so that all mistakes are told at
once (`config.load`). An option that is not given is None.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from livesync_trio.config import CONFIG_ENV, SETTINGS, URL_ENV, Setting

_Command = Callable[..., Any]
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS if not setting.only_in_file}
_FIRST_GROUP: Final = "Options"
_NAMES_MOST: Final = 100
"""Names offered at most."""


def complete_store(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Stores whose name begins with what is typed."""
    from livesync_trio.cli.store_readers import reading  # noqa: PLC0415 - only when a shell asks

    given: dict[str, Any] = {name: context.params.get(name) for name in ("config", "database_url", "listen_url")}
    try:
        with reading(context.params.get("url"), given) as source:
            names = (str(store["storeId"]) for store in source.stores(incomplete))
            return [
                CompletionItem(name) for name in islice((n for n in names if n.startswith(incomplete)), _NAMES_MOST)
            ]
    except Exception:  # a shell that completes has no place for a message
        return []


store_argument = click.argument("store", shell_complete=complete_store)
"""Of every command about one store."""

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
"""Of every command that prints something."""

_config_option = click.option(
    "--config", metavar="FILE", type=click.Path(), help=f"TOML file with settings. [env: {CONFIG_ENV}]"
)
_payload_option = click.option(
    "--payload-file", type=click.Path(path_type=Path), help="File with what clients send as syncPayload."
)
_sync_url_option = click.option(
    "--sync-url", metavar="URL", help="Where clients connect. [default: what HOST and PORT say]"
)


class GroupedCommand(click.Command):
    """A command whose help lists the options of settings under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write its own options first, then those of settings, group by group."""
        groups: dict[str, list[tuple[str, str]]] = {_FIRST_GROUP: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                setting = _BY_NAME.get((parameter.name or "").removesuffix("_file"))
                groups.setdefault(setting.group if setting else _FIRST_GROUP, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def configuration_options(*shown: str) -> Callable[[_Command], _Command]:
    """Give a command `--config` and an option for every setting.

    Args:
        shown: names of the settings that its help lists, because the command itself needs them; all when empty. The
            others are accepted too, so that the command line of `livesync serve` can be used again.
    """

    def add(command: _Command) -> _Command:
        for setting in reversed(_BY_NAME.values()):
            command = _setting_option(setting, hidden=bool(shown) and setting.name not in shown)(command)
        return _config_option(command)

    return add


def database_options(command: _Command) -> _Command:
    """Give a command `--database-url` and its companions."""
    command = _setting_option(_BY_NAME["listen_url"], hidden=True)(command)  # which only who waits for news needs
    command = _setting_option(_BY_NAME["database_url"])(command)
    return _config_option(command)


def server_options(command: _Command) -> _Command:
    """Give a command `--url`, for a running server instead of a database, and the secret that goes with it."""
    command = _setting_option(_BY_NAME["admin_secret"])(command)
    return url_option("Control plane of a running server, instead of a database.")(command)


def url_option(help_text: str) -> Callable[[_Command], _Command]:
    """Give a command `--url`."""
    return click.option("--url", metavar="URL", envvar=URL_ENV, help=f"{help_text} [env: {URL_ENV}]")


def sync_options(command: _Command) -> _Command:
    """Give a command the options that say which server to talk to as a client, and what to send to be let in."""
    return _sync_url_option(_payload_option(command))


def payload_option(command: _Command) -> _Command:
    """Give a command `--payload-file`."""
    return _payload_option(command)


def _setting_option(setting: Setting, *, hidden: bool = False) -> Callable[[_Command], _Command]:
    """The option of one setting."""
    help_text = f"{setting.help} {_origin(setting)}"
    name, metavar = setting.name, _metavar(setting)
    if setting.type is bool:
        return click.option(setting.flag, name, is_flag=True, default=None, help=help_text, hidden=hidden)
    if setting.secret:
        name, metavar, help_text = setting.file_name, "FILE", f"{setting.help} Read from FILE. {_origin(setting)}"
    kind = click.Path() if metavar == "FILE" else click.STRING
    return click.option(
        *(setting.flag, name),
        metavar=metavar,
        type=kind,
        help=help_text,
        hidden=hidden,
        shell_complete=_complete_choice(setting) if get_origin(setting.type) is Literal else None,
    )


def _complete_choice(setting: Setting) -> Callable[..., list[CompletionItem]]:
    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(value) for value in get_args(setting.type) if value.startswith(incomplete)]

    return complete


def _origin(setting: Setting) -> str:
    environment = f"{setting.env} or {setting.file_env}" if setting.from_file else setting.env
    default = f"; default: {setting.default_text}" if setting.default_text and setting.type is not bool else ""
    return f"[env: {environment}{default}]"


def _metavar(setting: Setting) -> str:
    if get_origin(setting.type) is Literal:
        return f"[{'|'.join(get_args(setting.type))}]"
    if setting.type is float:
        return "SECONDS"
    if setting.type is int:
        return "NUMBER"
    if setting.name.endswith("_url"):
        return "URL"
    return "FILE" if "path" in setting.accepts and "URL" not in setting.accepts else "TEXT"
