"""Between requests and the hooks: which hook belongs to what, what it is shown (SPEC 3.6, hook context)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import attrs

from livesync_trio.access.client import Client
from livesync_trio.errors import Kind, Refusal
from livesync_trio.hooks import HookContext, HookCursor, HookEvent, HookPage, HookPushResult, HookRunner
from livesync_trio.model import Page
from livesync_trio.store.commands import Accepted
from livesync_trio.telemetry import get_logger
from livesync_trio.wire.messages import PullRequest, PushRequest
from livesync_trio.wire.reading import Unreadable, plain

_log = get_logger("connection")


class Verdict(NamedTuple):
    """What came of asking.

    Attributes:
        refusal: None when nobody objects.
        annotation: what `on_push` returned.
    """

    refusal: Refusal | None
    annotation: Any = None


@attrs.frozen
class ClientHooks:
    """The hooks, as one connection (or HTTP request) meets them.

    Attributes:
        runner: runs the hooks of the server.
        client: who it belongs to.
    """

    runner: HookRunner
    client: Client

    @property
    def context(self) -> HookContext:
        """What the hooks are told of the connection."""
        return self.client.context

    @property
    def asks_to_pull(self) -> bool:
        """Whether anybody must be asked before a pull is handed to the store."""
        return self.runner.hooks.on_pull is not None

    @property
    def asks_to_push(self) -> bool:
        """Whether anybody must be asked before a push is handed to the store."""
        return self.runner.hooks.on_push is not None or self.client.rights.asks_to_push

    async def may(self, request: PushRequest | PullRequest) -> Verdict:
        """Ask whoever wants to be asked; a verdict without a refusal when nobody objects."""
        try:
            return await self._ask(request, self._context_of(request))
        except Unreadable as error:
            return Verdict(Refusal(Kind.INVALID_REQUEST, f"The hook cannot be shown this request: {error}."))

    async def _ask(self, request: PushRequest | PullRequest, context: HookContext) -> Verdict:
        if isinstance(request, PullRequest):
            cursor = HookCursor(request.after, request.backend_id)
            return Verdict(await self.runner.ask(self.runner.hooks.on_pull, cursor, context))
        if self.client.rights.asks_to_push:
            refusal = await self.runner.authorize(context, "push")
            if refusal is not None:
                return Verdict(refusal)
        hook = self.runner.hooks.on_push
        if hook is None:
            return Verdict(None)
        batch = [hook_event(event.json) for event in request.events]
        answer = await self.runner.consult(hook, context.store_id, batch, context)
        return Verdict(answer) if isinstance(answer, Refusal) else Verdict(None, answer)

    @property
    def tells_push_results(self) -> bool:
        """Whether a hook observes what became of pushes."""
        return self.runner.hooks.on_push_res is not None

    async def tell_push_result(self, request: PushRequest, answer: Accepted | Refusal, annotation: Any) -> None:
        """Show the observing hook what became of a push."""
        if isinstance(answer, Refusal):
            result = HookPushResult(answer.message, None, annotation)
        else:
            result = HookPushResult(None, request.events[-1].seq_num, annotation)
        with self._skipping_unreadable():
            await self.runner.tell(self.runner.hooks.on_push_res, result, self._context_of(request))

    async def tell_page(self, request: PullRequest, page: Page, remaining: int) -> None:
        """Show the observing hook a page of history on its way out. Returns at once when there is none."""
        hook = self.runner.hooks.on_pull_res
        if hook is not None:
            with self._skipping_unreadable():
                events = [_hook_event(item["eventEncoded"]) for item in plain(b"[%b]" % page.items)]
                await self.runner.tell(hook, HookPage(events, remaining), self._context_of(request))

    @contextmanager
    def _skipping_unreadable(self) -> Iterator[None]:
        """An observing hook misses what Python cannot read; the client's answer is the same."""
        try:
            yield
        except Unreadable as error:
            _log.warning("an observing hook cannot be shown this", store=self.context.store_id, reason=str(error))

    def _context_of(self, request: PushRequest | PullRequest) -> HookContext:
        """The payload inside the request counts where there is one; else that of the URL."""
        if request.payload is None:
            return self.context
        return attrs.evolve(self.client.context, payload=plain(request.payload))


def hook_event(text: bytes) -> HookEvent:
    """An event as hooks see it, from the text that is kept of it. Raises Unreadable."""
    return _hook_event(plain(text))


def _hook_event(fields: Any) -> HookEvent:
    return HookEvent(
        fields["name"],
        fields["args"],
        fields["seqNum"],
        fields["parentSeqNum"],
        fields["clientId"],
        fields["sessionId"],
    )
