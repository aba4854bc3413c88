"""No gross regression: CPU time of the server per unit stays below twice the committed figure (issue 5)."""

import sys

import pytest

from scripts.benchmark import check

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="CPU time and memory of a process are read from /proc"),
]


def test_cpu_per_unit() -> None:
    assert check.complaints(print) == []
