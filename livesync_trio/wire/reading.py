r"""Reading JSON text into typed structures with msgspec, the two ways round its limits included.

Owns `read`, through which every byte from a peer passes, and `Unreadable`, its only error. Knows nothing of LiveStore.

JavaScript clients may legally send lone surrogate escapes (SPEC section 1). msgspec refuses ``"\ud83d"`` without its
other half, in whatever corner of the document it stands. Such a document is read with every surrogate escape swapped
for a harmless escape of the same length, and the swap is undone in each piece of text taken out of it, so that `args`
stay byte-exact. Documents without lone surrogates never come there. Everything is done by `bytes.replace`: a hostile
frame of 32 MiB may be full of escapes, and nobody is served while it is read. Telling halves from pairs, and swapping
the halves only, took regular expressions and fifty times as long.
"""

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

Restore = Callable[[bytes], bytes]
"""Turns a piece of JSON text cut out of a document back into what the client sent; always returns a copy as `bytes`."""


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


_ESCAPED_BACKSLASH: Final = rb"\\"
_NO_BACKSLASH: Final = b"\0\0"
"""Stands for an escaped backslash while the other escapes are looked for; U+0000 is never part of a JSON text."""

_LOWER: Final = rb"\ud"
_UPPER: Final = rb"\uD"
"""How the escape of a surrogate begins (and those of U+D000 to U+D7FF, which are swapped along)."""

_STAND_INS: Final = tuple(rb"\u%c" % character for character in b"0123456789abcefABCEF")
"""Beginnings of escapes that may stand for these two, where the document does not use them itself."""


def mask(text: bytes) -> tuple[bytes, Restore] | None:
    """Swap surrogate escapes for stand-ins of the same length.

    Args:
        text: a JSON document that msgspec refused.

    Returns:
        The masked document and the function that undoes the swap in any piece of it; None when there is no surrogate,
        or (only in a document made to defeat this) no stand-in is free.
    """
    if _NO_BACKSLASH[:1] in text:
        return None
    bare = text.replace(_ESCAPED_BACKSLASH, _NO_BACKSLASH)
    if _LOWER not in bare and _UPPER not in bare:
        return None
    free = (stand_in for stand_in in _STAND_INS if stand_in not in text)
    lower, upper = next(free, None), next(free, None)
    if lower is None or upper is None:
        return None
    masked = bare.replace(_LOWER, lower).replace(_UPPER, upper)

    def restore(piece: bytes) -> bytes:
        return bytes(piece).replace(lower, _LOWER).replace(upper, _UPPER)

    return masked.replace(_NO_BACKSLASH, _ESCAPED_BACKSLASH), restore
