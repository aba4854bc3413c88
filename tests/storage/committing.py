"""A process that commits for ever and says what it was told is durable; the test kills it.

    python -m tests.storage.committing DATABASE STORES

Each line is what the engine acknowledged, written out whole before the next commit begins:
`STORE LOG_ID HEAD BACKEND_ID`.
"""

import os
import random
import sys

from livesync_trio.model import LogState
from livesync_trio.storage.base import Appended
from livesync_trio.storage.sqlite.engine import SqliteEngine
from tests.storage.making import append, open_store, reset, run_of


def main() -> None:
    engine = SqliteEngine(sys.argv[1])
    engine.open()
    writer = engine.writer()
    stores = [f"s{i}" for i in range(int(sys.argv[2]))]
    states: dict[str, LogState] = {}
    for store, outcome in zip(stores, writer.commit([open_store(store) for store in stores]), strict=True):
        assert isinstance(outcome, LogState), outcome
        states[store] = outcome
    while True:
        chosen = random.sample(stores, random.randint(1, len(stores)))
        replaced = random.choice(stores) if random.random() < 0.1 else None
        writes = [
            reset(store)
            if store == replaced
            else append(store, states[store], run_of(random.randint(1, 30), after=states[store].head))
            for store in chosen
        ]
        lines = []
        for store, outcome in zip(chosen, writer.commit(writes), strict=True):
            state = outcome.state if isinstance(outcome, Appended) else outcome
            assert isinstance(state, LogState), outcome
            states[store] = state
            lines.append(f"{store} {state.log_id} {state.head} {state.backend_id}\n")
        os.write(1, "".join(lines).encode())
        writer.clear_replaced(50)


if __name__ == "__main__":
    main()
