"""Which media type and which coding an answer has, by what a request accepts (RFC 9110, 12.5)."""

from collections.abc import Mapping, Sequence


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
