"""Runs a range of seeds in one process: `python -m tests.simulation FIRST COUNT [stop] [stores]`. Used by
`scripts/torture simulate`.

Prints one JSON object a failure, and one with totals at the end and after every thousand seeds. `stop`: after the
first. `stores`: with Python stores in each.
"""

from __future__ import annotations

import json
import sys
import traceback

from tests.simulation.run import simulate


def main(first: int, count: int, *, stop: bool, stores: bool) -> int:
    """Run the seeds; exit code 1 when one failed."""
    events = acknowledged = resets = failed = 0
    for done, seed in enumerate(range(first, first + count), 1):
        try:
            outcome = simulate(seed, stores=stores)
        except Exception as failure:
            failed += 1
            where = "" if isinstance(failure, AssertionError) else traceback.format_exc()
            print(
                json.dumps({"seed": seed, "failure": f"{type(failure).__name__}: {failure}", "where": where}),
                flush=True,
            )
        else:
            events += outcome.events
            acknowledged += outcome.acknowledged
            resets += outcome.resets
        if stop and failed:
            break
        if done % 1000 == 0 or done == count:
            totals = {"seeds": done, "failed": failed, "events": events, "acknowledged": acknowledged, "resets": resets}
            print(json.dumps(totals), flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    first, count, *words = sys.argv[1:]
    raise SystemExit(main(int(first), int(count), stop="stop" in words, stores="stores" in words))
