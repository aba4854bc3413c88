"""Logs as hypothesis makes them, and databases that hold them."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from livesync_trio.archive.entries import Entry
from livesync_trio.archive.staging import Target, adopt, stage
from livesync_trio.model import BackendId, LogState, StoreId
from livesync_trio.storage.base import Engine
from livesync_trio.storage.sqlite.engine import SqliteEngine

_numbers = st.sampled_from(["-0", "1.0", "1e400", "0.1e-7", "123456789012345678901234567890", "-9007199254740993"])
_strings = st.sampled_from(
    [
        '"\\ud83d"',
        '"\\udc00\\ud83d"',
        '"\\u0000"',
        '"ö\u2028"',
        '"a\\nb"',
        '"\\\\ud83d"',
        '""',
        '"\\/"',
        '"\\ud83d\\ude00"',
    ]
)
_scalars = st.one_of(_numbers, _strings, st.sampled_from(["null", "true", "false"]))
_space = st.sampled_from(["", "", "", " ", "\n", "\r\n", "\t"])


def _array(parts: list[str], space: str) -> str:
    return f"[{space}{f',{space}'.join(parts)}]"


def _object(parts: list[tuple[str, str]], space: str) -> str:
    return f"{{{space}{f',{space}'.join(f'{key}:{space}{value}' for key, value in parts)}}}"


arguments = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.builds(_array, st.lists(inner, max_size=3), _space),
        # Keys may come twice: JSON allows it.
        st.builds(_object, st.lists(st.tuples(_strings, inner), max_size=3), _space),
    ),
    max_leaves=6,
)
"""JSON texts that Python's or msgspec's own reading and writing would not keep."""

store_ids = st.one_of(
    st.sampled_from(["a-b", "a_b", "A-B", "ö", "o\u0308", "x" * 300, "end", "../x", "a\nb", '"']),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12),
)
_texts = st.one_of(_strings, st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(json.dumps))
_users = st.one_of(st.none(), st.sampled_from(["ann", "bö\0b", ""]))
_moments = st.integers(0, 999).map(lambda n: f"2026-11-20T12:34:56.{n:03d}Z")


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """A log of up to eight events, with gaps between their numbers."""
    entries, head = [], 0
    for step in draw(st.lists(st.sampled_from([1, 1, 2, 2**40]), max_size=8)):
        parts: dict[str, Any] = {key: draw(_texts) for key in ("name", "client", "session")}
        text = (
            f'{{"name":{parts["name"]},"args":{draw(arguments)},"seqNum":{head + step},"parentSeqNum":{head},'
            f'"clientId":{parts["client"]},"sessionId":{parts["session"]}}}'
        )
        append_id = draw(st.one_of(st.none(), st.sampled_from(["ö,{}", "\U0001f600", ""]).map(f"{head} {{}}".format)))
        entries.append(Entry(head + step, head, text.encode(), draw(_moments), draw(_users), append_id))
        head += step
    return entries


def plain_log(events: int, first: int = 1) -> list[Entry]:
    """A log of ordinary events."""
    return [
        Entry(
            number,
            number - 1,
            b'{"name":"todoAdded","args":{"n":%d},"seqNum":%d,"parentSeqNum":%d,"clientId":"c","sessionId":"s"}'
            % (number, number, number - 1),
            f"2026-11-20T12:{number // 60_000 % 60:02d}:{number // 1_000 % 60:02d}.{number % 1_000:03d}Z",
        )
        for number in range(first, first + events)
    ]


class Opened:
    """A database that logs come into; a context manager."""

    def __init__(self, engine: Engine | Path) -> None:
        self.engine = SqliteEngine(engine) if isinstance(engine, Path) else engine

    def __enter__(self) -> Target:
        self.engine.open()
        self.writer, self.reader = self.engine.writer(), self.engine.reader()
        return Target(self.writer, self.reader)

    def __exit__(self, *_: object) -> None:
        self.reader.close()
        self.writer.close()
        self.engine.close()


def put(target: Target, store: str, entries: list[Entry], backend_id: str = "identity") -> LogState:
    """A store with these events and this identity."""
    staged = stage(target, StoreId(store), lambda: iter(entries))
    return adopt(target, StoreId(store), staged, BackendId(backend_id), None)
