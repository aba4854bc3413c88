"""Accounts, sessions, tokens, the throttle and the one-time link, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from livesync_trio.config import Config, Secret
from livesync_trio.config.console import check_password, email_read
from livesync_trio.errors import Kind, Refusal, TooFast
from livesync_trio.operators import accounts, passwords, sessions, throttle, tokens
from livesync_trio.operators.accounts import Wrong
from livesync_trio.operators.entrance import FIRST_OPERATOR_LIMIT_S, NO_LINK, SignedIn, Visitor
from livesync_trio.operators.passwords import OF_NOBODY, PASSWORDS_WAITING_MAX, Busy, Passwords
from livesync_trio.operators.roles import Right, Role
from livesync_trio.operators.throttle import BY_ACCOUNT, BY_ADDRESS
from livesync_trio.storage import base

from .desk import HERE, LIFETIME_S, PASSWORD, WRONG_PASSWORD, Desk


@pytest.fixture
def real_cost() -> None:
    """Asked for by those to whom it matters what a password costs."""


@pytest.fixture(autouse=True)
def _cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords cost nothing, so that a slow machine gets through."""
    if "real_cost" not in request.fixturenames:
        monkeypatch.setattr(passwords, "ARGON2_MEMORY_KIB", 64)
        monkeypatch.setattr(accounts, "OF_NOBODY", passwords._of_nobody())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.entrance.close()


def other(desk: Desk, directory: Path) -> Desk:
    """Another server on the same database."""
    directory.mkdir()
    made = Desk(directory, desk.engine)
    made.at_s = desk.at_s
    return made


# --- accounts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "ann", "ann@", "@b", "a b@c", "a@b@c", "<a@b>", "a@" + "b" * 300, "a\0@b"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail"):
        email_read(text)


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 20, "password", "please-change-me-now", "y" * 2000, "ann@example.org"]
)
def test_passwords_that_are_gifts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"placeholder|characters|bytes|guess"):
        check_password(Secret(text), "Ann@example.org")


async def test_one_address_is_one_operator_however_it_is_written(desk: Desk) -> None:
    await desk.operator()
    for written in ("Ann@Example.ORG", " ann@example.org ", "ａnn@example.org"):
        with pytest.raises(Wrong, match="already"):
            await desk.operator(written)
        assert (await desk.signed_in(written)).session.operator.email == "ann@example.org"


async def test_the_last_owner_stays_one(desk: Desk) -> None:
    await desk.operator()
    await desk.operator("ben@example.org", Role.OPERATOR)
    for act in (
        desk.entrance.operators.remove("ann@example.org"),
        desk.entrance.operators.set_role("ann@example.org", Role.VIEWER),
    ):
        with pytest.raises(Wrong, match="last owner"):
            await act
    await desk.entrance.operators.set_role("ben@example.org", Role.OWNER)
    await desk.entrance.operators.remove("ann@example.org")
    assert [(each.email, each.role) for each in await desk.entrance.operators.all()] == [
        ("ben@example.org", Role.OWNER)
    ]


async def test_of_two_servers_that_remove_the_two_owners_one_is_refused(desk: Desk, tmp_path: Path) -> None:
    await desk.operator()
    await desk.operator("ben@example.org")
    there = other(desk, tmp_path / "there")
    refused: list[Wrong] = []

    async def remove(at: Desk, email: str) -> None:
        try:
            await at.entrance.operators.remove(email)
        except Wrong as wrong:
            refused.append(wrong)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove, desk, "ann@example.org")
        nursery.start_soon(remove, there, "ben@example.org")
    assert len(refused) == 1
    assert len(await desk.entrance.operators.all()) == 1
    there.entrance.close()


async def test_many_who_make_the_same_operator_make_one(desk: Desk) -> None:
    made: list[str] = []

    async def make() -> None:
        try:
            made.append((await desk.operator()).account_id)
        except Wrong:
            return

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(make)
    (operator,) = await desk.entrance.operators.all()
    assert made == [operator.account_id]
    await desk.signed_in()


