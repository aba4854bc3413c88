"""Reading JSON text into typed structures with msgspec, the two ways round its limits included.

Owns `read`, through which every byte from a peer passes, and `Unreadable`, its only error. Knows nothing of LiveStore.
"""

import json
from typing import Any, TypeVar

import msgspec

from livesync_trio.wire.surrogates import Restore, mask

T = TypeVar("T")


class Unreadable(ValueError):
    """The text is not JSON, or not of the expected shape. The message says where, in words fit for the sender."""


def read(decoder: msgspec.json.Decoder[T], text: bytes, restore: Restore = bytes) -> tuple[T, Restore]:
    """Read one JSON document.

    Args:
        decoder: msgspec decoder of the expected type. `Raw` members of the result are views of text that may be
            masked: take them out with the function returned.
        text: UTF-8 bytes.
        restore: for a `Raw` member of another document, as it stands in there: the function returned for that one.

    Returns:
        The structure, and the function to take `msgspec.Raw` members out of it byte for byte as sent.

    Raises:
        Unreadable: not JSON, not of that type, or nested too deeply.
    """
    try:
        return decoder.decode(text), restore
    except RecursionError:
        raise Unreadable("JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise Unreadable("JSON is not UTF-8") from None
    except msgspec.DecodeError as error:
        masked = mask(text)
        if masked is None:
            raise Unreadable(str(error)) from None
    try:
        return decoder.decode(masked[0]), masked[1]
    except RecursionError:
        raise Unreadable("JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(str(error)) from None


def plain(text: bytes) -> Any:
    """A JSON text as Python values, for the user's hooks; takes escapes of lone surrogates, as every string member may.

    An integer of more digits than Python reads at once becomes what it is in JavaScript: infinity.

    Raises:
        Unreadable: not JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text.decode(), parse_constant=_no_json, parse_int=_integer)
    except RecursionError:
        raise Unreadable("JSON is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(str(error)) from None


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python's guard against quadratic time
        return float(digits)


def _no_json(constant: str) -> None:
    """`NaN` and `Infinity`, which Python reads and JavaScript does not."""
    raise ValueError(f"{constant} is not JSON")
