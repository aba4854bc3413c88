"""The recordings as they lie in ``data/``: reading them, and giving their stores fresh names."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
_STORE_IN_URL = re.compile(r"(?<=[?&])storeId=([^&]+)")
_STORE_IN_JSON = re.compile(r'("storeId":"[^"\\]+|\\"storeId\\":\\"[^"\\]+)')


@dataclass(frozen=True)
class Record:
    """One line of a transcript. What a field means: README.md; fields that a kind does not have are empty."""

    line: int
    direction: str
    kind: str
    conn: int
    data: str
    method: str = ""
    path: str = ""
    status: int = 0
    code: int = 0
    headers: tuple[tuple[str, str], ...] = ()


def names() -> list[str]:
    """All transcripts as ``generation/scenario``, sorted; the file suffix is not part of the name."""
    return sorted(
        f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.jsonl')}" for path in DATA.glob("*/*.jsonl*")
    )


def load(name: str) -> list[Record]:
    """The records of one transcript, in recorded order."""
    plain = DATA / f"{name}.jsonl"
    text = (
        plain.read_text("utf-8")
        if plain.exists()
        else gzip.decompress(Path(f"{plain}.gz").read_bytes()).decode("utf-8")
    )
    return [_record(number, json.loads(line)) for number, line in enumerate(text.split("\n"), 1) if line]


def _record(number: int, fields: dict[str, Any]) -> Record:
    headers = tuple((key.lower(), value) for key, value in fields.get("headers", {}).items())
    return Record(
        line=number,
        direction=fields["dir"],
        kind=fields["kind"],
        conn=fields.get("conn", 0),
        data=fields.get("data") or "",
        method=fields.get("method", ""),
        path=fields.get("path", ""),
        status=fields.get("status", 0),
        code=fields.get("code") or 0,
        headers=headers,
    )


def store_in_url(path: str) -> str:
    """The (first) store id of a request path, still percent-encoded; empty when there is none."""
    found = _STORE_IN_URL.search(path)
    return found.group(1) if found else ""


@dataclass(frozen=True)
class Renaming:
    """Appends one suffix to every store id, in URL, header and payload alike, so that each run meets empty stores.

    A suffix, because some hooks go by the beginning of the name and because ids that differ in one character must go
    on differing in just that character. It is made of characters that no encoding touches.
    """

    suffix: str

    def records(self, records: list[Record]) -> list[Record]:
        """The same recording with its stores renamed, also where the server quotes a name (a hook may have echoed
        it)."""
        return [record if record.direction == "note" else self._record(record) for record in records]

    def path(self, path: str) -> str:
        return _STORE_IN_URL.sub(lambda found: f"storeId={found.group(1)}{self.suffix}", path)

    def text(self, text: str) -> str:
        return _STORE_IN_JSON.sub(lambda found: f"{found.group(1)}{self.suffix}", text)

    def _record(self, record: Record) -> Record:
        binary = record.kind == "ws-binary"
        text = self.text(base64.b64decode(record.data).decode() if binary else record.data)
        return replace(
            record,
            data=base64.b64encode(text.encode()).decode() if binary else text,
            path=self.path(record.path),
            headers=tuple(
                (key, value + self.suffix if key == "x-livestore-store-id" else value) for key, value in record.headers
            ),
        )
