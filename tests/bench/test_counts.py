"""What a push and a delivery are made of stays below what was counted last; and the counting itself is right."""

import sys

import pytest

from scripts.benchmark import counting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the load generator waits by epoll")


def test_a_push_and_a_delivery_take_no_more_calls_turns_and_system_calls_than_before() -> None:
    assert counting.complaints(print) == []


def test_what_is_above_its_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counting.Counts("ours", calls=300.0, turns=2.04, asked={"read": 1.0, "write": 1.5})
    monkeypatch.setattr(counting, "MOST", {"push1": (310.0, 2.0, 2.4)})
    monkeypatch.setattr(counting, "count_calls", lambda *_: [counts])
    assert counting.complaints(print) == [
        "push1: 2.04 turns per event, more than 2 (scripts/bench --count)",
        "push1: 2.50 system calls per event, more than 2.4 (scripts/bench --count)",
    ]


def test_a_table_of_strace_is_read() -> None:
    text = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.54    0.000016           0        66        12 futex
 38.46    0.000010           0        40           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000026           0       106        12 total
"""
    assert dict(counting.table_of_strace(text)) == {"futex": 66, "epoll_wait": 40}
