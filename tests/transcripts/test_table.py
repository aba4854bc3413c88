"""The table itself: complete, and nothing in it passes a difference in silence."""

from __future__ import annotations

import pytest

from .cases import GENERATIONS, TABLE, script_of
from .recording import names
from .script import DEVIATIONS, Expect


def test_every_transcript_has_its_row_and_every_row_its_transcript() -> None:
    assert sorted(TABLE) == names()
    assert {name.split("/")[0] for name in names()} == set(GENERATIONS)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_says_what_it_needs_to(name: str) -> None:
    row = TABLE[name]
    if row.verdict == "same":
        assert not row.why
        assert not row.deviations
        assert all(change.prepares for change in row.changes)
    else:
        assert len(row.why) > 20
    if row.verdict == "better":
        assert row.deviations or any(not change.prepares for change in row.changes)
    assert row.deviations <= DEVIATIONS.keys()


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_deviations_of_a_recording_are_those_its_row_names(name: str) -> None:
    _, script, deviations = script_of(name, "~test")
    assert deviations == TABLE[name].deviations
    dead = [
        step
        for step in script
        if isinstance(step, Expect) and (step.frame["_tag"] == "Defect" or '"Die"' in repr(step.frame))
    ]
    assert not dead, "a Defect or Die kills requests of the client and is never expected of us"
