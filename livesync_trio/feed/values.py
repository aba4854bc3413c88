"""What the text of a value means, by the type of its column: for comparing, and for JSON.

Types are known by the OIDs that are the same in every PostgreSQL. What is not listed is text that nobody compares.
"""

import re
import struct
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import msgspec

Parse = Callable[[str], Any]
"""Makes something of a value's text that compares as PostgreSQL compares. Raises ValueError."""

BOOL: Final = 16
FLOAT4: Final = 700
TIMESTAMPTZ: Final = 1184
INTEGERS: Final = {20: "int8", 21: "int2", 23: "int4", 26: "oid"}
NUMBERS: Final = {**INTEGERS, 1700: "numeric", FLOAT4: "float4", 701: "float8"}
TEXTS: Final = {25: "text", 1043: "varchar"}
TIMES: Final = {1082: "date", 1114: "timestamp", TIMESTAMPTZ: "timestamptz"}
NAMES: Final = {**NUMBERS, **TEXTS, **TIMES, BOOL: "bool", 2950: "uuid"}
"""Types that can be compared, as a cast writes them."""

_INT4: Final = frozenset({21, 23, 26})
JSON: Final = frozenset({114, 3802})
_TIME: Final = re.compile(
    r"(\d{4,6})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?( BC)?"
)


def parser_of(type_oid: int) -> Parse | None:
    """How values of a type are read to be compared; None: they cannot be."""
    return _PARSERS.get(type_oid)


def number_of(text: str) -> tuple[int, Decimal]:
    """A constant number as it compares with a `numeric`."""
    return _numeric(text)


def json_of(type_oid: int, text: str | None) -> Any:
    """A value as it is sent: numbers that JSON holds exactly, true and false, documents; all else is text as it is."""
    if text is None:
        return None
    if type_oid == BOOL:
        return text == "t"
    if type_oid in _INT4 or type_oid in JSON:
        return msgspec.Raw(text.encode())
    if type_oid in (FLOAT4, 701) and text[-1].isdigit():  # not NaN, not Infinity
        return msgspec.Raw(text.encode())
    return text


def _bool(text: str) -> bool:
    match text.lower():
        case "t" | "true":
            return True
        case "f" | "false":
            return False
    raise ValueError(f"{text!r} is neither true nor false")


def _float8(text: str) -> tuple[int, float]:
    """NaN equals itself and is greater than all else."""
    value = float(text)
    return (1, 0.0) if value != value else (0, value)  # noqa: PLR0124 - that is what NaN is


def _float4(text: str) -> tuple[int, float]:
    rank, value = _float8(text)
    return rank, struct.unpack("f", struct.pack("f", value))[0]


def _numeric(text: str) -> tuple[int, Decimal]:
    try:
        value = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text!r} is not a number") from None
    return (1, Decimal(0)) if value.is_nan() else (0, value)


def _time(text: str) -> tuple[float, ...]:
    """A moment or a day as numbers that follow one another, also of years that Python does not have."""
    if text in ("infinity", "-infinity"):
        return (float(text),)
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a moment such as 2026-11-27 20:15:00")
    year = int(found[1])
    micros = int((found[7] or "").ljust(6, "0"))
    clock = (int(found[4] or 0), int(found[5] or 0), int(found[6] or 0), micros)
    return (1 - year if found[9] else year, int(found[2]), int(found[3]), *clock)


def _timestamptz(text: str) -> tuple[float, ...]:
    """As `_time`, in UTC; without a zone it is UTC already, as sessions of the feed have it."""
    found = _TIME.fullmatch(text)
    if found is None or found[8] in (None, "Z", "+00") or found[9]:
        return _time(text)
    sign = -1 if found[8][0] == "-" else 1
    hours, minutes = int(found[8][1:3]), int(found[8][-2:]) if len(found[8]) > 3 else 0
    zone = timezone(sign * timedelta(hours=hours, minutes=minutes))
    year, month, day, hour, minute, second, micros = map(int, _time(text))
    moment = datetime(year, month, day, hour, minute, second, micros, zone).astimezone(timezone.utc)  # noqa: UP017
    return (*moment.timetuple()[:6], moment.microsecond)


_PARSERS: Final[Mapping[int, Parse]] = {
    **dict.fromkeys(INTEGERS, int),
    **dict.fromkeys(TEXTS, str),
    **dict.fromkeys(TIMES, _time),
    TIMESTAMPTZ: _timestamptz,
    1700: _numeric,
    FLOAT4: _float4,
    701: _float8,
    BOOL: _bool,
    2950: uuid.UUID,
}
