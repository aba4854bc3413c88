"""An application for the tests: notes with tags, written with everything that makes taking back hard.

Foreign keys that cascade, triggers, generated columns, rows that replace others, a table without rowids, numbers that
SQLite chooses, a materializer that reads before it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import msgspec

from livesync_trio.livestore.events import Statement
from livesync_trio.livestore.schema import Context, Schema

TABLES = """
CREATE TABLE notes (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, size INTEGER AS (length(title)) STORED, stars REAL DEFAULT 0
);
CREATE TABLE tags (
    note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE, tag TEXT NOT NULL, PRIMARY KEY (note, tag)
) WITHOUT ROWID;
CREATE TABLE settings (key TEXT PRIMARY KEY NOT NULL, value ANY CHECK (length(value) < 40)) STRICT;
CREATE TABLE history (n INTEGER PRIMARY KEY, what TEXT);
CREATE INDEX by_stars ON notes (stars);
CREATE VIEW starred AS SELECT title FROM notes WHERE stars > 0;
CREATE TRIGGER remembered AFTER DELETE ON notes BEGIN INSERT INTO history (what) VALUES (old.title); END;
"""
READ = {
    "notes": "SELECT * FROM notes ORDER BY id",
    "tags": "SELECT * FROM tags ORDER BY note, tag",
    "settings": "SELECT * FROM settings ORDER BY key",
    "history": "SELECT * FROM history ORDER BY n",
}


class NoteWritten(msgspec.Struct):
    title: str


class NoteTagged(msgspec.Struct):
    title: str
    tag: str


class NoteStarred(msgspec.Struct):
    title: str
    stars: float = 1.5


class NoteDropped(msgspec.Struct):
    title: str


class AllDropped(msgspec.Struct):
    pass


@attrs.define
class SettingSet:
    key: str
    value: Any = None


def make_schema(*, version: str = "") -> Schema:
    schema = Schema(TABLES, version=version)
    schema.event("v1.NoteWritten")(NoteWritten)
    schema.event("v1.NoteTagged")(NoteTagged)
    schema.event("v1.NoteStarred")(NoteStarred)
    schema.event("v1.NoteDropped")(NoteDropped)
    schema.event("v1.AllDropped")(AllDropped)
    schema.event("v1.SettingSet")(SettingSet)

    @schema.materializer(NoteWritten)
    def write(event: NoteWritten) -> Statement:
        return "INSERT OR REPLACE INTO notes (title) VALUES (?)", (event.title,)

    @schema.materializer(NoteTagged)
    def tag(event: NoteTagged, context: Context) -> Iterator[Statement]:
        for row in context.query("SELECT id FROM notes WHERE title = ?", (event.title,)):
            yield "INSERT INTO tags VALUES (?, ?) ON CONFLICT DO NOTHING", (row["id"], event.tag)

    @schema.materializer(NoteStarred)
    def star(event: NoteStarred) -> Statement:
        return "UPDATE notes SET stars = stars + :stars WHERE title = :title", {
            "title": event.title,
            "stars": event.stars,
        }

    @schema.materializer(NoteDropped)
    def drop(event: NoteDropped) -> list[Statement]:
        return [("DELETE FROM notes WHERE title = ?", (event.title,))]

    @schema.materializer(AllDropped)
    def drop_all(_: AllDropped) -> Statement:
        return "DELETE FROM notes"

    @schema.materializer(SettingSet)
    def set_setting(event: SettingSet, context: Context) -> Iterator[Statement]:
        bindings = (event.key, f"{event.value} {context.client_id}")
        yield "INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", bindings

    return schema
