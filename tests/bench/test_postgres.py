"""`scripts/bench --postgres` measures real servers on a real PostgreSQL, and what it prints adds up."""

import re

from scripts.benchmark import postgres


def test_it_measures_throughput_and_delivery() -> None:
    lines: list[str] = []
    postgres.measure(lines.append, seconds=0.3)
    rates = [float(rate.replace(",", "")) for line in lines for rate in re.findall(r"([\d,]+) events/s", line)]
    assert len(rates) == 2 * len(postgres.STORES)
    assert all(rate > 0 for rate in rates)
    delivery = re.search(r"p50 ([\d.]+) ms, p99 ([\d.]+) ms", lines[-1])
    assert delivery is not None
    assert 0 < float(delivery[1]) <= float(delivery[2])
