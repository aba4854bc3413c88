"""What is asked of every plain HTTP answer, and how a failure is told."""

from __future__ import annotations

import re

from .ledger import shorten
from .script import Exchange, Open, Send, Step

SHORT_REASON_CHARS = 300


class Failed(AssertionError):
    """The server answered something else than expected, or not at all."""


def check_cors(step: Exchange, headers: dict[str, str]) -> None:
    """Every answer can be read by a browser, and a preflight allows what it was asked for (SPEC 3.1)."""
    allowed = headers.get("access-control-allow-headers", "")
    wanted = dict(step.headers).get("access-control-request-headers", "").split(",")
    if not headers.get("access-control-allow-origin"):
        raise Failed(f"no CORS headers: {headers}")
    if step.method == "OPTIONS" and allowed != "*" and not all(one.strip() in allowed for one in wanted):
        raise Failed(f"the preflight does not allow {wanted}: {headers}")
    if step.method == "OPTIONS" and "POST" not in headers.get("access-control-allow-methods", ""):
        raise Failed(f"the preflight does not allow POST: {headers}")


def check_reason(status: int, body: str) -> None:
    """A plain answer says something, is short, and carries no trace of our insides."""
    if not body or len(body) > SHORT_REASON_CHARS or re.search(r"Traceback|File \"|\n\s+at ", body):
        raise Failed(f"{status} says too little or too much: {shorten(body)!r}")


def described(step: Step) -> str:
    """A step in a failure report."""
    match step:
        case Send():
            return f"sending frame {step.nth} on connection {step.conn}: {shorten(str(step.data), 200)}"
        case Open():
            return f"opening connection {step.conn}: {step.path}"
        case Exchange():
            return f"HTTP request {step.conn}: {step.method} {step.path} {shorten(step.body, 200)}"
        case _:
            return shorten(repr(step), 200)
