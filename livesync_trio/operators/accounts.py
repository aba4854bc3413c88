"""Operators as they are kept: accounts by address, and the list of those who belong to the server.

Two kinds of records, so that others can have accounts later: an *account* is a person with a password; the *members* of
something are the accounts that may do something there. Operators are the members of the server itself. All of these
are one record, so that of two servers that change it at once one begins anew, and an owner is always left.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final

import attrs
import msgspec

from livesync_trio.config import Secret
from livesync_trio.config.console import check_password, email_read
from livesync_trio.operators.passwords import OF_NOBODY, Passwords
from livesync_trio.operators.roles import Operator, Role
from livesync_trio.storage.base import NO_RECORD
from livesync_trio.store.records import Moved, Records

ACCOUNT: Final = "account"
MEMBERS: Final = "members"
OF_THE_SERVER: Final = "server"

OPERATORS_MAX: Final = 200

_TRIES: Final = 8
"""How often a change is begun anew because somebody else changed the same record."""

_BEING_MADE_S: Final = 60.0
"""An account without membership that is younger is being made by somebody else; an older one was left by a crash."""


class Wrong(Exception):
    """It cannot be done; the message says why, for the operator."""


class _Account(msgspec.Struct, frozen=True):
    id: str
    email: str
    password: str
    created_at: float
    epoch: int = 0


class _Member(msgspec.Struct, frozen=True):
    id: str
    email: str
    role: Role


@attrs.frozen
class _Found:
    """A record as it was read."""

    account: _Account
    version: int


class Operators:
    """Those who may sign in."""

    def __init__(self, records: Records, passwords: Passwords, now: Callable[[], float] = time.time) -> None:
        """Nothing is read yet. `now`: seconds of the Unix epoch."""
        self._records = records
        self._passwords = passwords
        self._now = now

    async def all(self) -> list[Operator]:
        """Every operator, in the order of their addresses. Raises StorageUnavailable."""
        members, _ = await self._members()
        found = [await self._of_member(member) for member in members]
        return sorted((each for each in found if each is not None), key=lambda each: each.email)

    async def find(self, email: str) -> Operator | None:
        """The operator of an address. Raises StorageUnavailable."""
        try:
            found = await self._account(email_read(email))
        except ValueError:
            return None
        return await self._operator(None if found is None else found.account)  # reads as much for nobody

    async def create(self, email: str, password: Secret, role: Role, *, first: bool = False) -> Operator:
        """Make an operator.

        Args:
            email: his or her address.
            password: to sign in with.
            role: what he or she is to be.
            first: only if there is nobody yet.

        Raises:
            Wrong: not with this address or password, or not any more.
            Busy, StorageUnavailable: try again later.
        """
        email = _email(email)
        _check(password, email)
        hashed = await self._passwords.hashed(password)
        before = await self._account(email)
        if before is not None:
            if await self._operator(before.account) is not None:
                raise Wrong(f"{email} is an operator already.")
            if self._now() - before.account.created_at < _BEING_MADE_S:
                raise Wrong(f"{email} is being made an operator at this moment. Try again in a minute.")
        account = _Account(secrets.token_hex(8), email, hashed, self._now())
        version = await self._put(account, NO_RECORD if before is None else before.version)

        def added(members: list[_Member]) -> list[_Member]:
            if first and members:
                raise Wrong("There is an operator already. Sign in, or ask an owner.")
            if len(members) >= OPERATORS_MAX:
                raise Wrong(f"There are {OPERATORS_MAX} operators already.")
            return [*members, _Member(account.id, email, role)]

        try:
            await self._change_members(added)
        except Wrong:
            await self._records.put(ACCOUNT, email, None, version)
            raise
        return _told(account, role)

    async def set_role(self, email: str, role: Role) -> Operator:
        """Give an operator another role; the last owner stays one. Raises Wrong, StorageUnavailable."""
        operator = await self._known(email)
        await self._change_members(
            lambda members: [
                msgspec.structs.replace(each, role=role) if each.id == operator.account_id else each
                for each in _with(members, operator)
            ]
        )
        return attrs.evolve(operator, role=role)

    async def set_password(self, email: str, password: Secret) -> Operator:
        """Give an operator another password, and end all sessions. Raises Wrong, Busy, StorageUnavailable."""
        email = _email(email)
        _check(password, email)
        hashed = await self._passwords.hashed(password)
        return await self._change_account(email, hashed)

    async def end_sessions(self, email: str) -> Operator:
        """End all sessions of an operator at once, on every server. Raises Wrong, StorageUnavailable."""
        return await self._change_account(_email(email), None)

    async def remove(self, email: str) -> Operator:
        """Remove an operator; the last owner stays. Gives who it was. Raises Wrong, StorageUnavailable."""
        operator = await self._known(email)
        await self._change_members(
            lambda members: [each for each in _with(members, operator) if each.id != operator.account_id]
        )
        found = await self._account(operator.email)
        if found is not None and found.account.id == operator.account_id:
            await self._delete(found)
        return operator

    async def authenticate(self, email: str, password: Secret) -> Operator | None:
        """The operator whose address and password these are; None takes as long. Raises Busy, StorageUnavailable."""
        try:
            found = await self._account(email_read(email))
        except ValueError:
            found = await self._account("")
        operator = await self._operator(None if found is None else found.account)
        kept = OF_NOBODY if found is None else found.account.password
        return operator if await self._passwords.matches(kept, password) else None

    # --- records -----------------------------------------------------------------------------------------------------

    async def _account(self, email: str) -> _Found | None:
        record = await self._records.get(ACCOUNT, email)
        return None if record is None else _Found(msgspec.json.decode(record.value, type=_Account), record.version)

    async def _members(self) -> tuple[list[_Member], int]:
        record = await self._records.get(MEMBERS, OF_THE_SERVER)
        if record is None:
            return [], NO_RECORD
        return msgspec.json.decode(record.value, type=list[_Member]), record.version

    async def _operator(self, account: _Account | None) -> Operator | None:
        members, _ = await self._members()
        role = next((each.role for each in members if account is not None and each.id == account.id), None)
        return None if account is None or role is None else _told(account, role)

    async def _of_member(self, member: _Member) -> Operator | None:
        found = await self._account(member.email)
        return None if found is None or found.account.id != member.id else _told(found.account, member.role)

    async def _known(self, email: str) -> Operator:
        operator = await self.find(email)
        if operator is None:
            raise Wrong("There is no such operator.")
        return operator

    async def _change_account(self, email: str, password: str | None) -> Operator:
        for _ in range(_TRIES):
            operator = await self._known(email)
            found = await self._account(email)
            if found is not None:
                before = found.account
                account = msgspec.structs.replace(before, password=password or before.password, epoch=before.epoch + 1)
                try:
                    await self._records.put(ACCOUNT, email, msgspec.json.encode(account), found.version)
                except Moved:
                    continue
                return attrs.evolve(operator, epoch=account.epoch)
        raise Wrong("Others change the same operator at this moment. Try again.")

    async def _change_members(self, change: Callable[[list[_Member]], list[_Member]]) -> None:
        for _ in range(_TRIES):
            members, version = await self._members()
            wanted = change(members)
            await self._leave_an_owner(members, wanted)
            try:
                await self._records.put(MEMBERS, OF_THE_SERVER, msgspec.json.encode(wanted), version)
            except Moved:
                continue
            return
        raise Wrong("Others change operators at this moment. Try again.")

    async def _leave_an_owner(self, before: list[_Member], wanted: list[_Member]) -> None:
        """Refuse to change the last owner. Raises Wrong."""
        if not before:
            return
        for member in wanted:
            if member.role is Role.OWNER and await self._of_member(member) is not None:
                return
        if any(member.role is Role.OWNER for member in wanted if member not in before):
            return  # the one who is being added now
        raise Wrong("This is the last owner. Make somebody else an owner first.")

    async def _put(self, account: _Account, expected: int) -> int:
        try:
            return await self._records.put(ACCOUNT, account.email, msgspec.json.encode(account), expected)
        except Moved:
            raise Wrong(f"Others make {account.email} an operator at this moment. Try again.") from None

    async def _delete(self, found: _Found) -> None:
        try:
            await self._records.put(ACCOUNT, found.account.email, None, found.version)
        except Moved:
            return  # somebody makes a new one of the same address


def _told(account: _Account, role: Role) -> Operator:
    return Operator(account.id, account.email, role, account.created_at, account.epoch)


def _with(members: list[_Member], operator: Operator) -> list[_Member]:
    """The members, among whom somebody must still be. Raises Wrong."""
    if all(each.id != operator.account_id for each in members):
        raise Wrong("There is no such operator.")
    return members


def _email(text: str) -> str:
    try:
        return email_read(text)
    except ValueError:
        raise Wrong("The address is not an e-mail address.") from None


def _check(password: Secret, email: str) -> None:
    try:
        check_password(password, email)
    except ValueError as error:
        raise Wrong(f"The password cannot be used: {error}.") from None
