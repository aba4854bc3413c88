"""The writer thread: the only one that changes the database, for all stores, many writes a transaction.

Owns the thread, its queue and the storage's writing handle. Commands of any number of actors that wait at the same
moment share one durable transaction (group commit); the answers return to the Trio thread in one hop.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import outcome
import trio

from livesync_trio.errors import StorageUnavailable
from livesync_trio.limits import GROUP_COMMIT_MAX_OPS, WRITER_HUNG_S
from livesync_trio.storage import base
from livesync_trio.store.persistence import Done
from livesync_trio.telemetry import Counters, get_logger
from livesync_trio.turns import Turns

GROUP_COMMIT_MAX_BYTES: Final = 16 * 1024 * 1024
"""Event bytes that share one transaction; a larger single batch is a group of its own."""

GROUP_COMMIT_MAX_OPENINGS: Final = 32
"""Writes other than appends in one transaction. A store is opened by a few questions, each of which waits for the
interpreter lock: ten thousand clients that come back to a store each shall not keep the pushes of others waiting."""

CLEAR_STEP_EVENTS: Final = 500
"""Rows of replaced logs deleted in one step in the background, a few milliseconds of the writer's time."""

CLEAR_BUSY_S: Final = 10.0
"""The same while there is never nothing to do: a step each time, so that what was replaced goes in the end."""

CLEAR_INTERVAL_S: Final = 1.0
"""Pause between two looks for replaced logs to clear when there was nothing to do."""

STORAGE_RECOVERY_S: Final = 5.0
"""Storage that failed counts as healthy when no write has failed for this long and something was durable."""

_log = get_logger("writer")

CallSoon = Callable[[Callable[[], None]], object]
"""Has a function called in the Trio thread, from any thread, in order."""


class _Job(msgspec.Struct, eq=False):
    """A write under way, and who waits for it."""

    write: base.Write
    done: Done
    queued_s: float  # `time.perf_counter` when it was handed over
    answered: bool = False  # in the Trio thread


