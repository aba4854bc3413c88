"""Operators: signing in and out, and who there is."""

from typing import Annotated, Final

from msgspec import UNSET, Meta, UnsetType

from livesync_trio.admin.declaring import Answer, Caller, CallerKind, Nothing, Request, Time, refused
from livesync_trio.admin.gate import clear_cookie, set_cookie
from livesync_trio.admin.server_view import ServerView, wire_time_of
from livesync_trio.config import Secret
from livesync_trio.config.console import EMAIL_MAX_CHARACTERS, PASSWORD_MAX_BYTES
from livesync_trio.errors import Kind, Refusal
from livesync_trio.operators.accounts import Wrong
from livesync_trio.operators.entrance import BUSY, Entrance, SignedIn, Visitor
from livesync_trio.operators.passwords import Busy
from livesync_trio.operators.roles import Operator, Right, Role

Email = Annotated[str, Meta(max_length=EMAIL_MAX_CHARACTERS, description="The e-mail address of an operator.")]
Password = Annotated[str, Meta(max_length=PASSWORD_MAX_BYTES, description="A password.")]

NO_SESSION: Final = refused("This is for browsers in which an operator is signed in.")


class _HoldsPassword(Request, frozen=True):
    def __repr__(self) -> str:
        """Without what must not be seen."""
        return type(self).__name__


class Login(_HoldsPassword, frozen=True):
    """Who wants to sign in."""

    email: Email
    password: Password


class MakeFirstOperator(_HoldsPassword, frozen=True):
    """Who wants to be the first operator, by the one-time link."""

    token: Annotated[str, Meta(max_length=100, description="What the link holds.")]
    email: Email
    password: Password


class CreateOperator(_HoldsPassword, frozen=True):
    """Whom to make an operator."""

    email: Email
    password: Password
    role: Role


class SetOperatorRole(Request, frozen=True):
    """Which operator gets which role."""

    email: Email
    role: Role


class SetOperatorPassword(_HoldsPassword, frozen=True):
    """Whose password is to be which. Who changes the own one says the present one, too."""

    email: Email
    password: Password
    present: Password | UnsetType = UNSET


class RemoveOperator(Request, frozen=True):
    """Which operator to remove; the address twice."""

    email: Email
    confirm: Email


class SignOutEverywhere(Request, frozen=True):
    """Whose sessions to end: those of an operator, or one's own."""

    email: Email | UnsetType = UNSET


class WhoAmI(Answer, frozen=True):
    """Who asks, and what may be done. `csrf` goes along with whatever a signed-in browser changes."""

    kind: str
    email: str | None
    role: str
    rights: list[str]
    session_id: str | None
    expires_at: Time | None
    csrf: str | None


class OperatorInfo(Answer, frozen=True):
    """One operator."""

    email: str
    role: str
    created_at: Time


class OperatorPage(Answer, frozen=True):
    """All operators."""

    operators: list[OperatorInfo]
    next: None = None


class SignedOut(Answer, frozen=True):
    """Whose sessions have ended."""

    email: str
    signed_out: bool = True


# --- in and out ------------------------------------------------------------------------------------------------------


async def login(server: ServerView, asked: Login, caller: Caller) -> WhoAmI | Refusal:
    """Sign in: the answer sets the cookie of a new session."""
    entrance = entrance_of(server)
    lifetime_s = server.config().console_session_s
    answer = await entrance.sign_in(asked.email, Secret(asked.password), visitor(caller), lifetime_s)
    return await _let_in(server, caller, answer)


async def make_first_operator(server: ServerView, asked: MakeFirstOperator, caller: Caller) -> WhoAmI | Refusal:
    """Make the first operator, an owner, by the one-time link that the server showed when it started."""
    entrance = entrance_of(server)
    lifetime_s = server.config().console_session_s
    password = Secret(asked.password)
    answer = await entrance.make_first(asked.token, asked.email, password, visitor(caller), lifetime_s)
    return await _let_in(server, caller, answer)


async def logout(server: ServerView, _asked: Nothing, caller: Caller) -> SignedOut | Refusal:
    """Sign out: the session of the cookie ends."""
    if caller.session is None:
        return NO_SESSION
    await entrance_of(server).sign_out(caller.session, caller.address)
    caller.answer_headers.append(clear_cookie(secure=caller.secure))
    return SignedOut(email=caller.session.operator.email)


async def logout_everywhere(server: ServerView, asked: SignOutEverywhere, caller: Caller) -> SignedOut | Refusal:
    """End all sessions of an operator, on every server at once; without `email`, the own ones."""
    own = None if caller.operator is None else caller.operator.email
    email = own if asked.email is UNSET else asked.email
    if email is None:
        return refused("Say whose sessions are to end: `email`.")
    operator = await entrance_of(server).operators.find(email)
    if operator is None or (operator.email != own and not caller.may(Right.ADMINISTER)):
        return _unknown()
    await entrance_of(server).sign_out_everywhere(operator, caller.address, caller.user)
    if operator.email == own and caller.session is not None:
        caller.answer_headers.append(clear_cookie(secure=caller.secure))
    return SignedOut(email=operator.email)


