"""The user's own functions: what they get, what they may answer, and how they are kept from doing harm.

Owns `Hooks`, the values handed to hooks, loading them from a module or file, and `call`, through which every hook runs:
plain functions in a thread, all under a deadline. Knows no sockets and no stores.
"""

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import attrs
import trio

from livesync_trio.errors import Kind, Refusal, StartupError
from livesync_trio.limits import HOOK_THREADS
from livesync_trio.model import Principal
from livesync_trio.telemetry import Counters, Flood, get_logger

_log = get_logger("hooks")

FAILED = Refusal(Kind.HOOK_FAILED, "A rule of this server has failed, so this cannot be done now. Tell its operator.")


@attrs.frozen
class HookContext:
    """Who asks.

    Attributes:
        store_id: the store, as in the URL.
        payload: the application's payload as Python values: of the URL in `validate_payload`, of the request where it
            carries one, else of the URL.
        headers: of the upgrade or HTTP request; names in lower case.
        client_address: address of the peer, `host:port`; only the host when a trusted proxy told it.
        user: who the client has proved to be; None for strangers, and in `authenticate`.
    """

    store_id: str
    payload: Any
    headers: Mapping[str, str]
    client_address: str
    user: Principal | None = None

    @property
    def client_host(self) -> str:
        """The address without the port."""
        return host_of(self.client_address)


@attrs.frozen
class HookEvent:
    """One event of a batch, decoded for a hook."""

    name: str
    args: Any
    seq_num: int
    parent_seq_num: int
    client_id: str
    session_id: str


@attrs.frozen
class HookCursor:
    """Where a pulling client stands: `seq_num` of its last event, and the identity it knows, if any."""

    seq_num: int
    backend_id: str | None


@attrs.frozen
class HookPage:
    """A page on its way to a pulling client. `remaining`: events of the pull that follow."""

    events: list[HookEvent]
    remaining: int


@attrs.frozen
class HookPushResult:
    """What became of a push. `refusal` is None when it was acknowledged, else the message.

    `annotation` is what `on_push` returned for it.
    """

    refusal: str | None
    head: int | None
    annotation: Any = None


class Refused(Exception):
    """Raised by a hook to refuse: the client is told the message. PermissionError and ValueError do the same.

    Any other exception is a fault of the hook: the client is told no more than that, the log has the traceback.
    """


_REFUSES = (Refused, PermissionError, ValueError)

Hook = Callable[..., Any]


@attrs.frozen
class Hooks:
    """The hooks of a server; each may be plain or async (Trio), or missing.

    Attributes:
        authenticate: `(payload, context)`, once per connection or HTTP request that no token has identified; gives the
            user's id or a `Principal`, None for a stranger.
        authorize: `(principal, store_id, action)` with the action `pull` once per connection or HTTP request, and
            `push` for every push; allows by returning True, and takes the place of the claims.
        validate_payload: `(payload, context)`, once per connection or HTTP request; raising `Refused` refuses it.
        on_push: `(batch, context)` with a list of `HookEvent`; raising `Refused` refuses the push, nothing is stored.
            What it returns is handed to `on_push_res` as `annotation`.
        on_push_res: `(result, context)`; observes.
        on_pull: `(cursor, context)`; raising `Refused` refuses the pull.
        on_pull_res: `(page, context)` for every page of history; observes.
        feed_access: `(principal, table)`, once per client of the change feed and table; gives False for nothing, True
            for every row, a filter as text, or a mapping of `where` (any of these), `columns` (names) and `params`
            (values that stand in the filter as `{name}`), and for tables of `[feed.writes]` `write` (a filter, or
            True) and `write_columns`. It takes the place of `[feed.access]`.
    """

    authenticate: Hook | None = None
    authorize: Hook | None = None
    validate_payload: Hook | None = None
    on_push: Hook | None = None
    on_push_res: Hook | None = None
    on_pull: Hook | None = None
    on_pull_res: Hook | None = None
    feed_access: Hook | None = None

    @property
    def decide_who_connects(self) -> bool:
        """Whether any of them can keep somebody out at the door."""
        return not (self.authenticate is self.authorize is self.validate_payload is None)


