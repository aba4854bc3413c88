r"""Reading JSON that holds lone surrogate escapes, which JavaScript clients may legally send (SPEC section 1).

msgspec refuses ``"\ud83d"`` without its other half, in whatever corner of the document it stands. Such a document is
read with every lone escape swapped for a harmless escape of the same length, and the swap is undone in each piece of
text taken out of it, so that `args` stay byte-exact. Documents without lone surrogates never come here.
"""

import re
from collections.abc import Callable
from typing import Final

Restore = Callable[[bytes], bytes]
"""Turns a piece of JSON text cut out of a document back into what the client sent; always returns a copy as `bytes`."""

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD])([89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""Each escape of a document in turn: a surrogate pair, a lone surrogate (groups 1 and 2), or anything else."""

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
    if not any(match[1] for match in _ESCAPE.finditer(text)):
        return None
    free = [bytes((c,)) for c in _STAND_INS if not re.search(rb"\\u%c[89a-fA-F]" % c, text)]
    if len(free) < 2:
        return None
    lower, upper = free[0], free[1]

    def swap(match: re.Match[bytes]) -> bytes:
        if not match[1]:
            return match[0]
        return b"\\u" + (lower if match[1] == b"d" else upper) + match[2]

    stand_in = re.compile(rb"\\u([%b%b])(?=[89a-fA-F])" % (lower, upper))

    def restore(piece: bytes) -> bytes:
        return stand_in.sub(lambda m: b"\\ud" if m[1] == lower else b"\\uD", bytes(piece))

    return _ESCAPE.sub(swap, text), restore
