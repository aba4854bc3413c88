"""Random transactions over tables that have all that is difficult: TOAST, keys that change, savepoints, TRUNCATE."""

from __future__ import annotations

import random
from typing import Any

import psycopg

TABLES = ("public.todos", "public.notes", "public.pairs", "public.parts", "public.whole")
SCHEMA = (
    "CREATE TABLE todos (id int PRIMARY KEY, owner text, title text, done bool DEFAULT false, n numeric, at timestamptz)",  # noqa: E501
    "CREATE TABLE notes (id bigint PRIMARY KEY, owner text, big text, small int)",
    "ALTER TABLE notes ALTER big SET STORAGE EXTERNAL",
    "CREATE TABLE pairs (a int, b text, v jsonb, PRIMARY KEY (b, a))",
    "CREATE TABLE parts (id int, region int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE parts_2 PARTITION OF parts DEFAULT",
    "CREATE TABLE whole (id int PRIMARY KEY, big text, twice int GENERATED ALWAYS AS (id * 2) STORED)",
    "ALTER TABLE whole REPLICA IDENTITY FULL",
    "ALTER TABLE whole ALTER big SET STORAGE EXTERNAL",
)
OWNERS = ("ann", "bob", "o'neil", "")


class Workload:
    """Carries out random transactions; the seed decides everything."""

    def __init__(self, seed: int, *, keys: int = 25) -> None:
        self.random = random.Random(seed)
        self._keys = keys

    def key(self) -> int:
        return self.random.randrange(self._keys)

    def big(self) -> str | None:
        return self.random.choice([None, "x", "y" * 9000, str(self.random.random()) * 600])

    def statement(self) -> tuple[str, tuple[Any, ...]]:
        key, other, owner = self.key(), self.key(), self.random.choice(OWNERS)
        if self.random.random() < 0.02:
            return f"TRUNCATE {self.random.choice(['todos', 'notes', 'pairs', 'parts', 'todos, whole'])}", ()
        return self.random.choice(
            [
                ("INSERT INTO todos VALUES (%s, %s, %s, %s, %s, now()) ON CONFLICT (id) DO UPDATE SET title = excluded.title, owner = excluded.owner",  # noqa: E501
                 (key, owner, f"t{self.random.random()}", self.random.random() < 0.5, self.random.random())),
                ("UPDATE todos SET done = NOT done, owner = %s WHERE id %% 3 = %s", (owner, key % 3)),
                ("UPDATE todos SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM todos WHERE id = %s)", (other, key, other)),  # noqa: E501
                ("DELETE FROM todos WHERE id = %s", (key,)),
                ("INSERT INTO notes VALUES (%s, %s, %s, 1) ON CONFLICT (id) DO UPDATE SET big = excluded.big", (key, owner, self.big())),  # noqa: E501
                ("UPDATE notes SET small = small + 1 WHERE id %% 4 = %s", (key % 4,)),
                ("UPDATE notes SET owner = %s WHERE id = %s", (owner, key)),
                ("UPDATE notes SET id = id + 1000, small = 0 WHERE id = %s", (key,)),
                ("DELETE FROM notes WHERE id = %s OR id > 1500", (key,)),
                ("INSERT INTO pairs VALUES (%s, %s, %s) ON CONFLICT (b, a) DO UPDATE SET v = excluded.v",
                 (key % 5, str(other % 5), f'{{"k": {key}}}')),
                ("UPDATE pairs SET a = a + 10 WHERE a = %s AND b = %s", (key % 5, str(other % 5))),
                ("DELETE FROM pairs WHERE a > 20", ()),
                ("INSERT INTO parts VALUES (%s, %s, 'p') ON CONFLICT DO NOTHING", (key, 1 + key % 3)),
                ("UPDATE parts SET region = 1 + %s, v = v || '.' WHERE id = %s AND NOT EXISTS (SELECT FROM parts p WHERE p.region = 1 + %s AND p.id = parts.id)",  # noqa: E501
                 (other % 3, key, other % 3)),
                ("INSERT INTO whole VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET big = excluded.big", (key, self.big())),  # noqa: E501
                ("UPDATE whole SET id = id + 100 WHERE id = %s AND NOT EXISTS (SELECT FROM whole w WHERE w.id = whole.id + 100)", (key,)),  # noqa: E501
                ("UPDATE whole SET id = id WHERE id = %s", (key,)),
                ("DELETE FROM whole WHERE id = %s OR id > 300", (key,)),
            ]
        )  # fmt: skip

    def transaction(self, connection: psycopg.Connection[Any]) -> None:
        """One transaction, with savepoints of which some are rolled back; a tenth of all is."""
        connection.execute("BEGIN")
        for number in range(self.random.randint(1, 6)):
            statement, parameters = self.statement()
            inner = self.random.random() < 0.4
            if inner:
                connection.execute(f"SAVEPOINT s{number}".encode())
            connection.execute(statement.encode(), parameters)
            if inner and self.random.random() < 0.5:
                connection.execute(f"ROLLBACK TO s{number}".encode())
        connection.execute("ROLLBACK" if self.random.random() < 0.1 else "COMMIT")

    def attempt(self, connection: psycopg.Connection[Any]) -> None:
        """One transaction, which the others may have made impossible: a row was moved to another partition, say."""
        try:
            self.transaction(connection)
        except (
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
            psycopg.errors.UniqueViolation,
        ):
            connection.execute("ROLLBACK")
