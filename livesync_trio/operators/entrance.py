"""Getting in: signing in and out, the one-time link that makes the first operator, and what of it is recorded.

Puts together what the modules beside it keep. Expected failures are refusals (invariant 9), which tell a stranger
nothing about who has an account.
"""

import enum
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

import attrs
import trio

from livesync_trio.audit import Audit
from livesync_trio.config import Config, Rate, Secret
from livesync_trio.config.console import email_read
from livesync_trio.errors import Kind, Refusal, TooFast
from livesync_trio.fairness.buckets import address_group
from livesync_trio.hooks import host_of
from livesync_trio.operators.accounts import Operators, Wrong
from livesync_trio.operators.passwords import Busy, Passwords
from livesync_trio.operators.roles import Operator, Role
from livesync_trio.operators.sessions import Session, Sessions
from livesync_trio.operators.throttle import BY_ACCOUNT, BY_ADDRESS, MustWait, Throttle
from livesync_trio.operators.tokens import Tokens
from livesync_trio.store.readers import ThreadReaders
from livesync_trio.store.records import Commits, Records
from livesync_trio.telemetry import get_logger

FIRST_OPERATOR_LIMIT_S: Final = 1800.0


class LinkState(enum.Enum):
    """What has become of the link."""

    NOT_OFFERED = enum.auto()
    OFFERED = enum.auto()
    OVER = enum.auto()


class FirstOperator:
    """The link of this process."""

    def __init__(self) -> None:
        """None is offered yet."""
        self.state = LinkState.NOT_OFFERED
        self._digest = b""
        self._until_s = 0.0

    def offer(self) -> str:
        """Make the link good, and give what it holds."""
        token = secrets.token_urlsafe(32)
        self._digest = _digest(token)
        self._until_s = trio.current_time() + FIRST_OPERATOR_LIMIT_S
        self.state = LinkState.OFFERED
        return token

    def opens(self, token: str) -> bool:
        """Whether a link is good now."""
        fits = hmac.compare_digest(self._digest, _digest(token))
        return fits and self.state is LinkState.OFFERED and trio.current_time() < self._until_s

    def close(self) -> None:
        """It was used, or there is an operator by now: it never opens anything again."""
        self.state = LinkState.OVER


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


_log = get_logger("operators")

BUSY: Final = Refusal(Kind.TOO_MANY_REQUESTS, "Too many people sign in at this moment. Try again.")
WRONG: Final = Refusal(Kind.UNAUTHENTICATED, "The address or the password is wrong.")
"""The same whether there is such an account or not."""

NO_LINK: Final = Refusal(
    Kind.NOT_ALLOWED, "This link is not good, or not any more. Start the server again for a new one, or sign in."
)


_NOBODY: Final = Operator("0" * 16, "", Role.VIEWER, 0.0)


@attrs.frozen
class Visitor:
    """From where somebody comes.

    Attributes:
        address: `host:port`.
        agent: what the browser calls itself.
        counted: whether wrong passwords of this address are counted; not for users of this machine at an address that
            nobody else reaches.
    """

    address: str
    agent: str = ""
    counted: bool = True

    @property
    def host(self) -> str:
        """The address without port."""
        return host_of(self.address)

    @property
    def group(self) -> str:
        """Under what it is counted; IPv6 by network."""
        return address_group(self.host) or self.host


@attrs.frozen
class SignedIn:
    """Somebody is in: the value of the cookie, and the session that it stands for."""

    cookie: str = attrs.field(repr=False)
    session: Session


