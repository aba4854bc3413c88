"""Attacks on the disk below a real server: failing calls, power cuts, flipped bits."""

from __future__ import annotations

import errno
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from livesync_trio.errors import StartupError, StorageUnavailable, StoreDamaged
from livesync_trio.model import LogState, StoredEvent, StoreId
from livesync_trio.storage.base import OpenStore
from livesync_trio.storage.sqlite import SqliteEngine
from livesync_trio.storage.sqlite_reader import SqliteReader
from tests.simulation.leader import Leader, Violation
from tests.simulation.waiting import until
from tests.torture.audit import Auditor, StoredLog, read_logs
from tests.torture.crash import IMPATIENT
from tests.torture.disk_image import power_cuts
from tests.torture.server import ServerProcess
from tests.torture.shim import Call, Shim
from tests.torture.sockets import to_store

STORES = ("disk-a", "disk-b", "disk-c")
RECOVERY_LIMIT_S = 30.0
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
                        auditor.audit(work.server.database, work.clients)
                    load.cancel()
            await work.settled()
            nursery.cancel_scope.cancel()
        auditor.audit(work.server.database, work.clients)
        await work.server.stop()
    finally:
        await work.server.end(signal.SIGKILL)
        shim.close()
    say(f"{sum(injected.values())} calls failed {dict(injected)}, {auditor.acknowledgements} acknowledged pushes kept")


async def _one_fault(work: Work, shim: Shim, dice: random.Random, injected: Counter[str]) -> None:
    call = dice.choice([Call.WRITE, Call.SYNC, Call.SYNC | Call.OPEN, Call.WRITE | Call.OPEN, Call.TRUNCATE])
    error = dice.choice(FAILURES)
    times = dice.choice([1, 1, 3, -1])
    shim.arm(call, error, passes=dice.randrange(6), times=times, torn=dice.choice([0, 0, 100, 5_000]))
    await until(lambda: shim.injected > 0, 0.5, every_s=0.005)  # opens and truncates are rare: they are met or not
    if times == -1:
        await trio.sleep(dice.uniform(0, 0.4))
    shim.disarm()
    injected[f"{call.name} {errno.errorcode[error]}"] += shim.injected
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
            before = work.acknowledged
            for leader in work.everybody:
                leader.commit()
            await _expect(lambda: shim.injected >= 3, "pushes meet the full disk")
            store = STORES[0]
            newcomer = Leader(to_store(lambda: work.server.port, store), store, "newcomer", dice, pace=IMPATIENT)
            nursery.start_soon(newcomer.run)
            await _expect(lambda: newcomer.log.head == work.clients[store][0].log.head, "a newcomer reads the log")
            if work.acknowledged != before:
                raise Violation("acknowledged on a full disk")
            if "no room left" not in work.server.log_tail():
                raise Violation(f"the log does not tell the operator:\n{work.server.log_tail()}")
            shim.disarm()
            await work.settled()
            nursery.cancel_scope.cancel()
        Auditor().audit(work.server.database, work.clients)
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


# --- flipped bits -----------------------------------------------------------------------------------------------------


def flip_bits(directory: Path, database: Path, flips: int, dice: random.Random) -> Counter[str]:
    """Flip one bit of a stopped server's file at a time and open it. Gives what became of it.

    What is served is a chain without a hole; a flip inside the text of an event is not noticed (docs/guarantees.md).
    """
    whole = read_logs(database)
    content, fates = database.read_bytes(), Counter[str]()
    copy = directory / "flipped.db"
    for _ in range(flips):
        flipped = bytearray(content)
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        copy.write_bytes(flipped)
        for suffix in ("-wal", "-shm"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
        fates.update(_open_flipped(copy, whole))
    return fates


def _open_flipped(database: Path, whole: dict[str, StoredLog]) -> Counter[str]:
    engine = SqliteEngine(database)
    try:
        engine.open()
    except StartupError as refusal:
        if not str(refusal).endswith("."):
            raise Violation(f"a refusal without a sentence: {refusal}") from refusal
        return Counter(["refused at start"])
    try:
        return Counter(_served(engine, log) for log in whole.values())
    finally:
        engine.close()


def _served(engine: SqliteEngine, whole: StoredLog) -> str:
    try:
        writer = engine.writer()
    except StorageUnavailable:
        return "refused when opened for writing"
    reader = engine.reader()
    try:
        (state,) = writer.commit([OpenStore(StoreId(whole.store))])
        if isinstance(state, Exception):
            raise state
        assert isinstance(state, LogState)
        return "under another name" if state.event_count == 0 else _compare(_read_all(reader, state), state, whole)
    except StoreDamaged:
        return "refused as damaged"
    except StorageUnavailable:
        return "refused as unavailable"
    finally:
        reader.close()
        writer.close()


def _read_all(reader: SqliteReader, state: LogState) -> list[StoredEvent]:
    served: list[StoredEvent] = []
    while not served or served[-1].seq_num < state.head:
        events = reader.read(state, served[-1].seq_num if served else 0, state.head, 1_000, 10_000_000)
        if not events:
            break  # a pull stands still there and tries again (connection.live)
        served += events
    return served


def _compare(served: list[StoredEvent], state: LogState, whole: StoredLog) -> str:
    if [event.seq_num for event in served] != whole.numbers[: len(served)]:
        raise Violation(
            f"store {whole.store}: served {len(served)} of {len(whole.numbers)} events, not the same numbers"
        )
    differing = sum(content.encode() not in event.json for event, content in zip(served, whole.contents, strict=False))
    if len(served) < len(whole.numbers):
        if state.head != whole.head:
            raise Violation(f"store {whole.store}: passed off e{state.head} as its head, which is e{whole.head}")
        return "stands still at a prefix"
    if differing > 1:
        raise Violation(f"store {whole.store}: one bit changed the texts of {differing} events")
    return "served with one altered text" if differing else "served whole"


def size_kib(path: Path) -> int:
    """Of a file, for reports."""
    return path.stat().st_size // 1024
