"""Between requests and the user's hooks: which hook belongs to what, and what it is shown (SPEC 3.6, hook context)."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from livesync_trio.errors import Refusal
from livesync_trio.hooks import HookContext, HookCursor, HookEvent, HookPage, HookPushResult, HookRunner
from livesync_trio.model import StoredEvent
from livesync_trio.store.commands import Accepted
from livesync_trio.wire.messages import PullRequest, PushRequest
from livesync_trio.wire.reading import plain


@attrs.frozen
class Asking:
    """The hooks, as one connection (or HTTP request) meets them.

    Attributes:
        runner: runs the hooks of the server.
        context: what they are told of the connection.
    """

    runner: HookRunner
    context: HookContext

    def hook_for(self, request: PushRequest | PullRequest) -> Callable[..., Any] | None:
        """The hook that may refuse this request, None if there is none."""
        hooks = self.runner.hooks
        return hooks.on_push if isinstance(request, PushRequest) else hooks.on_pull

    async def may(self, request: PushRequest | PullRequest) -> Refusal | None:
        """Ask the request's hook; None when it agrees or is missing."""
        hook = self.hook_for(request)
        if hook is None:
            return None
        argument: object
        if isinstance(request, PushRequest):
            argument = [HookEvent.from_json(event.json) for event in request.events]
        else:
            argument = HookCursor(request.after, request.backend_id)
        return await self.runner.ask(hook, argument, self._context_of(request))

    @property
    def tells_push_results(self) -> bool:
        """Whether a hook observes what became of pushes."""
        return self.runner.hooks.on_push_res is not None

    async def tell_push_result(self, request: PushRequest, answer: Accepted | Refusal) -> None:
        """Show the observing hook what became of a push."""
        if isinstance(answer, Refusal):
            result = HookPushResult(answer.message, None)
        else:
            result = HookPushResult(None, request.events[-1].seq_num)
        await self.runner.tell(self.runner.hooks.on_push_res, result, self._context_of(request))

    async def tell_page(self, request: PullRequest, events: Sequence[StoredEvent], remaining: int) -> None:
        """Show the observing hook a page of history on its way out. Returns at once when there is none."""
        hook = self.runner.hooks.on_pull_res
        if hook is not None:
            page = HookPage([HookEvent.from_json(event.json) for event in events], remaining)
            await self.runner.tell(hook, page, self._context_of(request))

    def _context_of(self, request: PushRequest | PullRequest) -> HookContext:
        """The payload inside the request counts where there is one; else that of the URL."""
        if request.payload is None:
            return self.context
        return attrs.evolve(self.context, payload=plain(request.payload))
