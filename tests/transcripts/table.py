"""The verdict on every transcript: one row each, with the reason where we answer otherwise than recorded.

* ``same``: the server has to answer as recorded, within equivalence.py.
* ``better``: the recording shows a defect, or something we decided differently. The row says why, and what we answer
  instead; that is asserted, and the rest of the transcript as recorded.
* ``client_only``: the recording is about the client (a proxy cut or silenced the line, or the client refused by
  itself). What the server said in it is replayed all the same; ``why`` says what is not.

A difference that a row does not name fails its test (the shared ones are script.DEVIATIONS). The rows: table_*.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .changes import Change


@dataclass(frozen=True)
class Row:
    """What is to become of one transcript."""

    verdict: Literal["same", "better", "client-only"]
    why: str = ""
    changes: tuple[Change, ...] = ()
    deviations: frozenset[str] = frozenset()


def same(*preparation: Change) -> Row:
    """As recorded; ``preparation`` supplies what happened before the recording began."""
    return Row("same", changes=preparation)


def better(why: str, *changes: Change | Iterable[Change], deviations: Iterable[str] = ()) -> Row:
    """Not as recorded; ``changes`` (in this order) or ``deviations`` say what we answer instead."""
    return Row("better", why, _flat(changes), frozenset(deviations))


def client_only(why: str, *changes: Change | Iterable[Change], deviations: Iterable[str] = ()) -> Row:
    """About the client; ``why`` says what of it the replay leaves out."""
    return Row("client-only", why, _flat(changes), frozenset(deviations))


def _flat(changes: Iterable[Change | Iterable[Change]]) -> tuple[Change, ...]:
    return tuple(one for item in changes for one in ([item] if isinstance(item, Change) else item))
