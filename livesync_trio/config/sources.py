"""Flags, environment and TOML file → one `Config`, or every problem at once.

A flag overrides the environment, the environment overrides the file, the file overrides the default. A value that is
overridden is not checked; an empty environment variable counts as not set.

Names such as `HOST` and `PORT` are set by platforms, and by others: Kubernetes for every service it knows, conda for
its compilers. Each of them exists with `LIVESYNC_` in front as well; that one overrides the short one.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import cattrs

from livesync_trio.config.converting import FROM_TEXT, FROM_TOML, TEXT, BadTable, meant, read_secret, reason, shown
from livesync_trio.config.declaring import PREFIX, Setting
from livesync_trio.config.settings import SETTINGS, Config
from livesync_trio.errors import Kind, StartupError

CONFIG_FLAG: Final = "--config"
"""How the TOML file is named, besides `CONFIG_ENV`."""
CONFIG_ENV: Final = "LIVESYNC_CONFIG"
"""Names the TOML file."""
URL_ENV: Final = "LIVESYNC_URL"
"""Names the control plane that commands ask. No setting of the server."""

_PORTS: Final = frozenset({"port", "admin_port"})
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
"""What Kubernetes (and Docker's old links) put into `<SERVICE>_PORT`."""
_SERVICE_LINK_NAME: Final = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""The other variables that they set for a service called `livesync` or `livesync-…`."""
_COMPILER: Final = re.compile(r"[a-z0-9_]+-(conda|apple|pc|unknown)-(linux|darwin)[\w.-]*")
"""What conda puts into `HOST`: the machine that its compilers build for."""


@attrs.frozen
class Problem:
    """One mistake in the configuration.

    Attributes:
        source: where it is: a flag, an environment variable, a key of the file.
        wrong: what is wrong with it. Never holds a secret.
        accepts: what would be accepted; empty when that is plain.
    """

    source: str
    wrong: str
    accepts: str = ""

    def __str__(self) -> str:
        accepted = f" (accepted: {self.accepts.replace('`', '')})" if self.accepts else ""
        return f"{self.source}: {self.wrong}{accepted}"


class BadConfig(StartupError):
    """The configuration is not usable; `problems` are all there are."""

    def __init__(self, problems: list[Problem]) -> None:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(Kind.BAD_CONFIG, f"the configuration has {count}:{lines}")
        self.problems = tuple(problems)


@attrs.frozen
class _Given:
    """A value as it was given."""

    raw: Any
    source: str
    converter: cattrs.Converter
    keys: Mapping[str, str] = attrs.field(factory=dict)
    """Of a table: the keys that variables give, and those."""


_Layer = Mapping[str, _Given]
"""What one source gives, by the name of a setting or of the file with its value."""


@attrs.frozen
class Found:
    """What the sources say.

    Attributes:
        values: by name of the setting; those that are not given are missing.
        origins: where each value was given.
        remarks: what of the environment looks like a mistake and was ignored, a sentence each.
        problems: every mistake.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    remarks: tuple[str, ...]
    problems: list[Problem]


def load(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Args:
        flags: by parameter name (`port`, `auth_token_file`, `config`); None where a flag was not given.
        environ: the environment.

    Returns:
        The checked configuration.

    Raises:
        BadConfig: with every problem there is. The caller shows it and exits.
    """
    found = look_up(SETTINGS, flags, environ)
    problems = found.problems
    if not problems:
        config = Config(**found.values, origins=found.origins, remarks=found.remarks)
        given_at = {setting.env: found.origins.get(setting.name, setting.env) for setting in SETTINGS}
        problems = [Problem(given_at.get(name, name), wrong) for name, wrong in config.misfits()]
        if not problems:
            return config
    raise BadConfig(problems)


def look_up(settings: Iterable[Setting], flags: Mapping[str, Any], environ: Mapping[str, str]) -> Found:
    """Find a value of each setting in the first source that gives one, and check it by itself; see `load`."""
    settings = tuple(settings)
    problems: list[Problem] = []
    own, common, remarks = _environment(settings, environ)
    layers = (_flags(flags), own, common, _file(settings, flags, environ, problems))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in settings:
        try:
            given = _with_keys(setting, _first(setting, layers), environ)
            if given is not None:
                values[setting.name] = _value(setting, given)
                origins[setting.name] = given.source
        except _Wrong as wrong:
            problems += wrong.problems
    return Found(values, origins, remarks, problems)


# --- the three sources ---------------------------------------------------------------------------------------------


def _flags(flags: Mapping[str, Any]) -> _Layer:
    return {
        name: _Given(raw, f"--{name.replace('_', '-')}", FROM_TEXT) for name, raw in flags.items() if raw is not None
    }


def _environment(settings: Iterable[Setting], environ: Mapping[str, str]) -> tuple[_Layer, _Layer, tuple[str, ...]]:
    """What variables say that begin with `LIVESYNC_`, what others say, and remarks; no remark shows a secret."""
    own: dict[str, _Given] = {}
    common: dict[str, _Given] = {}
    remarks = []
    for setting in settings:
        for name, variable in setting.named_variables:
            text = environ.get(variable)
            if not text:
                continue
            remark = _injected(setting, variable, text)
            if remark is None:
                (own if variable.startswith(PREFIX) else common)[name] = _Given(text, variable, FROM_TEXT)
            else:
                remarks.append(remark)
    known = {CONFIG_ENV, URL_ENV, *(variable for setting in settings for variable in setting.variables)}
    known.update(variable for setting in settings for variable in setting.key_variables)
    remarks += [
        f"{variable} is set, but there is no such setting{meant(variable, known)}"
        for variable in sorted(environ)
        if variable.startswith(PREFIX)
        and variable not in known
        and environ[variable]
        and not _SERVICE_LINK_NAME.fullmatch(variable)
    ]
    return own, common, (*remarks, *fastapi_remarks(environ))


def _injected(setting: Setting, variable: str, text: str) -> str | None:
    """What is to be said of a value that nobody can have meant as this setting; None for any other."""
    instead = setting.own_env if variable != setting.own_env else setting.flag
    if setting.name in _PORTS and _SERVICE_LINK.fullmatch(text):
        service = variable.removesuffix("_PORT").replace("_", "-").lower()
        named = "every service" if variable == "PORT" else f"a service called {service!r}"
        return (
            f"{variable}={text!r} is ignored: Kubernetes and Docker set it for {named}. "
            f"Set {instead} if you want another port"
        )
    if variable == "HOST" and _COMPILER.fullmatch(text):
        return f"HOST={text!r} is ignored: conda sets it for its compilers. Set {instead} if you want another address"
    return None


def _file(
    settings: Iterable[Setting], flags: Mapping[str, Any], environ: Mapping[str, str], problems: list[Problem]
) -> _Layer:
    """The values of the TOML file; its own problems are added to `problems`."""
    named_by = CONFIG_FLAG if flags.get("config") is not None else CONFIG_ENV
    path = flags["config"] if named_by == CONFIG_FLAG else environ.get(CONFIG_ENV)
    if path is None or (path == "" and named_by == CONFIG_ENV):
        return {}
    try:
        document = tomllib.loads(Path(path).read_text(encoding=TEXT))
    except (OSError, ValueError) as error:
        problems.append(Problem(named_by, f"{path!r} cannot be read: {reason(error)}", "the path of a TOML file"))
        return {}
    known = {name for one in settings for name in (one.name, *((one.file_name,) if one.from_file else ()))}
    layer: dict[str, _Given] = {}
    for name, key, raw in _entries(document, known):
        source = f"{key} in {path}"
        if name not in known:
            problems.append(Problem(source, f"there is no such setting{meant(name, known)}"))
        elif name in layer:
            problems.append(Problem(source, f"{layer[name].source} is given too", "one of the two"))
        else:
            layer[name] = _Given(raw, source, FROM_TOML)
    return layer


def _entries(document: Mapping[str, Any], known: set[str]) -> Iterator[tuple[str, str, Any]]:
    """The names that a file gives, each with the key as it stands there, and its value.

    A table groups settings whose names begin alike: `port` in `[admin]` is `admin_port`.
    """
    for key, raw in document.items():
        if isinstance(raw, dict) and key not in known and any(name.startswith(f"{key}_") for name in known):
            yield from ((f"{key}_{inner}", f"{key}.{inner}", value) for inner, value in raw.items())
        else:
            yield key, key, raw


# --- one value -----------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A setting's value is not usable."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*map(str, problems))
        self.problems = problems


def _first(setting: Setting, layers: tuple[_Layer, ...]) -> _Given | None:
    """The value of the first source that gives one; a secret's file is read."""
    for layer in layers:
        given = layer.get(setting.name)
        file = layer.get(setting.file_name) if setting.from_file else None
        if given is not None and file is not None:
            raise _Wrong(Problem(file.source, f"{given.source} is given too", "one of the two"))
        if file is not None:
            return _read(file)
        if given is not None:
            return given
    return None


def _with_keys(setting: Setting, given: _Given | None, environ: Mapping[str, str]) -> _Given | None:
    """A table, with the keys that variables give, which override those of the file."""
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for variable, (key, kind) in setting.key_variables.items():
        if text := environ.get(variable):
            try:
                values[key] = FROM_TEXT.structure(text, kind) if kind in (bool, int, float) else text
            except ValueError as error:
                raise _Wrong(Problem(variable, str(error))) from None
            keys[key] = variable
    if not values:
        return given
    table = given.raw if given is not None and isinstance(given.raw, dict) else {}
    overridden = {*values, *(f"{key}_file" for key in values), *(key.removesuffix("_file") for key in values)}
    kept = {key: value for key, value in table.items() if key not in overridden}
    source = f"{setting.name} in the environment" if given is None else given.source
    return _Given({**kept, **values}, source, FROM_TOML, keys)


def _read(file: _Given) -> _Given:
    """The value that lies in a file."""
    try:
        return attrs.evolve(file, raw=read_secret(file.converter.structure(file.raw, str)))
    except (OSError, ValueError) as error:
        wrong = f"the file cannot be read: {reason(error)}"
        raise _Wrong(Problem(file.source, wrong, "the path of a file with the secret")) from None


def _value(setting: Setting, given: _Given) -> Any:
    try:
        value = given.converter.structure(given.raw, setting.type)
        setting.check(value)
    except BadTable as error:
        key, _, where = given.source.partition(" ")
        raise _Wrong(
            *(
                Problem(given.keys.get(path.removeprefix("."), f"{key}{path} {where}"), wrong)
                for path, wrong in error.mistakes
            )
        ) from None
    except ValueError as error:
        raise _Wrong(Problem(given.source, _with_value(setting, given.raw, str(error)), setting.accepts)) from None
    return value


def _with_value(setting: Setting, raw: object, wrong: str) -> str:
    """A message that says which value is wrong, unless that may hold a secret."""
    if setting.from_file or setting.only_in_file or not raw or str(raw) in wrong or shown(raw) in wrong:
        return wrong
    return f"{shown(raw)}: {wrong}"


# --- settings of the FastAPI server -----------------------------------------------------------------------------------


_STANDS_FOR: Final = {
    "CORS_ORIGINS": "here it is LIVESYNC_CORS_ORIGINS",
    "JWT_SECRET": "here it is LIVESYNC_JWT_SECRET; LIVESYNC_JWT_STORES_CLAIM=workspaces lets its tokens in",
    "JWT_ALGORITHM": "here it is LIVESYNC_JWT_ALGORITHMS",
    "JWT_EXPIRY_MINUTES": "this server gives out no tokens",
    "ADMIN_EMAIL": "operators are made by `livesync operators add`",
    "ADMIN_PASSWORD": "operators are made by `livesync operators add`",
    "PERSISTENCE_FORMAT_VERSION": "it cannot be chosen here",
    "PULL_CHUNK_SIZE": "it cannot be chosen here",
    "DB_POOL_MIN_SIZE": "it cannot be chosen here",
    "DB_POOL_MAX_SIZE": "it cannot be chosen here",
    "DB_COMMAND_TIMEOUT": "it cannot be chosen here",
}

_LEAST: Final = 2
"""Names that must be there: one alone, such as `JWT_SECRET`, may be another program's."""


def fastapi_remarks(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each of its settings that has no effect here; none where the environment is not that server's."""
    found = [name for name in _STANDS_FOR if environ.get(name)]
    if len(found) < _LEAST:
        return []
    return [f"{name} is set, as for the FastAPI server, and has no effect: {_STANDS_FOR[name]}" for name in found]
