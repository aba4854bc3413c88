"""JSON nested deeply, and how deep this interpreter can read."""

from __future__ import annotations

import msgspec


def nested(depth: int, kind: str = "arrays") -> str:
    """JSON nested so deeply."""
    return "[" * depth + "]" * depth if kind == "arrays" else '{"a":' * depth + "1" + "}" * depth


def depths_near_the_border(step: int) -> range:
    """Depths around the deepest that can be read; the server's own stack takes some dozen levels of them."""
    low, high = 1, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            msgspec.json.decode(nested(middle), type=msgspec.Raw)
        except RecursionError:
            high = middle
        else:
            low = middle
    return range(high - 100, high + 40, step)
