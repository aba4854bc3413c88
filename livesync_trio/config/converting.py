"""From text (flags, variables) and from TOML's own types to the type of a setting, by cattrs.

Text is read generously (`yes`, ` Warning `), TOML strictly: no text where a number is meant. Tables become attrs
classes; every mistake in them is told, each with its path.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args, get_origin

import attrs
import cattrs

from livesync_trio.config.declaring import Secret, one_of

SECRET_FILE_MAX_BYTES: Final = 64 * 1024
"""Longest file with a secret; a wrong path, say a device, is noticed instead of read for ever."""

TEXT: Final = "utf-8-sig"
"""Of files: editors on Windows put a byte order mark in front, which is no part of the content."""

_SHOWN_CHARACTERS: Final = 60
"""Of a refused value, no more than this is repeated."""

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
_TEXTS: Final = tuple[str, ...]


class BadTable(ValueError):
    """A table or an array has mistakes in it: each with its path, such as `[0].url`."""

    def __init__(self, mistakes: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {wrong}" for path, wrong in mistakes))
        self.mistakes = mistakes


def shown(raw: object) -> str:
    """A value that was refused, as far as a message should repeat it."""
    text = repr(raw)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant by a word that is not known, to put behind a message; empty for no idea."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def read_secret(path: str) -> str:
    """The text of a file, without the line end that editors put behind it. Raises OSError or ValueError."""
    with Path(path).open("rb") as opened:
        content = opened.read(SECRET_FILE_MAX_BYTES + 1)
    if len(content) > SECRET_FILE_MAX_BYTES:
        raise ValueError(f"it has more than {SECRET_FILE_MAX_BYTES} bytes")
    return content.decode(TEXT).removesuffix("\n").removesuffix("\r")


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, in words."""
    match error:
        case OSError():
            return (error.strerror or str(error)).lower()
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case _:
            return str(error)


# --- from text -------------------------------------------------------------------------------------------------------


def _bool_of_text(raw: str | bool, _: type) -> bool:
    """A variable's text; the flag gives a bool by itself."""
    if isinstance(raw, bool):
        return raw
    try:
        return _TRUTH[raw.strip().lower()]
    except KeyError:
        raise ValueError(f"{shown(raw)} is neither true nor false") from None


def _int_of_text(raw: str, _: type) -> int:
    try:
        return int(raw)
    except ValueError:
        raise ValueError(f"{shown(raw)} is not a whole number") from None


def _float_of_text(raw: str, _: type) -> float:
    try:
        return float(raw)
    except ValueError:
        raise ValueError(f"{shown(raw)} is not a number") from None


def _texts_of_text(raw: str, _: type) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in raw.split(",")) if part)


# --- from TOML -------------------------------------------------------------------------------------------------------


def _exactly(wanted: type, word: str) -> Callable[[Any, type], Any]:
    """A hook for a type that TOML has too: no text where a number is meant, no number where true or false is."""

    def structure(raw: Any, _: type) -> Any:
        if type(raw) is not wanted:
            raise ValueError(f"{shown(raw)} is not {word}")
        return raw

    return structure


def _float_of_number(raw: Any, _: type) -> float:
    if type(raw) not in (int, float):
        raise ValueError(f"{shown(raw)} is not a number")
    return float(raw)


def _texts_of_array(raw: Any, kind: type) -> tuple[str, ...]:
    if isinstance(raw, str):
        return _texts_of_text(raw, kind)
    if not isinstance(raw, list) or not all(isinstance(part, str) for part in raw):
        raise ValueError(f"{shown(raw)} is not an array of texts")
    return tuple(raw)


def _array(raw: Any, kind: Any) -> tuple[Any, ...]:
    """`[[webhooks]]`: a list of tables, or of anything else than texts."""
    if not isinstance(raw, list):
        raise ValueError(f"{shown(raw)} is not a list: write [[…]] above each of its tables")  # noqa: TRY004 - the operator's mistake
    part = get_args(kind)[0]
    return tuple(_parts((f"[{number}]", value, part) for number, value in enumerate(raw)))


def _mapping(raw: Any, kind: Any) -> Mapping[str, Any]:
    """`[access.todos]`: a table whose keys the operator chooses."""
    _refuse_other_than_table(raw)
    part = get_args(kind)[1]
    return MappingProxyType(dict(zip(raw, _parts((f".{key}", value, part) for key, value in raw.items()), strict=True)))