class Entrance:
    """How people and programs get in to one server."""

    def __init__(
        self, writer: Commits, readers: ThreadReaders, audit: Audit, now: Callable[[], float] = time.time
    ) -> None:
        """Nothing is read yet. `readers`: of its own; closed by it. `now`: seconds of the Unix epoch."""
        self._audit = audit
        self._readers = readers
        records = Records(writer, readers)
        self.passwords = Passwords()
        self.operators = Operators(records, self.passwords, now)
        self.sessions = Sessions(records, self.operators, now)
        self.tokens = Tokens(records, self.operators, now)
        self.throttle = Throttle(records, now)
        self.first = FirstOperator()

    def close(self) -> None:
        """Release what it reads with; called when nobody asks any more."""
        self._readers.close()

    async def prepare(self, config: Config) -> str | None:
        """Make the operator that the configuration names, if there is none of the address.

        Returns:
            What the one-time link holds, if nobody can sign in yet.

        Raises:
            StorageUnavailable: the database cannot be used.
        """
        if config.admin_email is not None and config.admin_password is not None:
            await self._make_named(config.admin_email, config.admin_password)
        return None if await self.operators.all() else self.first.offer()

    async def _make_named(self, email: str, password: Secret) -> None:
        if await self.operators.find(email) is not None:
            return
        try:
            operator = await self.operators.create(email, password, Role.OWNER)
        except (Wrong, Busy) as wrong:  # another server of this database makes it at this moment, or there are too many
            _log.warning("the operator of ADMIN_EMAIL was not made", reason=str(wrong) or "too many at once")
            return
        self.record("operator", "", operator.email, did="create", operator=operator.email, role=str(operator.role))
        _log.info("the operator of ADMIN_EMAIL was made", role=str(operator.role))

    # --- people ------------------------------------------------------------------------------------------------------

    async def sign_in(self, email: str, password: Secret, visitor: Visitor, lifetime_s: float) -> SignedIn | Refusal:
        """Check an address and a password, and begin a session. Raises StorageUnavailable."""
        buckets = await self._buckets(email, visitor)
        full: list[str] = []
        for sort, who, rate in buckets:
            answer = await self.throttle.charge(sort, who, rate)
            if isinstance(answer, MustWait):
                return TooFast.of("Too many wrong passwords.", answer.wait_s)
            if answer.last:
                full.append(sort)
        try:
            operator = await self.operators.authenticate(email, password)
        except Busy:
            return BUSY
        if operator is None:
            known = await self.operators.find(email)  # what else was typed there may be a password
            user = None if known is None else known.email
            self.record("login-failed", visitor.address, user)
            for sort in full:
                self.record("throttled", visitor.address, user, by=sort)
            return WRONG
        for sort, who, _ in buckets:
            await self.throttle.forgive(sort, who)
        return await self._let_in(operator, visitor, lifetime_s)

    async def make_first(
        self, token: str, email: str, password: Secret, visitor: Visitor, lifetime_s: float
    ) -> SignedIn | Refusal:
        """Make the first operator by the one-time link, and let him or her in. Raises StorageUnavailable."""
        if not self.first.opens(token):
            self.record("login-failed", visitor.address, None, by="first link")
            return NO_LINK
        try:  # of several at once one is the first: the database decides
            operator = await self.operators.create(email, password, Role.OWNER, first=True)
        except Wrong as wrong:
            if await self.operators.all():
                self.first.close()
            return Refusal(Kind.BAD_PARAMETER, str(wrong))
        except Busy:
            return BUSY
        self.first.close()
        self.record("operator", visitor.address, operator.email, did="create", operator=operator.email, role="owner")
        return await self._let_in(operator, visitor, lifetime_s)

    async def check_own_password(self, operator: Operator, password: Secret, visitor: Visitor) -> Refusal | None:
        """Whether who is signed in is still the one who signed in. Counted like signing in."""
        answer = await self.throttle.charge("account", f"{operator.email}\nsigned in", BY_ACCOUNT)
        if isinstance(answer, MustWait):
            return TooFast.of("Too many wrong passwords.", answer.wait_s)
        try:
            if await self.operators.authenticate(operator.email, password) is None:
                self.record("login-failed", visitor.address, operator.email, by="change of the password")
                return Refusal(Kind.BAD_PARAMETER, "The present password is wrong. Nothing was changed.")
        except Busy:
            return BUSY
        await self.throttle.forgive("account", f"{operator.email}\nsigned in")
        return None

    async def sign_out(self, session: Session, address: str) -> None:
        """End a session. Raises StorageUnavailable."""
        await self.sessions.end(session.operator, session.id)
        self.record("logout", address, session.operator.email)

    async def sign_out_everywhere(self, operator: Operator, address: str, by: str | None) -> None:
        """End all sessions of an operator, on every server at once. Raises Wrong, StorageUnavailable."""
        self.record("logout", address, by, operator=operator.email, everywhere="true")
        await self.operators.end_sessions(operator.email)
        await self.sessions.clear(operator)

    def record(self, act: str, address: str, user: str | None, **more: str) -> None:
        """Record who did what; see `Audit.record`."""
        self._audit.record(act, store="", address=address, user=user, **more)

    async def _let_in(self, operator: Operator, visitor: Visitor, lifetime_s: float) -> SignedIn:
        cookie, session = await self.sessions.start(operator, visitor.host, visitor.agent, lifetime_s)
        self.record("login", visitor.address, operator.email, session=session.id)
        return SignedIn(cookie, session)

    async def _buckets(self, email: str, visitor: Visitor) -> list[tuple[str, str, Rate]]:
        """Where an attempt counts.

        An account's own bucket could be kept full by somebody who knows the address, to keep its owner out. So an
        address where the owner is signed in counts apart.
        """
        operator = await self.operators.find(email)
        sessions = await self.sessions.of(operator or _NOBODY)  # of nobody as well: the answer takes as long
        known = any((address_group(each.address) or each.address) == visitor.group for each in sessions)
        account = _name_of(email) + (f"\n{visitor.group}" if known else "")
        buckets = [("address", visitor.group, BY_ADDRESS)] if visitor.counted else []
        return [*buckets, ("account", account, BY_ACCOUNT)]


def _name_of(email: str) -> str:
    """What an address is counted as: the same for all ways to write it."""
    try:
        return email_read(email)
    except ValueError:
        return ""