class ThreadWriter:
    """Bridge between actors and the writing handle of an engine. Implements `persistence.Writer`."""

    def __init__(
        self,
        open_handle: Callable[[], base.Writer],
        counters: Counters | None = None,
        call_soon: CallSoon | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Nothing is started before `start`.

        Args:
            open_handle: called once, in the writer thread.
            counters: where transactions are counted.
            call_soon: the way back into the Trio thread; None for Trio's own.
            turns: in each of which jobs are handed to the thread together; None for one by one.
        """
        self._open_handle = open_handle
        self._counters = counters or Counters()
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()  # None: the end
        self._outgoing: list[_Job] = []  # of this turn
        self._appends: deque[_Job] = deque()  # taken from the queue, by the thread; appends go before
        self._openings: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._call_soon = call_soon
        self._turns = turns
        if turns is not None:
            turns.at_end(self._hand_over)
        self.healthy = True
        """See `persistence.Writer`."""
        self._underway: list[_Job] = []  # of the transaction of the moment, or of the last one
        self._ended = False  # the thread has ended and will carry out nothing any more
        self._erasing = False  # something may be left to erase, which does not wait for a quiet moment
        self._failed_s = self._looked_s = 0.0  # `time.monotonic` of the last failure, and of the last look for work
        self._turn_began_s: float | None = None  # `time.monotonic`; None while it waits for work

    @property
    def alive(self) -> bool:
        """See `persistence.Writer`."""
        return self._thread is None or (not self._ended and self.turn_age_s < WRITER_HUNG_S)

    @property
    def turn_age_s(self) -> float:
        """See `persistence.Writer`."""
        began_s = self._turn_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def start(self) -> None:
        """Start the thread; called once, inside Trio."""
        if self._call_soon is None:
            self._call_soon = trio.lowlevel.current_trio_token().run_sync_soon
        self._looked_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="livesync writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish what is queued, close the handle and end the thread. Not cancellable: at most one transaction long."""
        thread = self._thread
        if thread is None:
            return
        self._thread = None
        self._hand_over()
        self._queue.put(None)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)

    def submit(self, write: base.Write, done: Done) -> None:
        """See `persistence.Writer`. What comes in one turn is handed to the thread together."""
        self._submit([_Job(write, done, time.perf_counter())])

    def _submit(self, jobs: list[_Job]) -> None:
        if self._thread is None or self._ended:
            raise StorageUnavailable("the database thread has ended")
        if self._turns is not None and self._turns.under_way:
            self._outgoing += jobs
        else:
            self._queue.put(jobs)

    def _hand_over(self) -> None:
        """At the end of a turn: one wake-up for all that it brought."""
        if self._outgoing:
            jobs, self._outgoing = self._outgoing, []
            self._queue.put(jobs)

    async def commit(self, write: base.Write) -> base.Outcome:
        """See `persistence.Writer.commit`."""
        task = trio.lowlevel.current_task()

        def done(answer: base.Outcome | Exception) -> None:
            value = outcome.Error(answer) if isinstance(answer, Exception) else outcome.Value(answer)
            trio.lowlevel.reschedule(task, value)

        self.submit(write, done)
        answer: base.Outcome = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return answer

    async def commit_all(self, appends: Sequence[base.Append]) -> list[base.Outcome | Exception]:
        """See `persistence.BulkWriter.commit_all`."""
        task = trio.lowlevel.current_task()
        answers: list[base.Outcome | Exception] = []

        def done(answer: base.Outcome | Exception) -> None:
            answers.append(answer)
            if len(answers) == len(appends):
                trio.lowlevel.reschedule(task, outcome.Value(answers))

        now_s = time.perf_counter()
        self._submit([_Job(append, done, now_s) for append in appends])
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return answers

    def _answer(
        self, jobs: Sequence[_Job], answers: Sequence[base.Outcome | Exception], began_s: float, ended_s: float
    ) -> None:
        """Wake every waiting actor with its outcome, and count the transaction. Called in the Trio thread."""
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answered:
                job.answered = True
                job.done(answer)
        counters = self._counters
        counters.commit_seconds.observe(ended_s - began_s)
        counters.commit_waiting_seconds.observe(began_s - jobs[0].queued_s)
        counters.commit_writes.observe(len(jobs))
        if isinstance(answers[0], StorageUnavailable):
            counters.storage_errors["write"] += 1

    def _answer_everybody(self) -> None:
        """The thread has ended: refuse what it leaves behind. Called in the Trio thread, where nobody asks after it."""
        jobs = [*self._underway, *self._appends, *self._openings, *self._outgoing]
        self._outgoing = []
        while not self._queue.empty():
            jobs += self._queue.get_nowait() or ()
        for job in jobs:
            if not job.answered:
                job.answered = True
                job.done(StorageUnavailable("the database thread has ended"))

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Work until told to end. However the thread ends, everybody is answered, and whoever asks later is refused."""
        assert self._call_soon is not None
        error: BaseException | None = None
        try:
            self._work(self._call_soon)
        except BaseException as fault:  # a `SystemExit` of a library ends a thread as well
            error = fault
        self.healthy = self.healthy and error is None
        self._ended = True  # before the call: who asked before it is answered by it, who asks later is refused at once
        if error is not None:
            with suppress(trio.RunFinishedError):
                self._call_soon(self._answer_everybody)
            _log.critical("the database thread has ended", exc_info=error)

    def _work(self, call_soon: CallSoon) -> None:
        handle: base.Writer | None = None
        ending = False
        while not ending or self._appends or self._openings:
            self._turn_began_s = None
            looked_s = time.monotonic() - self._looked_s
            if looked_s >= (CLEAR_INTERVAL_S if not self.healthy else CLEAR_BUSY_S) or self._erasing:
                handle = self._clear(handle)
                self._turn_began_s = None
            try:
                ending = self._take_waiting() or ending
            except queue.Empty:
                handle = self._clear(handle)
                continue
            self._underway = jobs = self._group()
            if not jobs:
                continue
            began_s = time.perf_counter()
            writes = [jobs[0].write] if len(jobs) == 1 else [job.write for job in jobs]
            handle, answers = self._commit(handle, writes)
            call_soon(partial(self._answer, jobs, answers, began_s, time.perf_counter()))
        if handle is not None:
            handle.close()

    def _take_waiting(self) -> bool:
        """Take what waits in the queue; wait for something when there is nothing at all. True: the end was among it.

        Raises:
            queue.Empty: nobody has asked for anything for a while.
        """
        ending = False
        wait = not self._appends and not self._openings
        while wait or not self._queue.empty():  # nobody else takes anything from it
            jobs = self._queue.get(timeout=CLEAR_INTERVAL_S)
            wait = False
            if jobs is None:
                ending = True
                continue
            for job in jobs:
                (self._appends if isinstance(job.write, base.Append) else self._openings).append(job)
        return ending

    def _group(self) -> list[_Job]:
        """What shares the next transaction: appends, up to the limits of a group, and a few of the other writes.

        A store has one write under way at most, so their order matters to nobody but those who wait.
        """
        jobs: list[_Job] = []
        size_bytes = 0
        while self._appends and len(jobs) < GROUP_COMMIT_MAX_OPS and size_bytes < GROUP_COMMIT_MAX_BYTES:
            job = self._appends.popleft()
            jobs.append(job)
            assert isinstance(job.write, base.Append)
            for batch in job.write.batches:
                size_bytes += batch.size_bytes
        if self._openings:
            openings = min(len(self._openings), GROUP_COMMIT_MAX_OPENINGS)
            jobs += [self._openings.popleft() for _ in range(openings)]
        return jobs

    def _commit(
        self, handle: base.Writer | None, writes: Sequence[base.Write]
    ) -> tuple[base.Writer | None, list[base.Outcome | Exception]]:
        self._turn_began_s = time.monotonic()
        try:
            if handle is None:
                handle = self._open_handle()
            answers = handle.commit(writes)
            if len(answers) != len(writes):
                raise StorageUnavailable(f"the engine gave {len(answers)} answers to {len(writes)} writes")
        except Exception as error:
            self._note_failure(error)
            return handle, [StorageUnavailable(str(error)) for _ in writes]
        for write, answer in zip(writes, answers, strict=True):
            if type(answer) is base.Appended and type(write) is base.Append:
                continue  # nearly always
            if isinstance(answer, StorageUnavailable):
                self._note_failure(answer)
                return handle, answers
            if isinstance(write, base.Adopt) and write.erases:
                self._erasing = True
        if not self.healthy and any(map(_was_durable, writes, answers)):
            self._note_healthy()
        return handle, answers

    def _clear(self, handle: base.Writer | None) -> base.Writer | None:
        """Clear rows of replaced logs while nobody waits; also finds out that failed storage is back.

        What only reads proves nothing: a full disk can be read. So what has failed counts as well again once something
        was durable, and no write has failed for a while; on a nearly full disk small writes go well between large ones.
        """
        self._turn_began_s = self._looked_s = time.monotonic()
        try:
            if handle is None:
                handle = self._open_handle()
            if not self.healthy:
                handle.prove_writable()
                if time.monotonic() - self._failed_s >= STORAGE_RECOVERY_S:
                    self._note_healthy()
            while self._clears(handle):
                if not self._queue.empty():
                    return handle
            self._erasing = False
        except Exception as error:
            self._note_failure(error)
        return handle

    def _clears(self, handle: base.Writer) -> bool:
        """Take a step. False: there is nothing to do now."""
        rewrites = isinstance(handle, base.Rewriting) and handle.rewrites
        if rewrites:
            _log.info("the database is written anew, for what was erased; pushes wait")
        self._turn_began_s = None if rewrites else time.monotonic()  # that is no hang, however long it takes
        did = handle.clear_replaced(CLEAR_STEP_EVENTS)
        if rewrites and did:
            _log.info("the database was written anew")
        elif rewrites:
            _log.warning("the database cannot be written anew now: is there room, or does somebody read all of it?")
        return did > 0

    def _note_failure(self, error: Exception) -> None:
        self._failed_s = time.monotonic()
        if not isinstance(error, StorageUnavailable):
            _log.error("storage cannot be written", exc_info=error)
        elif self.healthy:  # trouble of the disk or the database, which a line tells in full
            _log.error("storage cannot be written", reason=str(error))
            _log.debug("where storage was found not to be writable", exc_info=error)
        self.healthy = False

    def _note_healthy(self) -> None:
        self.healthy = True
        _log.info("storage can be written again")


def _was_durable(write: base.Write, answer: base.Outcome | Exception) -> bool:
    """Whether an answer proves that something was written; opening a store that is there only reads."""
    return isinstance(answer, base.Appended | base.RecordStored) or (
        isinstance(write, base.Reset) and not isinstance(answer, Exception)
    )