async def who_am_i(_server: ServerView, _asked: Nothing, caller: Caller) -> WhoAmI:
    """Who you are, and what you may do."""
    return _me(caller)


# --- who there is ----------------------------------------------------------------------------------------------------


async def list_operators(server: ServerView, _asked: Nothing, _caller: Caller) -> OperatorPage:
    """All operators, in the order of their addresses."""
    return OperatorPage(operators=[_told(each) for each in await entrance_of(server).operators.all()])


async def create_operator(server: ServerView, asked: CreateOperator, caller: Caller) -> OperatorInfo | Refusal:
    """Make an operator."""
    try:
        operator = await entrance_of(server).operators.create(asked.email, Secret(asked.password), asked.role)
    except Wrong as wrong:
        return refused(str(wrong))
    except Busy:
        return BUSY
    _record(server, caller, operator, "create", role=str(operator.role))
    return _told(operator)


async def set_operator_role(server: ServerView, asked: SetOperatorRole, caller: Caller) -> OperatorInfo | Refusal:
    """Give an operator another role, from his or her next request on."""
    try:
        operator = await entrance_of(server).operators.set_role(asked.email, asked.role)
    except Wrong as wrong:
        return refused(str(wrong))
    _record(server, caller, operator, "role", role=str(operator.role))
    return _told(operator)


async def set_operator_password(
    server: ServerView, asked: SetOperatorPassword, caller: Caller
) -> OperatorInfo | Refusal:
    """Give an operator another password, and end all of his or her sessions."""
    entrance = entrance_of(server)
    operator = await entrance.operators.find(asked.email)
    own = operator is not None and caller.operator is not None and operator.account_id == caller.operator.account_id
    if operator is None or not (own or caller.may(Right.ADMINISTER)):
        return _unknown()
    if own:
        if asked.present is UNSET or caller.kind is not CallerKind.SESSION:
            return refused("Say the `present` password, too, from a browser in which you are signed in.")
        wrong_one = await entrance.check_own_password(operator, Secret(asked.present), visitor(caller))
        if wrong_one is not None:
            return wrong_one
    try:
        operator = await entrance.operators.set_password(operator.email, Secret(asked.password))
    except Wrong as wrong:
        return refused(str(wrong))
    except Busy:
        return BUSY
    await entrance.sessions.clear(operator)
    _record(server, caller, operator, "password")
    return _told(operator)


async def remove_operator(server: ServerView, asked: RemoveOperator, caller: Caller) -> OperatorInfo | Refusal:
    """Remove an operator; his or her sessions and tokens end at once."""
    if asked.email != asked.confirm:
        return refused("`confirm` must repeat `email`. Nothing was changed.")
    entrance = entrance_of(server)
    try:
        operator = await entrance.operators.remove(asked.email)
    except Wrong as wrong:
        return refused(str(wrong))
    await entrance.sessions.clear(operator)
    _record(server, caller, operator, "remove")
    return _told(operator)


# --- for the modules beside this one ---------------------------------------------------------------------------------


def entrance_of(server: ServerView) -> Entrance:
    """How operators get in; there is such a thing wherever these routes are."""
    assert server.entrance is not None
    return server.entrance


def visitor(caller: Caller) -> Visitor:
    """From where somebody comes."""
    return Visitor(caller.address, caller.headers.get("user-agent", ""), counted=not caller.local)


async def _let_in(server: ServerView, caller: Caller, answer: SignedIn | Refusal) -> WhoAmI | Refusal:
    if isinstance(answer, Refusal):
        return answer
    await enter(server, caller, answer)
    session = answer.session
    rights = rights_of(server, session.operator)
    return _me(Caller({}, "", CallerKind.SESSION, rights, session.operator, session))


async def enter(server: ServerView, caller: Caller, answer: SignedIn) -> None:
    """Give a browser its new session, and end the one that it had."""
    if caller.session is not None:
        await entrance_of(server).sign_out(caller.session, caller.address)
    lifetime_s = server.config().console_session_s
    caller.answer_headers.append(set_cookie(answer.cookie, lifetime_s, secure=caller.secure))


def rights_of(server: ServerView, operator: Operator) -> frozenset[Right]:
    """What an operator may do under the configuration in force."""
    return operator.rights(viewers_see_payloads=server.config().viewers_see_payloads)


def _unknown() -> Refusal:
    return Refusal(Kind.NOT_FOUND, "There is no such operator.")


def _me(caller: Caller) -> WhoAmI:
    session = caller.session
    return WhoAmI(
        kind=str(caller.kind),
        email=caller.user,
        role=str(caller.role),
        rights=[str(right) for right in Right if caller.may(right)],
        session_id=None if session is None else session.id,
        expires_at=None if session is None else wire_time_of(session.expires_at),
        csrf=None if session is None else session.csrf,
    )


def _told(operator: Operator) -> OperatorInfo:
    return OperatorInfo(email=operator.email, role=str(operator.role), created_at=wire_time_of(operator.created_at))


def _record(server: ServerView, caller: Caller, operator: Operator, did: str, **more: str) -> None:
    entrance_of(server).record("operator", caller.address, caller.user, did=did, operator=operator.email, **more)
