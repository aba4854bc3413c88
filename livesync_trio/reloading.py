"""SIGHUP: the configuration is read again, and takes effect as a whole or not at all.

Everything is loaded first, in a thread, while the server goes on. What is judged is what will be in force: settings
that need a restart keep the value they have. Then it is put in place in one step of the Trio thread, between two
requests. A mistake anywhere leaves everything as it was, and the log says which.

What is read may be a program (hooks), and may hang. Then its thread is left to itself after a while: no reload may keep
the server from ending.

Connections that are open keep what they were admitted with: their token, their hooks. The admin secret counts for all
of them at once.
"""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio

from livesync_trio.access.authentication import Authentication
from livesync_trio.access.pages import Pages
from livesync_trio.audit import Audit
from livesync_trio.config import SETTINGS, Config, exposure_problems, exposure_warnings
from livesync_trio.connection.context import log_push
from livesync_trio.errors import Kind, StartupError
from livesync_trio.hooks import HookRunner, Hooks
from livesync_trio.telemetry import configure_logging, get_logger
from livesync_trio.transport.door import Door
from livesync_trio.transport.tls import Tls

if TYPE_CHECKING:
    from livesync_trio.config import FeedTable
    from livesync_trio.traces.spans import Traces

RELOAD_LIMIT_S: Final = 30.0
RELOAD_THREADS: Final = 4
"""How long a reload may take to read what it wants, hooks above all, which are programs; and how many reloads may hang
before no more is begun."""

_log = get_logger("app")
_T = TypeVar("_T")

Reread = Callable[[], tuple[Config, Hooks]]
"""Reads the configuration and the hooks from where they came, checked; raises StartupError. Called in a thread."""

RELOADABLE: Final = frozenset(
    {
        *("auth_token", "auth_cookie", "admin_secret", "metrics_token"),
        *("jwt_secret", "jwt_keys", "jwt_algorithms", "jwt_issuer", "jwt_audience", "jwt_leeway_s"),
        *("jwt_principal_claim", "jwt_stores_claim", "jwt_read_stores_claim", "jwt_stores", "jwt_read_stores"),
        *("hooks", "hook_limit_s", "cors_origins", "tls_cert", "tls_key", "audit_log", "audit_required"),
        *("log_level", "log_format", "insecure", "webhooks", "webhook_private_hosts"),
        *("viewers_see_payloads", "console_session_s", "feed"),
    }
)
"""Settings that a reload changes; the others need a restart."""


@attrs.frozen
class Reloading:
    """What a reload would change, or has changed; both by the names of settings.

    Attributes:
        changed: what takes effect at once.
        needs_restart: what differs, but stays as it is.
        problem: why nothing can change; None: nothing is in the way.
    """

    changed: list[str] = attrs.field(factory=list)
    needs_restart: list[str] = attrs.field(factory=list)
    problem: str | None = None


@attrs.frozen
class _Found:
    """What was read and fits together. `config` is what will be in force."""

    config: Config
    hooks: Hooks
    changed: list[str]
    needs_restart: list[str]


@attrs.frozen
class _Loaded:
    """What can be put in place."""

    found: _Found
    runner: HookRunner
    authentication: Authentication
    pages: Pages
    certificate: Callable[[], None]
    audit: Callable[[], None]
    feed: Callable[[], None]