async def test_what_a_crash_left_of_an_operator_can_be_made_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError("crash")

    with monkeypatch.context() as patched:
        patched.setattr(desk.entrance.operators, "_change_members", crash)
        with pytest.raises(RuntimeError):
            await desk.operator()
    assert await desk.entrance.operators.find("ann@example.org") is None
    assert isinstance(await desk.sign_in(), Refusal)
    with pytest.raises(Wrong, match="at this moment"):
        await desk.operator()
    desk.at_s += 100
    await desk.operator()
    await desk.signed_in()


async def test_there_is_an_end_to_how_many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "OPERATORS_MAX", 2)
    for name in ("a", "b"):
        await desk.operator(f"{name}@example.org")
    with pytest.raises(Wrong, match="2 operators"):
        await desk.operator("c@example.org")
    assert await desk.entrance.operators.find("c@example.org") is None


# --- signing in ------------------------------------------------------------------------------------------------------


async def test_unknown_accounts_are_answered_with_the_same_work_and_words(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, real_cost: None
) -> None:
    await desk.operator()
    await desk.sign_in("anybody@example.org", WRONG_PASSWORD)  # what is read once and kept
    work: list[str] = []
    verify, record = Passwords.matches, desk.entrance.operators._records.get
    pages = desk.entrance.operators._records.all_of

    async def counting(self: Passwords, kept: str, password: Secret) -> bool:
        work.append(kept.rpartition("$")[0].rpartition("$")[0])  # the parameters, of which the time depends
        return await verify(self, kept, password)

    async def reading(kind: str, key: str) -> object:
        work.append(kind)
        return await record(kind, key)

    monkeypatch.setattr(Passwords, "matches", counting)

    async def paging(kind: str, after: str | None = None) -> AsyncGenerator[base.Record, None]:
        work.append(f"all of {kind}")
        async with aclosing(pages(kind, after)) as records:
            async for each in records:
                yield each

    monkeypatch.setattr(desk.entrance.operators._records, "get", reading)
    monkeypatch.setattr(desk.entrance.operators._records, "all_of", paging)
    answers, costs = [], []
    for email in ("ann@example.org", "nobody@example.org", "no address"):
        work.clear()
        answers.append(await desk.sign_in(email, WRONG_PASSWORD))
        costs.append(list(work))
    assert answers[0] == answers[1] == answers[2]
    assert costs[0] == costs[1], "a known and an unknown account: the same records are read, the same hash is made"
    hashed = [[step for step in cost if step.startswith("$")] for cost in costs]
    assert hashed[0] == hashed[1] == hashed[2]
    assert len(hashed[0]) == 1


