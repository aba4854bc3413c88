"""Where operators are signed in, and ending one of these sessions."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from livesync_trio.admin.declaring import Answer, Caller, Request, Time
from livesync_trio.admin.operators import Email, entrance_of
from livesync_trio.admin.server_view import ServerView, wire_time_of
from livesync_trio.errors import Kind, Refusal
from livesync_trio.operators.roles import Operator, Right
from livesync_trio.operators.sessions import Session


class ListSignIns(Request, frozen=True):
    """Whose sessions: those of an operator, or one's own."""

    email: Email | UnsetType = UNSET


class SignIn(Answer, frozen=True):
    """A browser in which an operator is signed in."""

    session_id: str
    email: str
    created_at: Time
    expires_at: Time
    address: str
    agent: str
    current: bool


class SignInPage(Answer, frozen=True):
    """All sessions of one operator, or of all of them."""

    sessions: list[SignIn]
    next: None = None


class EndSignIn(Request, frozen=True):
    """Which session to end, and whose it is."""

    session_id: Annotated[str, Meta(min_length=1, max_length=64, description="What the list says.")]
    email: Email | UnsetType = UNSET


class SignInEnded(Answer, frozen=True):
    """The session that has ended."""

    session_id: str
    ended: bool = True


async def list_sign_ins(server: ServerView, asked: ListSignIns, caller: Caller) -> SignInPage | Refusal:
    """Sessions that go on, newest first: those of `email`, or one's own; of all operators for the admin secret."""
    sessions = entrance_of(server).sessions
    if asked.email is UNSET and caller.operator is None:
        everybody = await entrance_of(server).operators.all() if caller.may(Right.ADMINISTER) else []
        found = [session for each in everybody for session in await sessions.of(each)]
    else:
        operator = await _whose(server, asked.email, caller)
        if operator is None:
            return Refusal(Kind.NOT_FOUND, "There is no such operator.")
        found = await sessions.of(operator)
    return SignInPage(sessions=[_told(session, caller) for session in found])


async def end_sign_in(server: ServerView, asked: EndSignIn, caller: Caller) -> SignInEnded | Refusal:
    """End a session: the browser is signed out with its next request."""
    entrance = entrance_of(server)
    operator = await _whose(server, asked.email, caller)
    if operator is None or not await entrance.sessions.end(operator, asked.session_id):
        return Refusal(Kind.NOT_FOUND, "There is no such session.")
    ended = {"did": "end", "operator": operator.email, "session": asked.session_id}
    entrance.record("session", caller.address, caller.user, **ended)
    return SignInEnded(session_id=asked.session_id)


async def _whose(server: ServerView, email: str | UnsetType, caller: Caller) -> Operator | None:
    """The operator that is asked about, if the caller may."""
    if email is UNSET:
        return caller.operator
    operator = await entrance_of(server).operators.find(email)
    own = operator is not None and caller.operator is not None and operator.account_id == caller.operator.account_id
    return operator if own or caller.may(Right.ADMINISTER) else None


def _told(session: Session, caller: Caller) -> SignIn:
    return SignIn(
        session_id=session.id,
        email=session.operator.email,
        created_at=wire_time_of(session.created_at),
        expires_at=wire_time_of(session.expires_at),
        address=session.address,
        agent=session.agent.encode(errors="replace").decode(),
        current=caller.session is not None and caller.session.id == session.id,
    )
