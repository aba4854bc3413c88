"""Tables at a terminal: names give way, numbers and times never break; in a pipe nothing is shortened."""

import re
import sys

import pytest

from livesync_trio.cli import printing
from livesync_trio.wording import count

ID = "6f1c2f0e-6a0e-4c43-9d0f-0d7a9a5f7b0e-workspace-7"
COLUMNS = ("store", "events#", "last push!", "args…", "because_")
ROWS = [
    (ID, 1_234_567, "2026-11-20 12:00", '{"a":"' + "x" * 200 + '"}', "somebody pushed to it " * 4),
    ("notes", 1, None, "", ""),
]


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int | None) -> list[str]:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: width is not None)
    monkeypatch.setenv("COLUMNS", str(width))
    printing.table(COLUMNS, ROWS, empty="none")
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_it_fits_and_breaks_nothing_that_must_be_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = shown(capsys, monkeypatch, width)
    assert all(len(line) <= width for line in lines)
    assert "1,234,567" in lines[1]
    assert "2026-11-20 12:00" in lines[1]
    assert lines[1].startswith(ID if width == 200 else ID[:7])
    assert "…" in lines[1]
    folded = [word for line in lines for word in line.split() if word in ["somebody", "pushed", "to", "it"]]
    assert len(folded) == 16


def test_a_pipe_gets_everything_and_no_spaces_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, monkeypatch, None)
    assert len(lines) == 3
    assert ID in lines[1]
    assert "x" * 200 in lines[1]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("name", "limit", "seen"),
    [("notes", 12, "notes"), ("a" * 12, 12, "a" * 12), ("abcdefghijklmnop", 12, "abcdefg…mnop")],
)
def test_names_keep_both_ends(name: str, limit: int, seen: str) -> None:
    assert printing.elided(name, limit) == seen
    assert len(printing.elided(name, limit)) <= limit


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (11_520, "3 h 12 min"), (90_000, "1 d 1 h")]
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert printing.duration(seconds) == words


def test_counts_and_members_in_words() -> None:
    assert (count(1, "store"), count(2_000, "event")) == ("1 store", "2,000 events")
    assert printing.words("loopBlockedSeconds") == "loop blocked seconds"