async def test_nobody_has_the_password_of_nobody(real_cost: None) -> None:
    found = Passwords()
    for guess in ("", "\0" * 32, "a long way home"):
        assert not await found.matches(OF_NOBODY, Secret(guess))
    assert not await found.matches("no hash at all", PASSWORD)
    hashed = await found.hashed(PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await found.matches(hashed, PASSWORD)


async def test_more_passwords_than_can_wait_are_refused_at_once(desk: Desk) -> None:
    await desk.operator()
    refused = 0

    async def guess(number: int) -> None:
        nonlocal refused
        try:
            await desk.entrance.passwords.matches(OF_NOBODY, Secret(str(number)))
        except Busy:
            refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(PASSWORDS_WAITING_MAX + 12):
            nursery.start_soon(guess, number)
    assert 0 < refused <= 12


async def test_who_guesses_from_one_address_must_wait_even_with_the_right_one(desk: Desk) -> None:
    await desk.operator()
    for number in range(int(BY_ADDRESS.amount)):
        answer = await desk.sign_in(f"{number}@example.org", WRONG_PASSWORD)
        assert answer.kind is Kind.UNAUTHENTICATED
    answer = await desk.sign_in()
    assert isinstance(answer, TooFast)
    assert 0 < answer.retry_after_s <= BY_ADDRESS.period_s
    neighbour = attrs.evolve(HERE, address="192.0.2.2:1")
    await desk.signed_in(at=neighbour)
    desk.at_s += answer.retry_after_s + 0.1
    await desk.signed_in()
    assert [line["by"] for line in desk.records() if line["act"] == "throttled"] == ["address"]


async def test_many_at_once_get_no_more_guesses_than_one_after_the_other(desk: Desk) -> None:
    await desk.operator()
    answers: list[object] = []

    async def guess() -> None:
        answers.append(await desk.sign_in(password=WRONG_PASSWORD))

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(guess)
    assert sum(not isinstance(answer, TooFast) for answer in answers) <= BY_ADDRESS.amount


async def test_an_account_is_guarded_against_many_addresses(desk: Desk) -> None:
    await desk.operator()
    strangers = [Visitor(f"198.51.100.{number}:1") for number in range(int(BY_ACCOUNT.amount))]
    for number, stranger in enumerate(strangers):
        written = "ANN@example.org" if number % 2 else "ａnn@example.org"
        assert (await desk.sign_in(written, WRONG_PASSWORD, stranger)).kind is Kind.UNAUTHENTICATED
    assert isinstance(await desk.sign_in(at=Visitor("198.51.100.99:1")), TooFast)


async def test_strangers_keep_nobody_out_where_he_or_she_is_signed_in(desk: Desk) -> None:
    await desk.operator()
    await desk.signed_in()
    for number in range(int(BY_ACCOUNT.amount) + 2):
        await desk.sign_in(password=WRONG_PASSWORD, at=Visitor(f"198.51.100.{number}:1"))
    assert isinstance(await desk.sign_in(at=Visitor("198.51.100.99:1")), TooFast)
    await desk.signed_in()


async def test_a_restart_and_another_server_forgive_nothing(desk: Desk, tmp_path: Path) -> None:
    await desk.operator()
    for _ in range(int(BY_ADDRESS.amount)):
        await desk.sign_in(password=WRONG_PASSWORD)
    again = other(desk, tmp_path / "again")
    assert isinstance(await again.sign_in(), TooFast)
    again.entrance.close()


async def test_a_clock_that_was_put_back_locks_nobody_out(desk: Desk) -> None:
    await desk.operator()
    for _ in range(int(BY_ADDRESS.amount)):
        await desk.sign_in(password=WRONG_PASSWORD)
    desk.at_s -= 10 * 365 * 86400
    assert isinstance(await desk.sign_in(), TooFast)
    desk.at_s += BY_ADDRESS.period_s
    await desk.signed_in()


async def test_strangers_cannot_fill_the_database(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "BUCKETS", 8)
    for number in range(60):
        await desk.entrance.throttle.charge("address", f"198.51.100.{number}", BY_ADDRESS)
    kept = desk.engine.reader().records(throttle.FAILURES, None, 100)
    assert len(kept) <= 8 + 1  # and the salt
    assert not any(b"198.51" in record.value or "198.51" in record.key for record in kept)


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_session_ends_by_itself(desk: Desk) -> None:
    await desk.operator()
    cookie = (await desk.signed_in()).cookie
    desk.at_s += LIFETIME_S - 1
    assert await desk.entrance.sessions.find(cookie)
    desk.at_s += 1
    assert await desk.entrance.sessions.find(cookie) is None


async def test_every_sign_in_is_another_session_and_each_can_be_ended(desk: Desk) -> None:
    operator = await desk.operator()
    first, second = await desk.signed_in(), await desk.signed_in()
    assert first.cookie != second.cookie
    assert first.session.csrf != second.session.csrf
    assert await desk.entrance.sessions.end(operator, first.session.id)
    assert not await desk.entrance.sessions.end(operator, first.session.id)
    assert await desk.entrance.sessions.find(first.cookie) is None
    (left,) = await desk.entrance.sessions.of(operator)
    assert (left.id, left.csrf) == (second.session.id, "")


async def test_all_sessions_end_with_another_password_and_when_the_operator_goes(desk: Desk) -> None:
    await desk.operator()
    await desk.operator("ben@example.org")
    cookie = (await desk.signed_in()).cookie
    await desk.entrance.operators.set_password("ann@example.org", Secret("yet another way"))
    assert await desk.entrance.sessions.find(cookie) is None
    bens = (await desk.signed_in("ben@example.org")).cookie
    await desk.entrance.operators.remove("ben@example.org")
    assert await desk.entrance.sessions.find(bens) is None
    await desk.operator("ben@example.org")  # somebody else of the same address
    assert await desk.entrance.sessions.find(bens) is None


async def test_the_database_holds_nothing_that_opens(desk: Desk) -> None:
    operator = await desk.operator()
    signed_in = await desk.signed_in()
    text, _ = await desk.entrance.tokens.make("backup", [Right.LOOK], operator, None)
    reader = desk.engine.reader()
    kept = b"".join(
        record.key.encode() + record.value
        for kind in (accounts.ACCOUNT, accounts.MEMBERS, sessions.SESSION, tokens.TOKEN, throttle.FAILURES)
        for record in reader.records(kind, None, 100)
    )
    for secret in (signed_in.cookie.partition(".")[2], signed_in.session.csrf, text[-43:], PASSWORD.reveal()):
        assert secret.encode() not in kept


async def test_a_new_session_ends_the_oldest(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 3)
    operator = await desk.operator()
    cookies = []
    for _ in range(5):
        desk.at_s += 1
        cookies.append((await desk.signed_in()).cookie)
    assert [await desk.entrance.sessions.find(cookie) is not None for cookie in cookies] == [False] * 2 + [True] * 3
    assert len(desk.engine.reader().records(sessions.SESSION, None, 100)) == len(
        await desk.entrance.sessions.of(operator)
    )


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "0" * 16 + "." + "x" * 43, "x" * 10_000, "0" * 16 + "./../x"])
async def test_cookies_of_nobody(desk: Desk, cookie: str) -> None:
    assert await desk.entrance.sessions.find(cookie) is None


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_counts_until_it_expires_or_is_revoked(desk: Desk) -> None:
    operator = await desk.operator()
    text, token = await desk.entrance.tokens.make("backup", [Right.LOOK], operator, 60.0)
    lasting, _ = await desk.entrance.tokens.make("other", [Right.LOOK, Right.CHANGE], None, None)
    found = await desk.entrance.tokens.find(text)
    assert found is not None
    assert found.rights == {Right.ENTER, Right.LOOK}
    assert await desk.entrance.tokens.find(text[:-1] + ("a" if text[-1] != "a" else "b")) is None
    desk.at_s += 60
    assert await desk.entrance.tokens.find(text) is None
    assert await desk.entrance.tokens.find(lasting) is not None
    assert await desk.entrance.tokens.revoke(token.id)
    assert not await desk.entrance.tokens.revoke(token.id)


