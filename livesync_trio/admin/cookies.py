"""The cookie of a session: its name, what browsers are told about it, and how it is read."""

from collections.abc import Iterator, Mapping
from typing import Final

PLAIN: Final = "livesync_session"
HOST: Final = "__Host-livesync_session"
"""Behind TLS. No page of a neighbouring name can set it, since browsers take it for this very host only."""


def set_cookie(value: str, lifetime_s: float, *, secure: bool) -> tuple[str, str]:
    """The header that gives a browser its session."""
    return "set-cookie", f"{_name(secure)}={value}; Max-Age={int(lifetime_s)}; {_attributes(secure)}"


def clear_cookie(*, secure: bool) -> tuple[str, str]:
    """The header that takes it away."""
    return "set-cookie", f"{_name(secure)}=; Max-Age=0; {_attributes(secure)}"


def session_cookie(headers: Mapping[str, str], *, secure: bool) -> str | None:
    """The value that came with a request; None: there is none that can be believed.

    The name that a neighbour cannot set goes first. The plain one is not read behind TLS, nor when it comes twice: then
    somebody else set one of them.
    """
    for name in (HOST,) if secure else (HOST, PLAIN):
        found = [value for given, value in _pairs(headers.get("cookie", "")) if given == name]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _name(secure: bool) -> str:
    return HOST if secure else PLAIN


def _attributes(secure: bool) -> str:
    return f"Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


def _pairs(header: str) -> Iterator[tuple[str, str]]:
    # Several headers of this name were joined by a comma, which no value of ours has.
    for part in header.replace(",", ";").split(";"):
        name, _, value = part.strip().partition("=")
        yield name, value
