"""Makes a run depend on its seed alone, and small enough that what takes megabytes outside happens within it.

Patches the server's clock of events, its identities and its log away, and, for some seeds, its limits down to where
mailboxes fill, outboxes overflow and pages break after a few events. Everything is put back afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Iterator, MutableMapping
from typing import Any
from unittest import mock

import structlog
import trio
import trio._core._run as trio_run

from livesync_trio.connection import outbox, pulling
from livesync_trio.model import BackendId
from livesync_trio.storage import memory
from livesync_trio.store import known_log, mailbox
from livesync_trio.wire import events
from tests.simulation.disk import SimulatedBugError

_TIGHT = (
    (outbox, "OUTBOX_MAX_BYTES", (600, 3_000)),
    (outbox, "OUTBOX_LOW_WATER_BYTES", (200, 500)),
    (outbox, "OUTBOX_HARD_MAX_BYTES", (10_000, 40_000)),
    (outbox, "WRITE_BATCH_BYTES", (400, 2_000)),
    (mailbox, "MAILBOX_COMMANDS", (1, 4)),
    (events, "PAGE_MAX_EVENTS", (1, 7)),
)


CRASHES = ("task crashed", "connection crashed", "follower failed", "store actor crashed")
"""Log lines that tell of a fault of the server itself."""


@contextlib.contextmanager
def squeezed(seed: int, dice: random.Random) -> Iterator[list[str]]:
    """Let nothing but the seed decide what happens in the block; gives the crashes that were logged in it."""
    tight = dice.random() < 0.5
    identities = random.Random(dice.random())
    with contextlib.ExitStack() as stack:
        crashes = stack.enter_context(_silence())
        stack.enter_context(_ordered_by(seed))
        make = mock.patch.object(memory, "new_backend_id", new=functools.partial(_identity, identities))
        stack.enter_context(make)
        stack.enter_context(mock.patch.object(known_log, "server_time", new=_moment))
        for module, name, (least, most) in _TIGHT:
            if tight:
                stack.enter_context(mock.patch.object(module, name, dice.randint(least, most)))
        if tight:  # below all of these, and without a throw of the dice: seeds that found something stay what they are
            for module in (outbox, pulling):
                stack.enter_context(mock.patch.object(module, "OUTBOX_SHARE_BYTES", 100))
        yield crashes


def _identity(dice: random.Random) -> BackendId:
    return BackendId(f"id-{dice.getrandbits(64):x}")


def _moment() -> str:
    return f"{trio.current_time():.3f}"


@contextlib.contextmanager
def _silence() -> Iterator[list[str]]:
    """No log, because to format it costs more than to simulate; only crashes that were not simulated are noted."""
    crashes: list[str] = []

    def note(_: Any, __: str, line: MutableMapping[str, Any]) -> Any:
        if line["event"] in CRASHES and not isinstance(line["exc_info"], SimulatedBugError):
            crash = f"{line['event']}: {line['exc_info']!r}"
            if crash not in crashes:
                crashes.append(crash)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), processors=[note])
    try:
        yield crashes
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def _ordered_by(seed: int) -> Iterator[None]:
    """Trio runs tasks that are ready at the same time in an order of chance, the only one outside the world."""
    with mock.patch.object(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", new=True):
        trio_run._r.seed(seed)
        yield