async def test_a_token_ends_with_its_maker(desk: Desk) -> None:
    await desk.operator()
    ben = await desk.operator("ben@example.org", Role.OPERATOR)
    text, _ = await desk.entrance.tokens.make("backup", [Right.CHANGE], ben, None)
    found = await desk.entrance.tokens.find(text)
    assert found is not None
    assert found.operator == ben
    await desk.entrance.operators.remove("ben@example.org")
    await desk.operator("ben@example.org")
    assert await desk.entrance.tokens.find(text) is None


async def test_there_is_an_end_to_tokens(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 1)
    await desk.entrance.tokens.make("one", [Right.LOOK], None, None)
    with pytest.raises(Wrong, match="1 tokens"):
        await desk.entrance.tokens.make("two", [Right.LOOK], None, None)
    for name, rights in (("", [Right.LOOK]), ("a\nb", [Right.LOOK]), ("x", [Right.ENTER])):
        with pytest.raises(Wrong):
            await desk.entrance.tokens.make(name, rights, None, None)


# --- the first operator ----------------------------------------------------------------------------------------------


async def test_the_link_is_good_once(desk: Desk) -> None:
    link = await desk.entrance.prepare(Config(console=True))
    assert link is not None
    refused = await desk.entrance.make_first(link, "ann@example.org", Secret("short"), HERE, LIFETIME_S)
    assert isinstance(refused, Refusal)
    assert refused.kind is Kind.BAD_PARAMETER
    made = await desk.entrance.make_first(link, "ann@example.org", PASSWORD, HERE, LIFETIME_S)
    assert isinstance(made, SignedIn)
    assert made.session.operator.role is Role.OWNER
    assert await desk.entrance.make_first(link, "eve@example.org", PASSWORD, HERE, LIFETIME_S) == NO_LINK
    assert await desk.entrance.prepare(Config(console=True)) is None


