"""Table and recordings brought together: the script that each test replays."""

from __future__ import annotations

from . import table_0_3, table_0_4_http, table_0_4_ws, table_next
from .recording import Renaming, load
from .script import Step, settle_deviations, steps_of
from .table import Row

GENERATIONS = {
    "0.3.1": table_0_3.ROWS,
    "0.4.0": table_0_4_ws.ROWS | table_0_4_http.ROWS,
    "next-effect4": table_next.ROWS,
}
TABLE: dict[str, Row] = {
    f"{generation}/{name}": row for generation, rows in GENERATIONS.items() for name, row in rows.items()
}


def script_of(name: str, suffix: str) -> tuple[list[Step], list[Step], frozenset[str]]:
    """The steps as recorded, the steps to replay, and the shared deviations that the recording has beyond its row's
    changes.

    Args:
        name: of the transcript, ``generation/scenario``.
        suffix: for the names of its stores.
    """
    recorded = steps_of(Renaming(suffix).records(load(name)))
    steps = recorded
    for change in TABLE[name].changes:
        steps = change.edit(steps)
    return recorded, *settle_deviations(steps)
