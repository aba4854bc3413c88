"""A bot in a LiveStore app: whoever writes the todo `/time` gets another one that tells the time.

    python examples/python/bot.py ws://127.0.0.1:8000 team-7

It looks at what remains to be done, not at what happens: a todo that nobody has completed is answered, also when the
bot was away meanwhile. Answer and completion are one commit, so that a bot that is killed answers once.
"""

import sys
from datetime import UTC, datetime

import trio
from todos import TodoCompleted, TodoCreated, schema

from livesync_trio.livestore import open_store

ASKED = "SELECT id FROM todos WHERE text = '/time' AND NOT completed"


async def main(url, store_id, file="bot.db"):
    async with open_store(file, schema, store_id=store_id, url=url) as store:
        async for rows in store.watch(ASKED):
            for row in rows:
                now = datetime.now(UTC)
                store.commit(TodoCompleted(row["id"]), TodoCreated(f"{row['id']}-answer", f"It is {now:%H:%M} UTC"))


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
