r"""Reading JSON that holds lone surrogate escapes, which JavaScript clients may legally send (SPEC section 1).

msgspec refuses ``"\ud83d"`` without its other half, in whatever corner of the document it stands. Such a document is
read with every lone escape swapped for a harmless escape of the same length, and the swap is undone in each piece of
text taken out of it, so that `args` stay byte-exact. Documents without lone surrogates never come here.

Everything is done by substitutions without a Python function per match: a hostile frame of 32 MiB may be full of
escapes, and nobody is served while it is read.
"""

import re
from collections.abc import Callable
from typing import Final

Restore = Callable[[bytes], bytes]
"""Turns a piece of JSON text cut out of a document back into what the client sent; always returns a copy as `bytes`."""

_ESCAPED_BACKSLASH: Final = rb"\\"
_NO_BACKSLASH: Final = b"\0\0"
"""Stands for an escaped backslash while the other escapes are looked for; U+0000 is never part of a JSON text."""

_LONE: Final = (
    rb"\\u%c(?=[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u%c)[c-fC-F][0-9a-fA-F]{2})"
)
_LONE_LOWER: Final = re.compile(_LONE % (ord("d"), ord("d")))
_LONE_UPPER: Final = re.compile(_LONE % (ord("D"), ord("D")))
"""Up to its `d` or `D`, the escape of a high surrogate without a low one behind it, or of a low one without a high one
before it; where no escaped backslash can be taken for the beginning of an escape."""

_STAND_INS: Final = b"0123456789abcefABCEF"
"""Characters that may stand for the `d` or `D` of a surrogate, where the document does not use them so itself."""


def mask(text: bytes) -> tuple[bytes, Restore] | None:
    """Swap lone surrogate escapes for stand-ins of the same length.

    Args:
        text: a JSON document that msgspec refused.

    Returns:
        The masked document and the function that undoes the swap in any piece of it; None when there is no lone
        surrogate, or (only in a document made to defeat this) no stand-in is free.
    """
    if _NO_BACKSLASH[:1] in text:
        return None
    bare = text.replace(_ESCAPED_BACKSLASH, _NO_BACKSLASH)
    if not (_LONE_LOWER.search(bare) or _LONE_UPPER.search(bare)):
        return None
    free = (bytes((c,)) for c in _STAND_INS if not re.search(rb"\\u%c[89a-fA-F]" % c, text))
    lower, upper = next(free, None), next(free, None)
    if lower is None or upper is None:
        return None
    masked = _LONE_UPPER.sub(rb"\\u" + upper, _LONE_LOWER.sub(rb"\\u" + lower, bare))
    is_lower, is_upper = (re.compile(rb"\\u%b(?=[89a-fA-F])" % stand_in) for stand_in in (lower, upper))

    def restore(piece: bytes) -> bytes:
        return is_upper.sub(rb"\\uD", is_lower.sub(rb"\\ud", bytes(piece)))

    return masked.replace(_NO_BACKSLASH, _ESCAPED_BACKSLASH), restore
