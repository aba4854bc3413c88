"""Attacks on the disk below a real server: failing calls, a full disk, power cuts. For flipped bits see `bits.py`."""

from __future__ import annotations

import errno
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from tests.simulation.leader import Leader, Violation
from tests.simulation.waiting import until
from tests.torture.audit import Auditor, StoredLog, read_logs
from tests.torture.crash import IMPATIENT
from tests.torture.disk_image import power_cuts
from tests.torture.server import ServerFailedError, ServerProcess
from tests.torture.shim import Call, Shim
from tests.torture.sockets import to_store

STORES = ("disk-a", "disk-b", "disk-c")
RECOVERY_LIMIT_S = 90.0
FAILURES = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


@attrs.define
class Work:
    """Clients at work on a server whose disk is ours."""

    server: ServerProcess
    clients: dict[str, list[Leader]]

    @classmethod
    def on(cls, directory: Path, shim: Shim, dice: random.Random, clock: Callable[[], float]) -> Work:
        """Three stores with two writers each; nothing is started."""
        server = ServerProcess(directory, shim.environment | {"LOG_LEVEL": "error"})
        clients: dict[str, list[Leader]] = {}
        for store in STORES:
            connect = to_store(lambda: server.port, store)
            clients[store] = [
                Leader(connect, store, f"{store}-{index}", dice, pace=IMPATIENT, clock=clock) for index in range(2)
            ]
        return cls(server, clients)

    @property
    def everybody(self) -> list[Leader]:
        return [leader for leaders in self.clients.values() for leader in leaders]

    @property
    def acknowledged(self) -> int:
        """Pushes acknowledged until now."""
        return sum(attempt.outcome == "ok" for leader in self.everybody for attempt in leader.attempts)

    def acknowledged_since(self, moment_s: float) -> int:
        """Pushes that were sent after a moment and acknowledged; answers to earlier ones may still be on their way."""
        attempts = (attempt for leader in self.everybody for attempt in leader.attempts)
        return sum(attempt.outcome == "ok" and attempt.sent_s > moment_s for attempt in attempts)

    async def commit(self, dice: random.Random, per_s: float, padding: int) -> None:
        """Users at work."""
        while True:
            await trio.sleep(dice.expovariate(per_s))
            leader = dice.choice(self.everybody)
            if len(leader.pending) < 40:
                leader.commit("x" * dice.randint(0, padding))

    async def more_acknowledged(self, than: int) -> None:
        """Wait until pushes are acknowledged (again). Raises Violation."""
        if not await until(lambda: self.acknowledged > than, RECOVERY_LIMIT_S):
            raise Violation(f"no push was acknowledged for {RECOVERY_LIMIT_S:g} s\n{self.server.log_tail()}")

    async def settled(self) -> None:
        """Wait until nobody has anything to push, and all of a store stand at the same head."""
        if not await until(lambda: all(map(_together, self.clients.values())), RECOVERY_LIMIT_S):
            raise Violation(
                f"not converged: {[(each.name, len(each.pending), each.log.head) for each in self.everybody]}"
            )


# --- calls that fail --------------------------------------------------------------------------------------------------


async def failing_calls(directory: Path, faults: int, dice: random.Random, say: Callable[[str], None]) -> None:
    """Let the n-th write, fsync, open or truncate fail, again and again. Raises Violation."""
    shim = Shim(directory, directory / "live.db")
    work = Work.on(directory, shim, dice, trio.current_time)
    auditor, injected = Auditor(), Counter[str]()
    try:
        await work.server.start()
        async with trio.open_nursery() as nursery:
            for leader in work.everybody:
                nursery.start_soon(leader.run)
            with trio.CancelScope() as load:
                async with trio.open_nursery() as loading:
                    loading.start_soon(work.commit, dice, 100.0, 5_000)
                    for _ in range(faults):
                        await _one_fault(work, shim, dice, injected)
                        auditor.audit(work.server.database, work.clients, live=True)
                    await _fail_at_the_end_and_the_start(work, shim, dice, injected)
                    load.cancel()
            await work.settled()
            nursery.cancel_scope.cancel()
        auditor.audit(work.server.database, work.clients, live=True)
        await work.server.stop()
    finally:
        await work.server.end(signal.SIGKILL)
        shim.close()
    for call in Call:
        if not any(count for name, count in injected.items() if name.startswith(f"{call.name} ")):
            raise Violation(f"no {call.name} was made to fail: {dict(injected)}")
    say(f"{sum(injected.values())} calls failed {dict(+injected)}, {auditor.acknowledgements} acknowledged pushes kept")


async def _one_fault(work: Work, shim: Shim, dice: random.Random, injected: Counter[str]) -> None:
    call = dice.choice([Call.WRITE, Call.SYNC, Call.SYNC | Call.OPEN, Call.WRITE | Call.OPEN, Call.TRUNCATE])
    error = dice.choice(FAILURES)
    times = dice.choice([1, 1, 3, -1])
    shim.arm(call, error, passes=dice.randrange(6), times=times, torn=dice.choice([0, 0, 100, 5_000]))
    await until(lambda: shim.injected > 0, 0.5, every_s=0.005)  # opens and truncates are rare: they are met or not
    if times == -1:
        await trio.sleep(dice.uniform(0, 0.4))
    shim.disarm()
    _count(shim, error, injected)
    await work.more_acknowledged(work.acknowledged)


