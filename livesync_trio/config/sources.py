"""Flags, environment and file → one `Config`, or every problem at once.

A flag beats the environment (`LIVESYNC_PORT` beats `PORT`), the environment beats the file, the file beats the default.
A value that is beaten is not looked at; an empty environment variable counts as not set.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import attrs
import cattrs

from livesync_trio.config.declaring import Setting
from livesync_trio.config.environment import CONFIG_ENV, read_environment
from livesync_trio.config.identity import identity_problems
from livesync_trio.config.secret import Secret
from livesync_trio.config.settings import SETTINGS, Config, control_problems, surface_problems
from livesync_trio.errors import Kind, StartupError
from livesync_trio.limits import SECRET_FILE_MAX_BYTES

CONFIG_FLAG: Final = "--config"
"""How the TOML file is named, besides `CONFIG_ENV`."""

_TEXT: Final = "utf-8-sig"
"""Of the files: editors on Windows put a byte order mark in front, which is no part of the content."""

_SHOWN_CHARACTERS: Final = 60
"""Of a refused value, no more than this is repeated."""


@attrs.frozen
class Problem:
    """One mistake in the configuration.

    Attributes:
        source: where it stands: a flag, an environment variable, a key of the file.
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
    problems: list[Problem] = []
    found = read_environment(environ)
    layers = (_flags(flags), _variables(found.own), _variables(found.common), _file(flags, environ, problems))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        try:
            given = _first(setting, layers)
            if given is not None:
                values[setting.name] = _value(setting, given)
                origins[setting.name] = given.source
        except _Wrong as wrong:
            problems.append(wrong.problem)
    if not problems:
        config = Config(**values, origins=origins, remarks=found.remarks)
        given_at = {setting.env: origins.get(setting.name, setting.env) for setting in SETTINGS}
        problems = [Problem(given_at[env], wrong) for env, wrong in misfits(config)]
        if not problems:
            return config
    raise BadConfig(problems)


def misfits(config: Config) -> list[tuple[str, str]]:
    """What of the settings does not fit together: the variable at fault, and what is wrong with it."""
    return [*identity_problems(config), *surface_problems(config), *control_problems(config)]


# --- the three sources ---------------------------------------------------------------------------------------------

_Layer = Mapping[str, _Given]


def _flags(flags: Mapping[str, Any]) -> _Layer:
    return {
        name: _Given(raw, f"--{name.replace('_', '-')}", _FROM_TEXT) for name, raw in flags.items() if raw is not None
    }


def _variables(found: Mapping[str, tuple[str, str]]) -> _Layer:
    return {name: _Given(text, variable, _FROM_TEXT) for name, (variable, text) in found.items()}


def _file(flags: Mapping[str, Any], environ: Mapping[str, str], problems: list[Problem]) -> _Layer:
    """The values of the TOML file; its own problems are added to `problems`."""
    named_by = CONFIG_FLAG if flags.get("config") is not None else CONFIG_ENV
    path = flags["config"] if named_by == CONFIG_FLAG else environ.get(CONFIG_ENV)
    if path is None or (path == "" and named_by == CONFIG_ENV):
        return {}
    try:
        document = tomllib.loads(Path(path).read_text(encoding=_TEXT))
    except (OSError, ValueError) as error:
        problems.append(Problem(named_by, f"{path!r} cannot be read: {_reason(error)}", "the path of a TOML file"))
        return {}
    known = [setting.name for setting in SETTINGS] + [setting.file_name for setting in SETTINGS if setting.from_file]
    for key in document.keys() - known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        problems.append(Problem(f"{key} in {path}", f"there is no such setting{hint}"))
    return {key: _Given(raw, f"{key} in {path}", _FROM_TOML) for key, raw in document.items() if key in known}


# --- one value -----------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A setting's value is not usable."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


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


