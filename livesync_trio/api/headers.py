"""Headers of the HTTP API: positions as entity tags and event ids, and what a request accepts (RFC 9110).

A position is one text, `17.identity`. The identity is percent-encoded, so that the text fits into a header; without it,
it is that of whichever log is there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote

from livesync_trio.limits import SEQ_NUM_MAX
from livesync_trio.model import BackendId, Cursor

_POSITION: Final = re.compile(r"([0-9]{1,16})(?:\.([A-Za-z0-9._~%-]+))?", re.ASCII)
_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


def position(cursor: Cursor) -> str:
    """A position as text."""
    identity = quote(cursor.backend_id or "", safe="")
    return f"{cursor.seq_num}.{identity}" if identity else str(cursor.seq_num)


def cursor_of(text: str) -> Cursor | None:
    """The position that a text names; None when it names none."""
    found = _POSITION.fullmatch(text)
    if found is None or int(found[1]) > SEQ_NUM_MAX:
        return None
    return Cursor(int(found[1]), BackendId(unquote(found[2])) if found[2] else None)


def etag(cursor: Cursor) -> str:
    """The entity tag of a store at a position."""
    return f'"{position(cursor)}"'


def tags_in(header: str) -> Iterator[str]:
    """What stands between the quotes of a list of entity tags (RFC 9110, 8.8.3)."""
    return (found[1] for found in _TAG.finditer(header))


def chosen(accept: str, offered: Sequence[str]) -> str | None:
    """The media type that a client likes best; the first of equals.

    Args:
        accept: the header; empty for anything.
        offered: what there is, in the server's order.

    Returns:
        One of `offered`; None when the client accepts none of them.
    """
    if not accept.strip():
        return offered[0]
    weights = _weights(accept)
    best, best_weight = None, 0.0
    for media in offered:
        kind = media.partition("/")[0]
        weight = next((weights[key] for key in (media, f"{kind}/*", "*/*") if key in weights), 0.0)
        if weight > best_weight:
            best, best_weight = media, weight
    return best


def takes_gzip(headers: Mapping[str, str]) -> bool:
    """Whether an answer may be compressed."""
    weights = _weights(headers.get("accept-encoding", ""))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weights(header: str) -> dict[str, float]:
    """What a header accepts, with its weight; what cannot be read counts nothing."""
    weights: dict[str, float] = {}
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = 0.0
    return weights
