"""How operators get in, on a database in memory and by a clock that tests turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from livesync_trio.audit import Audit
from livesync_trio.config import Secret
from livesync_trio.operators.entrance import Entrance, SignedIn, Visitor
from livesync_trio.operators.roles import Operator, Role
from livesync_trio.storage import base
from livesync_trio.storage.memory import MemoryEngine
from livesync_trio.store.readers import ThreadReaders

PASSWORD = Secret("a long way home")
WRONG_PASSWORD = Secret("another long way")
LIFETIME_S = 3600.0
HERE = Visitor("192.0.2.1:1000", "a browser")


class Direct:
    """Writes at once."""

    def __init__(self, engine: base.Engine) -> None:
        self._writer = engine.writer()

    async def commit(self, write: base.Write) -> base.Outcome:
        (outcome,) = self._writer.commit([write])
        assert not isinstance(outcome, Exception), outcome
        return outcome


class Desk:
    """An entrance, and what was recorded. Several on one engine are several servers."""

    def __init__(self, directory: Path, engine: base.Engine | None = None) -> None:
        self.engine = engine or MemoryEngine()
        self.at_s = 1_800_000_000.0
        self._path = directory / "audit.jsonl"
        self._audit = Audit(str(self._path))
        readers = ThreadReaders(self.engine.reader, 1)
        self.entrance = Entrance(Direct(self.engine), readers, self._audit, lambda: self.at_s)

    async def operator(self, email: str = "ann@example.org", role: Role = Role.OWNER) -> Operator:
        return await self.entrance.operators.create(email, PASSWORD, role)

    async def sign_in(self, email: str = "ann@example.org", password: Secret = PASSWORD, at: Visitor = HERE) -> Any:
        return await self.entrance.sign_in(email, password, at, LIFETIME_S)

    async def signed_in(self, email: str = "ann@example.org", at: Visitor = HERE) -> SignedIn:
        answer = await self.sign_in(email, at=at)
        assert isinstance(answer, SignedIn), answer
        return answer

    def records(self) -> list[dict[str, Any]]:
        """Every line of the audit log; closes it."""
        self._audit.close()
        return [msgspec.json.decode(line) for line in self._path.read_bytes().splitlines()]