def _read(file: _Given) -> _Given:
    """The value that lies in a file, without the line end that editors put behind it."""
    try:
        with Path(file.converter.structure(file.raw, str)).open("rb") as opened:
            content = opened.read(SECRET_FILE_MAX_BYTES + 1)
        if len(content) > SECRET_FILE_MAX_BYTES:
            raise ValueError(f"it has more than {SECRET_FILE_MAX_BYTES} bytes")
        text = content.decode(_TEXT).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        wrong = f"the file cannot be read: {_reason(error)}"
        raise _Wrong(Problem(file.source, wrong, "the path of a file with the secret")) from None
    return attrs.evolve(file, raw=text)


def _value(setting: Setting, given: _Given) -> Any:
    try:
        value = given.converter.structure(given.raw, setting.type)
        setting.check(value)
    except ValueError as error:
        raise _Wrong(Problem(given.source, _with_value(setting, given.raw, str(error)), setting.accepts)) from None
    return value


def _with_value(setting: Setting, raw: object, wrong: str) -> str:
    """A message that says which value is wrong, unless that may hold a secret."""
    if setting.from_file or not raw or str(raw) in wrong or _shown(raw) in wrong:
        return wrong
    return f"{_shown(raw)}: {wrong}"


def _reason(error: OSError | ValueError) -> str:
    match error:
        case OSError():
            return (error.strerror or str(error)).lower()
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case _:
            return str(error)


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


# --- cattrs: from text, and from TOML's own types --------------------------------------------------------------------

_TRUTH: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_SEPARATED: Final = tuple[str, ...]


def _bool_of_text(raw: str | bool, _: type) -> bool:
    """A variable's text; the flag gives a bool by itself."""
    if isinstance(raw, bool):
        return raw
    try:
        return _TRUTH[raw.strip().lower()]
    except KeyError:
        raise ValueError(f"{_shown(raw)} is neither true nor false") from None


def _int_of_text(raw: str, _: type) -> int:
    try:
        return int(raw)
    except ValueError:
        raise ValueError(f"{_shown(raw)} is not a whole number") from None


def _float_of_text(raw: str, _: type) -> float:
    try:
        return float(raw)
    except ValueError:
        raise ValueError(f"{_shown(raw)} is not a number") from None


def _tuple_of_text(raw: str, _: type) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in raw.split(",")) if part)


def _exactly(wanted: type, word: str) -> Callable[[Any, type], Any]:
    """A hook for a type that TOML has too: no text where a number is meant, no number where true or false is."""

    def structure(raw: Any, _: type) -> Any:
        if type(raw) is not wanted:
            raise ValueError(f"{_shown(raw)} is not {word}")
        return raw

    return structure


def _float_of_number(raw: Any, _: type) -> float:
    if type(raw) not in (int, float):
        raise ValueError(f"{_shown(raw)} is not a number")
    return float(raw)


def _tuple_of_array(raw: Any, kind: type) -> tuple[str, ...]:
    if isinstance(raw, str):
        return _tuple_of_text(raw, kind)
    if not isinstance(raw, list) or not all(isinstance(part, str) for part in raw):
        raise ValueError(f"{_shown(raw)} is not an array of texts")
    return tuple(raw)


def _choice(raw: Any, kind: Any) -> str:
    word = raw.strip().lower() if isinstance(raw, str) else None
    if word not in get_args(kind):
        raise ValueError(f"{_shown(raw)} is none of them")
    return str(word)


def _secret(raw: Any, _: type) -> Secret:
    if not isinstance(raw, str):
        raise ValueError("it is not a text")  # noqa: TRY004 - a mistake of the operator's, told like the others
    return Secret(raw)


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _converter(hooks: Mapping[type, Callable[[Any, Any], Any]], of_list: Callable[[Any, Any], Any]) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(Secret, _secret)
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_func(lambda kind: bool(kind == _SEPARATED), of_list)
    return converter


_FROM_TEXT: Final = _converter({bool: _bool_of_text, int: _int_of_text, float: _float_of_text}, _tuple_of_text)
_FROM_TOML: Final = _converter(
    {
        str: _exactly(str, "a text"),
        bool: _exactly(bool, "true or false"),
        int: _exactly(int, "a whole number"),
        float: _float_of_number,
    },
    _tuple_of_array,
)