def _table(raw: Any, kind: Any) -> Any:
    """A table whose keys are the fields of an attrs class."""
    _refuse_other_than_table(raw)
    fields = {field.name: field for field in attrs.fields(attrs.resolve_types(kind)) if field.init}
    files = {f"{name}_file": name for name, field in fields.items() if _is_secret(field.type)}
    required = {name for name, field in fields.items() if field.default is attrs.NOTHING}
    names = {key: files.get(key, key) for key in raw}
    unknown = [key for key in raw if names[key] not in fields]
    mistakes = [(f".{key}", f"there is no such key{meant(key, [*fields, *files])}") for key in unknown]
    mistakes += [(f".{name}", "it is missing") for name in sorted(required - set(names.values()))]
    mistakes += [(f".{key}", f"{names[key]} is given too") for key in raw if key in files and names[key] in raw]
    if mistakes:
        raise BadTable(mistakes)
    values = _parts((f".{key}", value, _InFile if key in files else fields[key].type) for key, value in raw.items())
    return kind(**dict(zip(names.values(), values, strict=True)))


def _parts(parts: Iterable[tuple[str, Any, Any]]) -> list[Any]:
    """Convert the parts of a table or an array: path, value, type. Raises `BadTable` with all their mistakes."""
    values, mistakes = [], []
    for path, raw, kind in parts:
        try:
            values.append(FROM_TOML.structure(raw, kind))
        except BadTable as error:
            mistakes += [(path + inner, wrong) for inner, wrong in error.mistakes]
        except ValueError as error:
            accepted = f" (accepted: {one_of(kind)})" if get_origin(kind) is Literal else ""
            mistakes.append((path, f"{error}{accepted}"))
    if mistakes:
        raise BadTable(mistakes)
    return values


def _refuse_other_than_table(raw: Any) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{shown(raw)} is not a table")  # noqa: TRY004 - the operator's mistake


# --- both ------------------------------------------------------------------------------------------------------------


class _InFile:
    """Stands for the type of a secret whose file is named."""


def _in_file(raw: Any, _: type) -> Secret:
    try:
        return Secret(read_secret(FROM_TOML.structure(raw, str)))
    except (OSError, ValueError) as error:
        raise ValueError(f"the file cannot be read: {reason(error)}") from None


def _choice(raw: Any, kind: Any) -> str:
    word = raw.strip().lower() if isinstance(raw, str) else None
    if word not in get_args(kind):
        raise ValueError(f"{shown(raw)} is none of them")
    return str(word)


def _secret(raw: Any, _: type) -> Secret:
    if not isinstance(raw, str):
        raise ValueError("it is not a text")  # noqa: TRY004 - a mistake of the operator's, told like the others
    return Secret(raw)


def _text_or_truth(raw: Any, _: Any) -> str | bool:
    if not isinstance(raw, str | bool):
        raise ValueError(f"{shown(raw)} is neither a text nor true or false")  # noqa: TRY004 - the operator's mistake
    return raw


def _is_secret(kind: Any) -> bool:
    return kind is Secret or bool(kind == Secret | None)


def _made_of(origin: Any) -> Callable[[Any], bool]:
    """Whether a type is a generic one of a kind, such as `Mapping[str, int]` of `Mapping`."""
    return lambda kind: get_origin(kind) is origin


def _converter(hooks: Mapping[type, Callable[[Any, Any], Any]], texts: Callable[[Any, Any], Any]) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook_func(attrs.has, _table)
    converter.register_structure_hook_func(_made_of(Mapping), _mapping)
    converter.register_structure_hook_func(_made_of(tuple), _array)
    converter.register_structure_hook_func(_made_of(Literal), _choice)
    converter.register_structure_hook_func(lambda kind: bool(kind == _TEXTS), texts)
    converter.register_structure_hook_func(lambda kind: bool(kind == str | bool), _text_or_truth)
    for kind, hook in (*hooks.items(), (Secret, _secret), (_InFile, _in_file)):
        converter.register_structure_hook(kind, hook)
    return converter


FROM_TEXT: Final = _converter({bool: _bool_of_text, int: _int_of_text, float: _float_of_text}, _texts_of_text)
FROM_TOML: Final = _converter(
    {
        str: _exactly(str, "a text"),
        bool: _exactly(bool, "true or false"),
        int: _exactly(int, "a whole number"),
        float: _float_of_number,
    },
    _texts_of_array,
)
