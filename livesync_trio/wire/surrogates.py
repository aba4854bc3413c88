r"""Reading JSON that holds lone surrogate escapes, which JavaScript clients may legally send (SPEC section 1).

msgspec refuses ``"\ud83d"`` without its other half, in whatever corner of the document it stands. Such a document is
read with every surrogate escape swapped for a harmless escape of the same length, and the swap is undone in each piece
of text taken out of it, so that `args` stay byte-exact. Documents without lone surrogates never come here.

Everything is done by `bytes.replace`: a hostile frame of 32 MiB may be full of escapes, and nobody is served while it
is read. Telling halves from pairs, and swapping the halves only, took regular expressions and fifty times as long.
"""

from collections.abc import Callable
from typing import Final

Restore = Callable[[bytes], bytes]
"""Turns a piece of JSON text cut out of a document back into what the client sent; always returns a copy as `bytes`."""

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