def host_of(address: str) -> str:
    """The host in `host:port`, `[host]:port` or `host`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def load_hooks(spec: str, *, again: bool = False) -> Hooks:
    """Load hooks by name.

    Args:
        spec: an importable module (`myapp.sync_hooks`) or the path of a `.py` file.
        again: read the file anew, even if the module was imported before. What it imports itself is not read anew. The
            functions loaded before are not touched: they go on to work.

    Raises:
        StartupError: not found, does not import, or holds none of the names, with the reason.
    """
    names = [field.name for field in attrs.fields(Hooks)]
    try:
        if spec.endswith(".py"):
            module = _load_file(f"livesync_hooks_{Path(spec).stem}", Path(spec))
        else:
            known = sys.modules.get(spec) if again else None
            module = importlib.import_module(spec) if known is None else _load_file(spec, Path(known.__file__ or ""))
    except Exception as error:
        raise StartupError(
            Kind.BAD_CONFIG, f"hooks {spec!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    found = {name: getattr(module, name) for name in names if hasattr(module, name)}
    for name, hook in found.items():
        if not callable(hook):
            raise StartupError(Kind.BAD_CONFIG, f"hooks {spec!r}: {name} is not a function")
    if not found:
        raise StartupError(Kind.BAD_CONFIG, f"hooks {spec!r} define none of: {', '.join(names)}")
    return Hooks(**found)


class _AsItIs(importlib.machinery.SourceFileLoader):
    """Reads a file itself, never its compiled copy, which a change within the same second may not reach."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(name: str, path: Path) -> ModuleType:
    """Carry out a file as the module `name`. One that fails leaves the module of that name as it was."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module_spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIs(name, str(path)))
    assert module_spec is not None
    module = importlib.util.module_from_spec(module_spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        _AsItIs(name, str(path)).exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


class HookRunner:
    """Runs hooks: plain ones in threads of their own, all under a deadline."""

    def __init__(
        self, hooks: Hooks, limit_s: float, flood: Flood | None = None, counters: Counters | None = None
    ) -> None:
        """Nothing is asked yet.

        Args:
            hooks: the functions.
            limit_s: how long each may take.
            flood: keeps what they say from filling the log.
            counters: where failures are counted.
        """
        self.hooks = hooks
        self._flood = flood or Flood()
        self._counters = counters or Counters()
        self._limit_s = limit_s
        self._threads = trio.CapacityLimiter(HOOK_THREADS)

    async def ask(self, hook: Hook | None, argument: Any, context: HookContext) -> Refusal | None:
        """Run a hook that may refuse.

        Cancellation ends the wait; a plain function that runs in its thread is left to end by itself.

        Returns:
            None when it agrees or is missing; a refusal when it refused, failed or took too long.
        """
        answer = await self.consult(hook, context.store_id, argument, context)
        return answer if isinstance(answer, Refusal) else None

    async def consult(self, hook: Hook | None, store_id: str, *arguments: Any) -> Any:
        """Run a hook whose answer is wanted. Cancellation as for `ask`.

        Args:
            hook: None for a missing one.
            store_id: for the log.
            arguments: what the hook gets.

        Returns:
            What it returned, None when it is missing; a refusal when it refused, failed or took too long.
        """
        if hook is None:
            return None
        answer = None
        try:
            with trio.move_on_after(self._limit_s) as deadline:
                answer = await self._run(hook, arguments)
        except (Exception, SystemExit) as raised:  # a hook that wants to end the process ends itself
            error = _only_one_of(raised)
            if isinstance(error, _REFUSES):
                return Refusal(Kind.HOOK_REFUSED, str(error) or type(error).__name__)
            return self._failed(hook, store_id, error)
        if deadline.cancelled_caught:
            if self._may_log(hook, "hook cut off"):
                _log.warning("hook cut off", hook=_name(hook), store=store_id, limit_s=self._limit_s)
            return Refusal(Kind.HOOK_TIMEOUT, f"{_name(hook)} did not answer within {self._limit_s:g} s.")
        return answer

    async def tell(self, hook: Hook | None, argument: Any, context: HookContext) -> None:
        """Run a hook that observes: what it raises is logged and changes no answer."""
        refusal = await self.ask(hook, argument, context)
        if refusal is not None and refusal.kind is not Kind.HOOK_FAILED and self._may_log(hook, "hook objected"):
            _log.warning("observing hook failed", hook=_name(hook), store=context.store_id, reason=refusal.message)

    async def authorize(self, context: HookContext, action: str) -> Refusal | None:
        """Ask the `authorize` hook whether the user of `context` may `pull` or `push`: only the answer True allows."""
        answer = await self.consult(self.hooks.authorize, context.store_id, context.user, context.store_id, action)
        if answer is True:
            return None
        if isinstance(answer, Refusal) and answer.kind is not Kind.HOOK_REFUSED:
            return answer
        words = answer.message if isinstance(answer, Refusal) else f"You may not {action} here."
        return Refusal(Kind.NOT_ALLOWED, words)

    def _failed(self, hook: Hook, store_id: str, error: BaseException) -> Refusal:
        """A hook has a fault. Whose it is, and what it says, is nobody's business but the operator's."""
        self._counters.hooks_failed += 1
        if self._may_log(hook, "hook failed"):
            _log.error("hook failed", hook=_name(hook), store=store_id, exc_info=error)
        return FAILED

    def _may_log(self, hook: Hook | None, line: str) -> bool:
        return self._flood.allows(_name(hook), line, trio.current_time())

    async def _run(self, hook: Hook, arguments: tuple[Any, ...]) -> Any:
        if inspect.iscoroutinefunction(inspect.unwrap(hook)):
            return await hook(*arguments)
        # In a tuple, because Trio refuses a thread's function that returns a coroutine.
        (answer,) = await trio.to_thread.run_sync(
            lambda: (hook(*arguments),), abandon_on_cancel=True, limiter=self._threads
        )
        if inspect.isawaitable(answer):  # a callable object or partial around an async function
            return await answer
        return answer


def _name(hook: Hook | None) -> str:
    return getattr(hook, "__name__", repr(hook))


def _only_one_of(error: BaseException) -> BaseException:
    """What a nursery of the hook has wrapped, if it is one exception alone."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
