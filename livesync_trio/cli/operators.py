"""`livesync operators`: who may sign in to the console, in a database or on a running server.

Passwords are typed at the terminal, or read from standard input, and never part of a command line.
"""

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import attrs
import click
import trio

from livesync_trio.audit import STANDARD_OUTPUT, Audit
from livesync_trio.cli import printing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import database_options, json_option, server_options
from livesync_trio.cli.printing import tell
from livesync_trio.cli.resources import database_to_read, target_database
from livesync_trio.config import Config, Secret, load
from livesync_trio.errors import CommandError, Kind
from livesync_trio.operators.accounts import Operators, Wrong
from livesync_trio.operators.passwords import Passwords
from livesync_trio.operators.roles import Operator, Role
from livesync_trio.operators.sessions import Sessions
from livesync_trio.storage import base
from livesync_trio.store.records import Records

T = TypeVar("T")

_ROLE: Final = click.Choice([str(role) for role in Role])


def _options(command: Callable[..., None]) -> Callable[..., None]:
    return json_option(server_options(database_options(command)))


@click.group()
def operators() -> None:
    """Say who may sign in to the console."""


@operators.command("list")
@_options
def list_(*, as_json: bool, url: str | None, **flags: Any) -> None:
    """List the operators and their roles."""
    config = load(flags, os.environ)
    if url is None:
        found = [_told(operator) for operator in _read(config)]
    else:
        plane = ControlPlane(url, config.admin_secret)
        with plane.understood():
            found = list(plane.get("/operators")["operators"])
    if as_json:
        for one in found:
            printing.line(one)
        return
    printing.table(
        ("operator", "role", "since"),
        ((one["email"], one["role"], one["createdAt"]) for one in found),
        empty="There are no operators. `livesync operators add EMAIL` makes one.",
    )


@operators.command()
@click.argument("email")
@click.option("--role", type=_ROLE, default=str(Role.OWNER), show_default=True, help="What the operator may do.")
@_options
def add(*, email: str, role: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Make EMAIL an operator; asks for a password, or reads it from standard input."""
    config = load(flags, os.environ)
    password = _password()
    if url is None:
        with _changing(config) as changing:
            told = _told(changing.do("create", lambda: changing.operators.create(email, password, Role(role))))
    else:
        body = {"email": email, "password": password.reveal(), "role": role}
        told = _asked(url, config, "/operators/create", body)
    _show(told, f"{told['email']} may sign in as {told['role']}.", as_json=as_json)


@operators.command()
@click.argument("email")
@_options
def password(*, email: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Give the operator EMAIL another password, and end all sessions; asks for it, or reads standard input."""
    config = load(flags, os.environ)
    given = _password()
    if url is None:
        with _changing(config) as changing:
            told = _told(changing.do("password", lambda: changing.operators.set_password(email, given)))
    else:
        told = _asked(url, config, "/operators/password", {"email": email, "password": given.reveal()})
    _show(told, f"{told['email']} has another password; all sessions have ended.", as_json=as_json)


@operators.command()
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options
def remove(*, email: str, yes: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """Remove the operator EMAIL; sessions and tokens end at once. The last owner stays."""
    config = load(flags, os.environ)
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(Kind.BAD_CONFIG, f"This removes {email}: pass --yes.")
        click.confirm(f"Remove {email}? His or her sessions and tokens end at once", abort=True)
    if url is None:
        with _changing(config) as changing:
            told = _told(changing.do("remove", lambda: changing.operators.remove(email)))
    else:
        told = _asked(url, config, "/operators/remove", {"email": email, "confirm": email})
    _show(told, f"{told['email']} may not sign in any more.", as_json=as_json)


# --- a database ------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Handles:
    """Handles of a database, as `Records` asks them. Nobody else waits in this process."""

    writer: base.Writer | None
    reader: base.Reader

    async def commit(self, write: base.Write) -> base.Outcome:
        """See `persistence.Writer`."""
        assert self.writer is not None
        (outcome,) = self.writer.commit([write])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def ask(self, question: Callable[[base.Reader], T]) -> T:
        """See `records.Asked`."""
        return question(self.reader)


@attrs.frozen
class _Changing:
    """Operators of a database that is changed."""

    operators: Operators
    sessions: Sessions
    audit: Audit

    def do(self, did: str, act: Callable[[], Awaitable[Operator]]) -> Operator:
        """Change something, and record it. Raises CommandError."""

        async def done() -> Operator:
            operator = await act()
            if did != "create":
                await self.sessions.clear(operator)
            return operator

        try:
            operator = trio.run(done)
        except Wrong as wrong:
            raise CommandError(Kind.BAD_CONFIG, str(wrong)) from None
        self.audit.record("operator", store="", address="", did=did, operator=operator.email, via="command line")
        return operator


@contextmanager
def _changing(config: Config) -> Iterator[_Changing]:
    path = None if config.audit_log == STANDARD_OUTPUT else config.audit_log
    with target_database(config, change=True) as target:
        try:
            audit = Audit(path)
        except OSError as error:
            raise CommandError(Kind.BAD_CONFIG, f"The audit log cannot be opened: {error.strerror}.") from None
        with closing(audit):
            handles = _Handles(target.writer, target.reader)
            records = Records(handles, handles)
            found = Operators(records, Passwords())
            yield _Changing(found, Sessions(records, found), audit)


def _read(config: Config) -> list[Operator]:
    with database_to_read(config) as engine, closing(engine.reader()) as reader:
        handles = _Handles(None, reader)
        return trio.run(Operators(Records(handles, handles), Passwords()).all)


# --- a running server, and a person ----------------------------------------------------------------------------------


def _asked(url: str, config: Config, path: str, body: dict[str, str]) -> dict[str, Any]:
    plane = ControlPlane(url, config.admin_secret)
    with plane.understood():
        answer = plane.post(path, body)
        return {name: str(answer[name]) for name in ("email", "role", "createdAt")}


def _password() -> Secret:
    """What somebody types twice, or the first line of what a program sends."""
    if sys.stdin.isatty():
        return Secret(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return Secret(sys.stdin.readline().rstrip("\r\n"))


def _told(operator: Operator) -> dict[str, Any]:
    at = datetime.fromtimestamp(operator.created_at, UTC)
    created_at = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"email": operator.email, "role": str(operator.role), "createdAt": created_at}


def _show(told: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        printing.line(told)
    else:
        tell(text)
