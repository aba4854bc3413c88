"""What can be asked of a store, and the one-shot reply by which it answers.

Owns the commands that travel through a mailbox. They are carried out strictly in the order in which they were posted.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import attrs
import msgspec
import trio

from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import Batch, Cursor, Draft, LogState
from livesync_trio.storage import base
from livesync_trio.store.followers import Follower
from livesync_trio.telemetry import Marks

T = TypeVar("T")

UNAVAILABLE = Refusal(
    Kind.STORAGE_UNAVAILABLE, "The server's database cannot be reached. Nothing was acknowledged; try again."
)
DAMAGED = Refusal(
    Kind.STORE_DAMAGED, "The server refuses this store: what it holds of it is damaged. The operator must mend it."
)
FAILED = Refusal(Kind.STORE_FAILED, "The store failed while this request waited. Try again.")


class Reply(Generic[T]):
    """A one-shot answer: the actor gives it, exactly one function or task receives it.

    The receiver is called synchronously by the actor, in the order of the commands: what it puts into an outbox keeps
    that order. It must not wait and must not raise.
    """

    __slots__ = ("_receive",)

    def __init__(self, receive: Callable[[T | Refusal], None]) -> None:
        self._receive: Callable[[T | Refusal], None] | None = receive

    @property
    def given(self) -> bool:
        """Whether it was answered."""
        return self._receive is None

    def give(self, answer: T | Refusal) -> None:
        """Answer. A second answer is a fault of the actor and raises RuntimeError."""
        receive, self._receive = self._receive, None  # who waits holds the reply: no cycle is left of the two
        if receive is None:
            raise RuntimeError("a command was answered twice")
        receive(answer)


class Waiting(Generic[T]):
    """The receiving end for a task that waits: `reply` goes into the command, `wait` gives the answer."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._answer: T | Refusal | None = None
        self.reply: Reply[T] = Reply(self._take)

    def _take(self, answer: T | Refusal) -> None:
        self._answer = answer
        self._done.set()

    async def wait(self) -> T | Refusal:
        """Wait for the answer. Cancellation ends the wait only; the command is carried out all the same."""
        await self._done.wait()
        assert self._answer is not None
        return self._answer


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A push is durable and published. `state` is the log right after it."""

    state: LogState


class Push(msgspec.Struct, eq=False):
    """Append a batch.

    Attributes:
        batch: passed `rules.admission.check_batch`.
        backend_id: the identity the client remembers, None if none.
        request_id: id of the push, as JSON text (0.3 broadcasts carry it).
        origin: the pushing peer, compared by identity only.
        reply: `Accepted` once durable and published, else a refusal.
        marks: to be filled in, if anybody wants to know.
    """

    batch: Batch
    backend_id: str | None
    request_id: bytes
    origin: object
    reply: Reply[Accepted]
    marks: Marks | None = None


@attrs.frozen
class Numbered:
    """Events without numbers are durable and published under these.

    Attributes:
        state: the log right after them; where all were known, the log as it is.
        seq_nums: the number of each, in their order.
        repeated: how many the log had already.
    """

    state: LogState
    seq_nums: tuple[int, ...]
    repeated: int


@attrs.define
class Append:
    """Append events without numbers behind the head, whatever it is; those whose id the log has are answered only.

    Attributes:
        drafts: the events, one or more.
        user: who sends them, to be stored with them (`Batch.user`).
        expected: the head that is expected: a number, and an identity or None; None for any.
        origin: who sends it, compared by identity only.
        reply: `Numbered` once durable and published, else a refusal.
        marks: as for a push.
        request_id: likewise.
    """

    drafts: tuple[Draft, ...]
    user: str | None
    expected: Cursor | None
    origin: object
    reply: Reply[Numbered]
    marks: Marks | None = None
    request_id: bytes = b'"append"'


Write = Push | Append
"""What makes a log longer."""


def mark(pushes: Sequence[Write], stage: str) -> None:
    """Note when pushes that travel together passed a stage; a name of `Marks` without its unit."""
    now_ns = time.time_ns()
    for push in pushes:
        if push.marks is not None:
            setattr(push.marks, f"{stage}_ns", now_ns)


@attrs.frozen
class Registered:
    """A pull is registered at the durable head `state.head`.

    Attributes:
        state: the log at that moment.
        following: the follower was taken on: everything after `state.head` is offered to it. Otherwise there is history
            to read first, up to and including `state.head`; then the caller asks again.
    """

    state: LogState
    following: bool


@attrs.define
class Register:
    """Register a pull: catch up, then follow (invariant 3).

    Attributes:
        cursor: where the client stands; None for "at the head" (0.3 sockets that have not pulled).
        follower: who wants everything after the head; None for a pull that is not live.
        reply: `Registered`, or a refusal.
    """

    cursor: Cursor | None
    follower: Follower | None
    reply: Reply[Registered]


@attrs.define
class Reset:
    """Give the store a new identity and an empty log. `reply`: the new state, or a refusal."""

    reply: Reply[LogState]


@attrs.define
class Alter:
    """Change the store as a whole: delete, freeze or rename it, or give it another log.

    Attributes:
        decide: gives the write from the log as it is, or the refusal. Called in the actor's order, again when another
            server was first. For a deletion the log need not be known: a damaged store can be deleted.
        reply: the write's outcome once everybody who follows has been told, or a refusal.
    """

    decide: Callable[[LogState], base.StoreWrite | Refusal] | base.Delete
    reply: Reply[base.StoreOutcome]


@attrs.define
class Inspect:
    """Tell the state of the log. `reply`: the state, or a refusal."""

    reply: Reply[LogState]


def _unheard(_: object) -> None:
    """Nobody waits for the answer."""


@attrs.define
class Look:
    """Another server has changed the log.

    Attributes:
        found: the state of the log in the database, read not long ago; None: there was no such store.
        reply: the state after what was missed has been published.
    """

    found: LogState | None
    reply: Reply[LogState] = attrs.field(factory=lambda: Reply(_unheard))


Command = Push | Append | Register | Reset | Alter | Inspect | Look


def mends(command: Command) -> bool:
    """Whether a command is for a store of which nothing else can be known: it is how a damaged one is mended."""
    return isinstance(command, Reset) or (isinstance(command, Alter) and isinstance(command.decide, base.Delete))


def leading_writes(commands: Iterable[Command]) -> list[Write]:
    """The run of pushes and appends at the front."""
    writes: list[Write] = []
    for command in commands:
        if not isinstance(command, Push | Append):
            break
        writes.append(command)
    return writes
