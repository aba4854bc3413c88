"""The sync clients of each generation behind one Python face, so that a scenario is written once."""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from .events import JsonObject, Page, PulledEvent, flatten
from .node_driver import CALL_DEADLINE_S, ClientError, NodeDriver

# The HTTP client's live pull asks every 5 s; the tests do not wait that long.
HTTP_POLL_INTERVAL_MS = 100

_names = itertools.count(1)


class Generation(enum.Enum):
    """A published client: its package set and its transport."""

    V03_WS = ("v0.3", "ws")
    V04_WS = ("v0.4", "ws")
    V04_HTTP = ("v0.4", "http")

    def __init__(self, package_set: str, transport: str) -> None:
        self.package_set = package_set
        self.transport = transport

    @property
    def label(self) -> str:
        """The name in test ids."""
        return f"{self.package_set}-{self.transport}"


class Follower:
    """A live pull: collects what the client delivers until it is stopped.

    ``failures`` lists each failure of the pull, also those after which it was resumed; ``end`` is set when it is over.
    """

    def __init__(self, driver: NodeDriver, stream: str) -> None:
        self._driver = driver
        self._stream = stream
        self._changed = threading.Condition()
        self.pages: list[Page] = []
        self.failures: list[JsonObject] = []
        self.end: JsonObject | None = None
        driver.listen(stream, self._on_line)

    def _on_line(self, line: JsonObject) -> None:
        with self._changed:
            if "item" in line:
                self.pages.append(Page.decode(line["item"]))
            elif "failure" in line:
                self.failures.append(line["failure"])
            elif "end" in line:
                self.end = line["end"]
            self._changed.notify_all()

    @property
    def events(self) -> list[PulledEvent]:
        """Everything delivered so far, in order."""
        return flatten(self.pages)

    @property
    def numbers(self) -> list[int]:
        """The sequence numbers delivered so far, in order."""
        return [each.seq_num for each in self.events]

    def wait(self, condition: Callable[[Follower], bool], what: str, timeout_s: float = CALL_DEADLINE_S) -> None:
        """Return as soon as ``condition(self)`` holds, checked at every delivery; ``AssertionError`` when too late."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                raise AssertionError(
                    f"not within {timeout_s} s: {what}; delivered {self.numbers[-20:]} in {len(self.pages)} pages,"
                    f" failures {self.failures}, end {self.end}"
                )

    def wait_for_numbers(self, expected: Sequence[int], timeout_s: float = CALL_DEADLINE_S) -> None:
        """Wait until as many events as ``expected`` have come, then compare: order, gaps and duplicates included."""
        wanted = list(expected)
        self.wait(lambda follower: len(follower.events) >= len(wanted), f"{len(wanted)} events", timeout_s)
        assert self.numbers == wanted

    def wait_for_first_page(self) -> None:
        """Wait until the server has answered the pull, so that what is pushed from now on comes live."""
        self.wait(lambda follower: bool(follower.pages), "the first page")

    def wait_for_failures(self, count: int, timeout_s: float = CALL_DEADLINE_S) -> None:
        """Wait until the pull has failed ``count`` times."""
        self.wait(lambda follower: len(follower.failures) >= count, f"{count} failures of the pull", timeout_s)

    def stop(self) -> None:
        """Interrupt the pull."""
        self._driver.call("stop", stream=self._stream)


class SyncClient:
    """One sync backend of the real client, connected to ``url`` for one store.

    ``spec`` may hold ``payload``, ``backendId`` (an identity remembered from earlier) and the 0.4 clients' ``options``.
    """

    def __init__(self, driver: NodeDriver, generation: Generation, url: str, store_id: str, **spec: Any) -> None:
        self.generation = generation
        self.store_id = store_id
        self._driver = driver
        self._name = f"backend-{next(_names)}"
        options = {"livePull": {"pollInterval": HTTP_POLL_INTERVAL_MS}, **spec.pop("options", {})}
        self._call("open", transport=generation.transport, url=url, storeId=store_id, options=options, **spec)

    def _call(self, op: str, **request: Any) -> Any:
        return self._driver.call(op, backend=self._name, **request)

    def connect(self) -> bool:
        """The client's own connect; returns what it then says about being connected."""
        return bool(self._call("connect"))

    def ping(self) -> None:
        """The client's own ping (0.4 only)."""
        self._call("ping")

    def is_connected(self) -> bool:
        """What the client believes."""
        return bool(self._call("isConnected"))

    def identity(self) -> str | None:
        """The backend id the client has stored (0.4 only)."""
        identity: str | None = self._call("identity")
        return identity

    def push(self, batch: Sequence[JsonObject], timeout_s: float = CALL_DEADLINE_S) -> None:
        """Push and wait for the acknowledgement; raises ``ClientError`` with the client's own error."""
        self._call("push", batch=list(batch), timeout_s=timeout_s)

    def start_push(self, batch: Sequence[JsonObject]) -> Future[Any]:
        """Push without waiting."""
        return self._driver.start("push", backend=self._name, batch=list(batch))

    def refusal_of_push(self, batch: Sequence[JsonObject]) -> ClientError:
        """Push what must be refused; returns the client's error, fails when it was accepted."""
        try:
            self.push(batch)
        except ClientError as refusal:
            return refusal
        raise AssertionError("the push was accepted")

    def pull(self, cursor: int | None = None, timeout_s: float = CALL_DEADLINE_S) -> list[Page]:
        """All pages of the history after ``cursor``."""
        return [Page.decode(each) for each in self._call("pull", cursor=cursor, timeout_s=timeout_s)]

    def refusal_of_pull(self, cursor: int | None = None) -> ClientError:
        """Pull what must be refused; returns the client's error, fails when pages came."""
        try:
            pages = self.pull(cursor)
        except ClientError as refusal:
            return refusal
        raise AssertionError(f"the pull was answered: {pages}")

    def follow(self, cursor: int | None = None, *, resume: bool = False) -> Follower:
        """Start a live pull. ``resume``: pull again after IsOfflineError, as the leader does."""
        stream = f"{self._name}/{next(_names)}"
        follower = Follower(self._driver, stream)
        self._call("follow", stream=stream, cursor=cursor, resume=resume)
        return follower

    def normalize(self, text: str) -> str:
        """What JavaScript makes of a JSON text: parsed and written again."""
        normalized: str = self._call("normalize", text=text)
        return normalized

    def sockets(self, marker: str) -> list[JsonObject]:
        """What the client process noted of its sockets whose URL contains ``marker``: frames sent first, close code."""
        records: list[JsonObject] = self._call("sockets", marker=marker)
        return records

    def inject_first_frame(self, marker: str, frame: str) -> None:
        """Send ``frame`` before anything of the client's own on its next socket whose URL contains ``marker``."""
        self._call("injectFirstFrame", marker=marker, frame=frame)

    def close(self) -> None:
        """Close the client's scope, which closes its socket."""
        self._call("close")
