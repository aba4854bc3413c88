"""Interfaces over HTTP: their requests and answers as structs, read strictly, and the OpenAPI document made of them."""

import datetime
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, get_args
from urllib.parse import parse_qs

import attrs
import msgspec

from livesync_trio.errors import RULES, Kind


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What may be asked: the query of a GET, the JSON body of a POST. Texts that are empty were not given."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A JSON object with exactly these members."""


def camel(name: str) -> str:
    """A name of ours as it is on the wire."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


@attrs.frozen(slots=False)
class Operation:
    """One method at one path.

    Attributes:
        method: GET, which HEAD comes with, or POST.
        path: with parameters in braces, percent-encoded.
        handler: answers. The first line of its docstring is the meaning, its annotations say what may be asked.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Callable[..., Any]

    @property
    def name(self) -> str:
        """`operationId` of the OpenAPI document."""
        return camel(self.handler.__name__)

    @property
    def meaning(self) -> str:
        """One sentence."""
        return (self.handler.__doc__ or "").partition("\n")[0]


_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})", re.ASCII)

R = TypeVar("R", bound=Request)


def query_values(query: str) -> dict[str, list[str]]:
    """The parameters of a query. Raises ValueError."""
    return parse_qs(query, keep_blank_values=True, errors="strict")


def read_query(takes: type[R], given: Mapping[str, Sequence[str]]) -> R:
    """What a query asks, numbers as numbers.

    Raises:
        ValueError: a parameter is unknown, repeated, missing or not of its kind.
    """
    numbers = _numbers(takes)
    values: dict[str, str | int] = {}
    for name, (text, *more) in given.items():
        if more:
            raise msgspec.ValidationError(f"`{name}` was given more than once")
        if text:
            values[name] = int(text) if name in numbers and _WHOLE.fullmatch(text) else text
    return msgspec.convert(values, takes)


@functools.cache
def _numbers(takes: type[Request]) -> frozenset[str]:
    """The parameters that are numbers."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(takes) if _is_number(field.type))


def _is_number(kind: Any) -> bool:
    return kind is int or any(map(_is_number, get_args(kind)))


def moment_read(text: str) -> str:
    """A moment in ISO 8601 as the wire writes it; UTC unless it says otherwise. Raises ValueError when it is none."""
    try:
        at = datetime.datetime.fromisoformat(text)
        return wire_time(at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC))
    except (ValueError, OverflowError):
        raise ValueError("a moment must be written as in 2026-11-20T16:00:00Z") from None


def wire_time(at: datetime.datetime) -> str:
    """A moment of the calendar as the wire writes it, `YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    return f"{at.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def schemas(types: Iterable[type[Any]]) -> dict[str, Any]:
    """The `components.schemas` of structs, by name."""
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in found.values():
        schema.pop("description", None)  # the docstring of the struct, written for who reads the code
    return found


def parameters(schema: dict[str, Any], where: str = "query") -> list[dict[str, Any]]:
    """The members of a struct's schema as parameters. `where`: `query`, `header` or `path`."""
    return [
        {
            "name": name,
            "in": where,
            "description": member.get("description", ""),
            "required": name in schema["required"],
            "schema": {key: value for key, value in member.items() if key != "description"},
        }
        for name, member in schema["properties"].items()
    ]


def refusals(statuses: Iterable[tuple[Kind, int | None]], content_type: str, told: type[Any]) -> dict[str, Any]:
    """Responses for kinds of refusal, one for each status; `told`: the struct of their body."""
    meanings: dict[int, list[str]] = {}
    for kind, status in statuses:
        assert status is not None  # these can be told over HTTP
        meanings.setdefault(status, []).append(RULES[kind].meaning)
    return {
        str(status): {"description": " ".join(dict.fromkeys(found)), "content": {content_type: {"schema": ref(told)}}}
        for status, found in meanings.items()
    }


def ref(kind: type[Any]) -> dict[str, str]:
    """A struct, by its name."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