async def test_of_many_who_use_the_link_at_once_one_gets_in(desk: Desk) -> None:
    link = await desk.entrance.prepare(Config(console=True))
    assert link is not None
    answers: list[object] = []

    async def use(number: int) -> None:
        answers.append(await desk.entrance.make_first(link, f"{number}@example.org", PASSWORD, HERE, LIFETIME_S))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(use, number)
    assert sum(isinstance(answer, SignedIn) for answer in answers) == 1
    assert len(await desk.entrance.operators.all()) == 1


async def test_the_link_is_good_for_half_an_hour(desk: Desk, mock_clock: MockClock) -> None:
    link = await desk.entrance.prepare(Config(console=True))
    assert link is not None
    mock_clock.jump(FIRST_OPERATOR_LIMIT_S - 1)
    assert desk.entrance.first.opens(link)
    mock_clock.jump(1)
    assert not desk.entrance.first.opens(link)
    assert await desk.entrance.make_first(link, "ann@example.org", PASSWORD, HERE, LIFETIME_S) == NO_LINK
    assert await desk.entrance.operators.all() == []


async def test_the_link_is_of_this_process_only(desk: Desk, tmp_path: Path) -> None:
    there = other(desk, tmp_path / "there")
    link, theirs = await desk.entrance.prepare(Config(console=True)), await there.entrance.prepare(Config(console=True))
    assert link is not None
    assert theirs is not None
    assert await there.entrance.make_first(link, "eve@example.org", PASSWORD, HERE, LIFETIME_S) == NO_LINK
    assert isinstance(await desk.entrance.make_first(link, "ann@example.org", PASSWORD, HERE, LIFETIME_S), SignedIn)
    late = await there.entrance.make_first(theirs, "eve@example.org", PASSWORD, HERE, LIFETIME_S)
    assert isinstance(late, Refusal)
    assert not there.entrance.first.opens(theirs)
    assert [each.email for each in await desk.entrance.operators.all()] == ["ann@example.org"]
    there.entrance.close()


async def test_the_operator_of_the_configuration_is_made_once(desk: Desk) -> None:
    config = Config(console=True, admin_email="Ann@example.org", admin_password=PASSWORD)
    assert await desk.entrance.prepare(config) is None
    await desk.entrance.operators.set_password("ann@example.org", Secret("yet another way"))
    assert await desk.entrance.prepare(config) is None
    assert isinstance(await desk.sign_in(), Refusal)  # the old password does not come back
    (line,) = [line for line in desk.records() if line["act"] == "operator"]
    assert (line["did"], line["operator"], line["role"]) == ("create", "ann@example.org", "owner")


async def test_what_was_typed_as_an_unknown_address_is_not_recorded(desk: Desk) -> None:
    await desk.operator()
    await desk.sign_in("my secret password", WRONG_PASSWORD)
    await desk.sign_in("ann@example.org", WRONG_PASSWORD)
    lines = [line for line in desk.records() if line["act"] == "login-failed"]
    assert [line["user"] for line in lines] == [None, "ann@example.org"]
