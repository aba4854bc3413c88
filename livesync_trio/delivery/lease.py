"""Which of several servers on one database delivers: the one that holds a record and renews it.

Owns that record. Nobody's calendar matters: who wants the lease takes it when the record has stayed the same for a time
that it measures itself, and who holds it stops by itself when it could not renew it for as long. So there is never more
than one, and when it dies another follows within seconds.
"""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import trio

from livesync_trio.delivery.limits import WEBHOOK_LEASE_RENEW_S, WEBHOOK_LEASE_S
from livesync_trio.errors import StorageUnavailable
from livesync_trio.storage.base import NO_RECORD, Record
from livesync_trio.store.records import Moved, Records
from livesync_trio.supervision import open_tasks

KIND = "lease"


class Lease:
    """The right to do something that one server does for all."""

    def __init__(self, records: Records, name: str) -> None:
        """Nothing is asked for before `run`."""
        self._records = records
        self._name = name
        self._value = msgspec.json.encode({"holder": secrets.token_hex(8)})
        self._version = NO_RECORD
        self.held = False
        """Whether this server has it now."""

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work whenever this server holds the lease; return when the work returns, having given the lease up.

        The work is cancelled when the lease is lost, and begun anew when it is won again. Raises what the work raises.
        """
        done = False
        while not done:
            renewed_s = await self._won()
            with trio.CancelScope(deadline=renewed_s + WEBHOOK_LEASE_S) as term:
                self.held = True
                try:
                    async with open_tasks(f"lease of {self._name}") as tasks:
                        tasks.start(self._renew, term)
                        await work()
                        done = True
                        tasks.cancel()
                    if tasks.crash is not None:
                        raise tasks.crash
                finally:
                    self.held = False
        with suppress(Moved, StorageUnavailable):  # then it ends by itself
            await self._records.put(KIND, self._name, None, self._version)

    async def _won(self) -> float:
        """Wait for the lease; gives the moment from which it counts."""
        seen, since_s = NO_RECORD, trio.current_time()
        while True:
            asked_s = trio.current_time()
            try:
                found = await self._records.get(KIND, self._name)
                version = NO_RECORD if found is None else found.version
                if version != seen:
                    seen, since_s = version, trio.current_time()
                if found is None or self._is_ours(found) or trio.current_time() - since_s >= WEBHOOK_LEASE_S:
                    asked_s = trio.current_time()
                    self._version = await self._records.put(KIND, self._name, self._value, version)
                    return asked_s
            except (Moved, StorageUnavailable):
                pass
            await trio.sleep(WEBHOOK_LEASE_RENEW_S)

    async def _renew(self, term: trio.CancelScope) -> None:
        while True:
            await trio.sleep(WEBHOOK_LEASE_RENEW_S)
            asked_s = trio.current_time()
            try:
                self._version = await self._records.put(KIND, self._name, self._value, self._version)
            except StorageUnavailable:
                if await self._was_renewed():
                    term.deadline = asked_s + WEBHOOK_LEASE_S
            except Moved as moved:
                if moved.found is None or not self._is_ours(moved.found):
                    term.cancel()
                    return
                self._version = moved.found.version
            else:
                term.deadline = asked_s + WEBHOOK_LEASE_S

    async def _was_renewed(self) -> bool:
        """Whether a renewal with an unclear outcome took place; while nobody can tell, the term runs out."""
        before = self._version
        with suppress(StorageUnavailable):
            found = await self._records.get(KIND, self._name)
            if found is not None and self._is_ours(found):
                self._version = found.version
        return self._version != before

    def _is_ours(self, found: Record) -> bool:
        return found.value == self._value
