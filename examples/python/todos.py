"""The tables, events and materializers that the other examples share; those of a LiveStore app with todos."""

import msgspec

from livesync_trio.livestore import Schema

schema = Schema("""
    CREATE TABLE todos (id TEXT PRIMARY KEY NOT NULL, text TEXT NOT NULL, completed INTEGER NOT NULL DEFAULT 0)
""")


@schema.event("v1.TodoCreated")
class TodoCreated(msgspec.Struct):
    id: str
    text: str


@schema.event("v1.TodoCompleted")
class TodoCompleted(msgspec.Struct):
    id: str


@schema.materializer(TodoCreated)
def insert_todo(event):
    return "INSERT INTO todos (id, text) VALUES (?, ?)", (event.id, event.text)


@schema.materializer(TodoCompleted)
def complete_todo(event):
    return "UPDATE todos SET completed = 1 WHERE id = ?", (event.id,)