def _count(shim: Shim, error: int, injected: Counter[str]) -> None:
    for call, times in shim.injected_by_call.items():
        injected[f"{call.name} {errno.errorcode[error]}"] += times


async def _fail_at_the_end_and_the_start(work: Work, shim: Shim, dice: random.Random, injected: Counter[str]) -> None:
    """Calls fail while the server stops; then opening fails, and it says so instead of starting."""
    for calls in (Call.TRUNCATE, Call.WRITE | Call.SYNC | Call.OPEN | Call.TRUNCATE):
        error = dice.choice(FAILURES)
        shim.arm(calls, error, times=-1)
        await work.server.end(signal.SIGTERM)
        _count(shim, error, injected)
        shim.arm(Call.OPEN, error, times=-1)
        try:
            await work.server.start()
        except ServerFailedError as failure:
            if "cannot be used" not in str(failure):
                raise Violation(f"the operator is not told why it does not start: {failure}") from failure
        else:
            raise Violation("it started although the file could not be opened")
        _count(shim, error, injected)
        shim.disarm()
        await work.server.start()
        await work.more_acknowledged(work.acknowledged)


async def full_disk(directory: Path, dice: random.Random) -> None:
    """While the disk is full nothing is acknowledged, everything can be read, and the server says what is wrong."""
    shim = Shim(directory, directory / "live.db")
    work = Work.on(directory, shim, dice, trio.current_time)
    try:
        await work.server.start()
        async with trio.open_nursery() as nursery:
            for leader in work.everybody:
                nursery.start_soon(leader.run)
                leader.commit()
            await work.settled()
            shim.arm(Call.WRITE, errno.ENOSPC, times=-1)
            full_s = trio.current_time()
            for leader in work.everybody:
                leader.commit()
            await _expect(lambda: shim.injected >= 3, "pushes meet the full disk")
            store = STORES[0]
            newcomer = Leader(to_store(lambda: work.server.port, store), store, "newcomer", dice, pace=IMPATIENT)
            nursery.start_soon(newcomer.run)
            await _expect(lambda: newcomer.log.head == work.clients[store][0].log.head, "a newcomer reads the log")
            if work.acknowledged_since(full_s):
                raise Violation("acknowledged on a full disk")
            if "no room left" not in work.server.log_tail():
                raise Violation(f"the log does not tell the operator:\n{work.server.log_tail()}")
            shim.disarm()
            await work.settled()
            nursery.cancel_scope.cancel()
        Auditor().audit(work.server.database, work.clients, live=True)
        await work.server.stop()
    finally:
        await work.server.end(signal.SIGKILL)
        shim.close()


async def _expect(condition: Callable[[], bool], what: str) -> None:
    if not await until(condition, RECOVERY_LIMIT_S):
        raise Violation(f"not within {RECOVERY_LIMIT_S:g} s: {what}")


def _together(leaders: list[Leader]) -> bool:
    return all(leader.settled and leader.log.head == leaders[0].log.head for leader in leaders)


# --- power cuts -------------------------------------------------------------------------------------------------------


async def cut_power(directory: Path, pushes: int, cuts: int, dice: random.Random, say: Callable[[str], None]) -> None:
    """Record what the server writes, then look at what a power cut would have left at so many moments.

    Whoever was told something before the cut finds it after it. Raises Violation.
    """
    shim = Shim(directory, directory / "live.db")
    shim.environment["SHIM_JOURNAL"] = str(shim.journal)
    work = Work.on(directory, shim, dice, lambda: float(shim.position))
    try:
        await work.server.start()
        async with trio.open_nursery() as nursery:
            for leader in work.everybody:
                nursery.start_soon(leader.run)
            with trio.CancelScope() as load:
                async with trio.open_nursery() as loading:
                    loading.start_soon(work.commit, dice, 300.0, 12_000)
                    while work.acknowledged < pushes:
                        await work.more_acknowledged(work.acknowledged)
                    load.cancel()
            await work.settled()
            nursery.cancel_scope.cancel()
        await work.server.stop()
    finally:
        await work.server.end(signal.SIGKILL)
        shim.close()
    lost, kept = 0, 0
    for position, database in power_cuts(shim.journal, cuts, dice, directory):
        logs = read_logs(database)
        for store, leaders in work.clients.items():
            kept += _check_cut(position, logs.get(store) or StoredLog(store, "", 0, 0), leaders)
        lost += not logs
    say(f"{cuts} power cuts over {shim.position:,} bytes of journal; {kept:,} acknowledgements checked, {lost} empty")


def _check_cut(position: int, log: StoredLog, leaders: list[Leader]) -> int:
    """Everything told before the cut is there. Gives the number of acknowledgements."""
    place = {content: index for index, content in enumerate(log.contents)}
    checked = 0
    for leader in leaders:
        told = sum(at <= position for at in leader.log.at_s)
        if leader.log.contents[:told] != log.contents[:told]:
            raise Violation(f"cut at {position}: {leader.name} had been sent {told} events, the disk has {log.head}")
        for attempt in leader.attempts:
            if attempt.outcome == "ok" and attempt.answered_s <= position:
                checked += 1
                if any(content not in place for content in attempt.contents):
                    raise Violation(f"cut at {position}: acknowledged at {attempt.answered_s}, and lost")
    return checked