class Reloader:
    """What of a running server can be exchanged."""

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        reread: Reread | None,
        door: Door,
        tls: Tls | None,
        *,
        traces: "Traces | None" = None,
        webhooks: Callable[[Config], None] | None = None,
        feed: "Callable[[FeedTable | None], Callable[[], None]] | None" = None,
    ) -> None:
        """Put together what a reload needs.

        Args:
            config: the configuration in force.
            hooks: the hooks in force.
            reread: reads both again; None: they stay, only the files they name are read again.
            door: what clients meet.
            tls: the certificate; None where there is none.
            traces: makes spans of pushes; None: nobody does.
            webhooks: puts those of a configuration into effect; None: nobody does.
            feed: looks at the rules of a change feed, and gives what puts them into effect; None: there is none.
        """
        self.config = config
        """The configuration in force, with what later reloads changed of it."""
        self._hooks = hooks
        self._reread = reread
        self._door = door
        self._tls = tls
        self._traces = traces
        self._webhooks = webhooks
        self._feed = feed
        self._threads = trio.CapacityLimiter(RELOAD_THREADS)
        self._watch_pushes()

    @property
    def worthwhile(self) -> bool:
        """Whether there is anything to read again. Otherwise SIGHUP keeps its meaning, which is the end."""
        return self._reread is not None or self._tls is not None or self._door.shared.audit.on

    async def run(
        self,
        reloading: Callable[[], AbstractContextManager[None]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Reload on every SIGHUP until cancelled. `reloading` surrounds each, for the service manager.

        The signal also says that the terminal was closed in which the server was started: then it is to stop, unless
        it was told to ignore that (nohup). Reports itself started when the signal is listened for.
        """
        in_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if in_terminal and not _has_terminal():
                    _log.info("the terminal was closed")
                    signal.raise_signal(signal.SIGTERM)
                    return
                with reloading():
                    await self.reload()

    def takes_effect(self, name: str) -> bool:
        """Whether a reload changes a setting."""
        return name in RELOADABLE

    async def look(self) -> Reloading:
        """What a reload would change now. Nothing is changed, nothing is opened but what is read."""
        found = await self._in_thread(self._compare)
        return Reloading(problem=found) if isinstance(found, str) else Reloading(found.changed, found.needs_restart)

    async def reload(self) -> Reloading:
        """Read everything again; with a problem, nothing has changed, and the log says why."""
        loaded = await self._in_thread(self._load)
        if isinstance(loaded, str):
            _log.error("reload failed, everything stays as it was", reason=loaded)
            return Reloading(problem=loaded)
        self.config = loaded.found.config
        self._put_in_place(loaded)
        changed, needs_restart = loaded.found.changed, loaded.found.needs_restart
        _log.info("reloaded", changed=changed, needs_restart=needs_restart)
        return Reloading(changed, needs_restart)

    async def _in_thread(self, work: Callable[[], _T]) -> _T | str:
        """Do something that reads and may hang; why it could not be done, in a sentence, if it could not."""
        if not self._threads.available_tokens:
            return f"{RELOAD_THREADS} reloads before it hang"
        try:
            with trio.move_on_after(RELOAD_LIMIT_S):
                return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except (Exception, SystemExit) as error:  # a hooks file is a program, and may do anything
            return str(error) if isinstance(error, StartupError | OSError) else f"{type(error).__name__}: {error}"
        return f"{'hooks' if self._reading_hooks else 'configuration'} did not load in {RELOAD_LIMIT_S:g} s"

    @property
    def _reading_hooks(self) -> bool:
        """Whether what is read again may be a program."""
        return self._reread is not None and self.config.hooks is not None

    # --- loading: in a thread, changes nothing ---------------------------------------------------------------------

    def _compare(self) -> _Found:
        """What is there now, and how it differs from what is in force."""
        wanted, hooks = (self.config, self._hooks) if self._reread is None else self._reread()
        differing = [setting.name for setting in SETTINGS if _differ(self.config, wanted, setting.name)]
        needs_restart = [name for name in differing if self._needs_restart(name, wanted)]
        kept = {name: getattr(self.config, name) for name in needs_restart}
        origins = {
            **wanted.origins,
            **{name: self.config.origins[name] for name in kept if name in self.config.origins},
        }
        config = attrs.evolve(wanted, **kept, origins=origins)
        if needs_restart:
            self._refuse_problems(config, hooks, needs_restart)
        changed = [name for name in differing if name not in needs_restart]
        return _Found(config, hooks, changed, needs_restart)

    def _load(self) -> _Loaded:
        found = self._compare()
        config, hooks = found.config, found.hooks
        runner = HookRunner(hooks, config.hook_limit_s, self._door.shared.flood, self._door.shared.counters)
        authentication = Authentication.of(config, runner, before=self._door.access.authentication)
        pages = Pages.of(config, hooks.decide_who_connects)
        certificate = _nothing
        if self._tls is not None and config.tls_cert is not None and config.tls_key is not None:
            certificate = self._tls.prepare(config.tls_cert, config.tls_key)
        feed = _nothing if self._feed is None else self._feed(config.feed)
        audit = prepare_audit(self._door.shared.audit, config)  # the last, since it opens something
        return _Loaded(found, runner, authentication, pages, certificate, audit, feed)

    def _refuse_problems(self, config: Config, hooks: Hooks, needs_restart: list[str]) -> None:
        """What was read is sound as a whole, but only a part of it can take effect: judge that together with the rest.

        Raises:
            StartupError: it must not be in force.
        """
        problems = [f"{env}: {wrong}" for env, wrong in config.misfits()]
        problems += exposure_problems(config, hooks.decide_who_connects)
        if problems:
            raise StartupError(
                Kind.BAD_CONFIG,
                f"{', '.join(needs_restart)} would stay as before until a restart, and then: {'; '.join(problems)}",
            )

    # --- taking effect: in the Trio thread, cannot fail --------------------------------------------------------------

    def _put_in_place(self, loaded: _Loaded) -> None:
        config, shared = self.config, self._door.shared
        loaded.certificate()
        loaded.audit()
        shared.hooks, shared.admin_secret = loaded.runner, config.admin_secret
        access = self._door.access
        access.authentication, access.pages = loaded.authentication, loaded.pages
        self._door.protect_metrics(config.metrics_token)
        self._hooks = loaded.runner.hooks
        self._watch_pushes()
        if self._webhooks is not None:
            self._webhooks(config)
        loaded.feed()
        for warning in exposure_warnings(config):
            _log.warning("a setting is weak", reason=warning)
        if self._reread is not None:  # else the log belongs to the program that embeds the server
            configure_logging(config.log_level, config.log_format)

    def _watch_pushes(self) -> None:
        """Tell of each push whoever wants to know at this log level."""
        lines = [log_push] if self.config.log_level == "debug" else []
        spans = [] if self._traces is None else [self._traces.tell]
        self._door.shared.watch.tell(*lines, *spans)

    def _needs_restart(self, name: str, wanted: Config) -> bool:
        """Whether a setting cannot be changed now: most of them, and those with which a whole part comes or goes."""
        if name in ("tls_cert", "tls_key"):
            return (self._tls is None) != (wanted.tls_cert is None)
        if name == "admin_secret":
            return not self.config.has_control_plane
        if name == "feed":
            before = self.config.feed
            return before is None or wanted.feed is None or not before.differs_in_rights_only(wanted.feed)
        return name not in RELOADABLE


def prepare_audit(audit: Audit, config: Config) -> Callable[[], None]:
    """Open the record anew, under the same name or another. Raises StartupError when it cannot be opened."""
    try:
        return audit.prepare(config.audit_log, required=config.audit_required)
    except OSError as error:
        raise StartupError(Kind.BAD_CONFIG, f"the audit log cannot be opened: {error.strerror or error}") from None


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal, whatever its standard streams are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)  # nobody knows; to take it for closed would end the server
    return True


def _differ(one: Config, other: Config, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def _nothing() -> None:
    """There is nothing to put in place."""
