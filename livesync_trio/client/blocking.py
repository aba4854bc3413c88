"""A backend for programs without Trio, such as the command line: it runs in a thread of its own.

Owns that thread. Nothing waits for ever: a server that does not answer in time is told as one that is not there.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

from livesync_trio.client.backend import Backend, open_backend
from livesync_trio.client.failures import Offline
from livesync_trio.client.limits import CLIENT_ANSWER_LIMIT_S
from livesync_trio.client.ordering import Page, Position
from livesync_trio.client.pulling import Pull
from livesync_trio.wire.answers import Event

T = TypeVar("T")


@contextmanager
def open_backend_blocking(url: str, *, store_id: str, payload: Any = None) -> Iterator["BlockingBackend"]:
    """Be a client of one store for the length of a block, connected from its beginning.

    Args:
        url: of the server, as a LiveStore application has it.
        store_id: the store.
        payload: what a LiveStore application sends as `syncPayload`.

    Raises:
        BadAddress: the URL or the store id cannot be used.
        Offline: nobody answers.
        Refused: the server does not let this client in.
    """
    ready: Future[tuple[Backend, trio.lowlevel.TrioToken]] = Future()
    end = trio.Event()

    async def run() -> None:
        try:
            async with open_backend(url, store_id=store_id, payload=payload, offline="fail") as backend:
                await backend.connect()
                ready.set_result((backend, trio.lowlevel.current_trio_token()))
                await end.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    with ThreadPoolExecutor(1, "sync client") as thread:  # left when it has ended
        running = thread.submit(trio.run, run)
        backend, token = ready.result()
        try:
            yield BlockingBackend(backend, token)
        finally:
            token.run_sync_soon(end.set)
            running.result()


class BlockingBackend:
    """One store on one server. Made by `open_backend_blocking`."""

    def __init__(self, backend: Backend, token: trio.lowlevel.TrioToken) -> None:
        self._backend = backend
        self._token = token

    def pull(self, after: Position | None = None) -> Generator[Page, None, None]:
        """The history behind a position, page by page. Raises as `Backend.pull`."""
        pull = self._backend.pull(after, live=False)
        try:
            while (page := self._await(_next_page, pull)) is not None:
                yield page
        finally:
            self._await(pull.aclose)

    def push(self, events: Sequence[Event], backend_id: str | None = None) -> None:
        """Append events; returns when they are durable. Raises as `Backend.push`."""

        async def push() -> None:
            await self._backend.push(events, backend_id=backend_id)

        self._await(push)

    def _await(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        async def in_time() -> T:
            with trio.move_on_after(CLIENT_ANSWER_LIMIT_S):
                return await function(*args)
            raise Offline(f"{self._backend.place}: it did not answer within {CLIENT_ANSWER_LIMIT_S:g} s.")

        return trio.from_thread.run(in_time, trio_token=self._token)


async def _next_page(pull: Pull) -> Page | None:
    return await anext(pull, None)
