"""Server processes on one database: any client may talk to any, and nobody can tell which."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import psycopg
import pytest
import trio
from psycopg import sql

from livesync_trio.limits import NEWS_CHECK_S
from tests.conformance.proxy import TcpProxy
from tests.conformance.servers import ServerProcess
from tests.postgres.peers import Answer, Follower, health, health_becomes, peer, reset
from tests.postgres.server import PostgresServer

SECRET = "the operator's own"
StartServer = Callable[..., ServerProcess]


@attrs.frozen
class Fault:
    """Something that happens to the database behind a port."""

    port: int
    begin: Callable[[], object]
    end: Callable[[], object]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers on a database; they are stopped at the end."""
    started: list[ServerProcess] = []

    def start(database_url: str, **settings: str) -> ServerProcess:
        directory = tmp_path / f"server-{len(started)}"
        directory.mkdir()
        server = ServerProcess(directory, database_url, {"ADMIN_SECRET": SECRET, **settings})
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop_if_ours()


@pytest.fixture
def two(start: StartServer, shared_database: str) -> tuple[ServerProcess, ServerProcess]:
    return start(shared_database), start(shared_database)


async def test_a_push_on_one_reaches_a_client_on_the_other(two: tuple[ServerProcess, ServerProcess]) -> None:
    here, there = two
    followers = Follower("s"), Follower("s")
    async with trio.open_nursery() as nursery, peer(here.url, "s") as pusher:
        nursery.start_soon(followers[0].run, here.url)
        nursery.start_soon(followers[1].run, there.url)
        took_s = []
        for number in range(1, 41):
            before_s = trio.current_time()
            assert await pusher.push(number - 1, number) == Answer("accepted")
            for follower in followers:
                await follower.reached(number)
            took_s.append(trio.current_time() - before_s)
        nursery.cancel_scope.cancel()
    assert followers[0].logs == followers[1].logs == {followers[0].backend_id: list(range(1, 41))}
    assert followers[0].problems == followers[1].problems == []
    assert statistics.median(took_s) < NEWS_CHECK_S / 4, "only comparing finds news, nothing was heard"


async def test_a_server_tells_nobody_while_it_is_alone(start: StartServer, shared_database: str) -> None:
    """The test listens as a server would that nobody sees; and a second server comes, and is told at once, and goes."""
    here = start(shared_database)
    number = 0
    with psycopg.connect(shared_database, autocommit=True) as connection:
        row = connection.execute("SELECT 'livesync_7_' || 'livesync_7_stores'::regclass::oid").fetchone()
        assert row is not None
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(row[0])))

        async def is_quiet_in_the_end() -> None:
            nonlocal number
            with trio.fail_after(60):
                while True:
                    number += 1
                    assert await pusher.push(number - 1, number) == Answer("accepted")
                    told = [note for note in connection.notifies(timeout=0.3) if '["s"]' in note.payload]
                    if not told:
                        return

        async with peer(here.url, "s") as pusher, trio.open_nursery() as nursery:
            await is_quiet_in_the_end()
            there = start(shared_database)
            follower = Follower("s")
            nursery.start_soon(follower.run, there.url)
            took_s = []
            for _ in range(20):
                before_s = trio.current_time()
                number += 1
                assert await pusher.push(number - 1, number) == Answer("accepted")
                await follower.reached(number)
                took_s.append(trio.current_time() - before_s)
            assert statistics.median(took_s) < NEWS_CHECK_S / 4, "only comparing finds news, nothing was told"
            assert follower.numbers == list(range(1, number + 1))
            nursery.cancel_scope.cancel()
        there.stop_if_ours()
        async with peer(here.url, "s") as pusher:
            await is_quiet_in_the_end()


async def test_of_two_pushes_with_one_parent_one_wins(two: tuple[ServerProcess, ServerProcess]) -> None:
    """The loser's server publishes what won before it says that it was late (SPEC section 2)."""
    follower = Follower("s")
    async with (
        trio.open_nursery() as nursery,
        peer(two[0].url, "s") as left,
        peer(two[1].url, "s") as right,
    ):
        nursery.start_soon(follower.run, two[1].url)
        for number in range(1, 31):
            answers: dict[str, Answer] = {}

            async def push(name: str, text: str, number: int, answers: dict[str, Answer] = answers) -> None:
                answers[name] = await (left if name == "left" else right).push(number - 1, number, text=text)

            async with trio.open_nursery() as both:
                both.start_soon(push, "left", "left", number)
                both.start_soon(push, "right", "right", number)
            assert sorted(answers.values(), key=str) == [Answer("accepted"), Answer("ahead", number)]
            winner = min(answers, key=lambda name: answers[name].what)
            events = await left.pull()
            assert [each["seqNum"] for each in events] == list(range(1, number + 1))
            assert events[-1]["args"] == winner
        await follower.reached(30)
        nursery.cancel_scope.cancel()
    assert follower.numbers == list(range(1, 31))
    assert follower.problems == []


async def test_a_client_may_change_servers_between_any_two_pushes(two: tuple[ServerProcess, ServerProcess]) -> None:
    """Nobody is told that he is ahead by a server that has only not heard yet."""
    async with peer(two[0].url, "s") as left, peer(two[1].url, "s") as right:
        for number in range(1, 61):
            assert await (left, right)[number % 2].push(number - 1, number) == Answer("accepted")
        assert [each["seqNum"] for each in await left.pull()] == list(range(1, 61))


async def test_a_reset_on_one_is_seen_by_the_other(two: tuple[ServerProcess, ServerProcess]) -> None:
    follower = Follower("s")
    async with trio.open_nursery() as nursery, peer(two[1].url, "s") as client:
        nursery.start_soon(follower.run, two[1].url)
        assert await client.push(0, 1, 2) == Answer("accepted")
        await follower.reached(2)
        before = follower.backend_id
        assert await reset(two[0].url, "s", SECRET)
        with trio.fail_after(10):
            while follower.mismatches == 0 or follower.backend_id in (None, before):  # noqa: ASYNC110 - it is told nothing new
                await trio.sleep(0.01)
        assert await client.push(2, 3, backend_id=before) == Answer("mismatch")
        assert await client.push(0, 1) == Answer("accepted")
        await follower.reached(1)
        nursery.cancel_scope.cancel()
    assert list(follower.logs.values()) == [[1, 2], [1]]
    assert follower.problems == []


async def test_a_server_that_dies_before_it_tells(
    start: StartServer, shared_database: str, two: tuple[ServerProcess, ServerProcess]
) -> None:
    """Comparing finds what no notification told; and the survivor goes on."""
    follower = Follower("s")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run, two[1].url)
        async with peer(two[0].url, "s") as pusher:
            assert await pusher.push(0, 1) == Answer("accepted")
            two[0].kill()
        await follower.reached(1)
        async with peer(two[1].url, "s") as client:
            assert await client.push(1, 2) == Answer("accepted")
        await follower.reached(2)
        nursery.cancel_scope.cancel()
    assert follower.numbers == [1, 2]


async def test_without_notifications_news_is_late_and_complete(
    private_server: PostgresServer, database: str, start: StartServer, make_proxy: Callable[[int], TcpProxy]
) -> None:
    """The connection that listens leads into a network that swallows everything."""
    proxy = make_proxy(private_server.port)
    url = private_server.url(database=database)
    here = start(url)
    there = start(url, LIVESYNC_LISTEN_URL=private_server.url(database=database, port=proxy.port))
    follower = Follower("s")
    async with trio.open_nursery() as nursery, peer(here.url, "s") as pusher:
        nursery.start_soon(follower.run, there.url)
        assert await pusher.push(0, 1) == Answer("accepted")
        await follower.reached(1)
        proxy.cut()
        for number in range(2, 6):
            assert await pusher.push(number - 1, number) == Answer("accepted")
            await follower.reached(number)
        assert (await health(there.url))[0] == 200
        proxy.restore()
        assert await pusher.push(5, 6) == Answer("accepted")
        await follower.reached(6)
        nursery.cancel_scope.cancel()
    assert follower.numbers == list(range(1, 7))
    assert (follower.problems, follower.interruptions) == ([], 0)


# --- the database goes away under them -------------------------------------------------------------------------------


async def _push_in_time(url: str, store: str, parent: int, number: int) -> Answer:
    """A push that must be answered, one way or the other, before its client gives the server up (SPEC 3.6)."""
    async with peer(url, store) as client:
        with trio.fail_after(10):
            return await client.push(parent, number)


@pytest.fixture(params=["immediate", "vanished", "read-only"])
def fault(
    request: pytest.FixtureRequest, private_server: PostgresServer, make_proxy: Callable[[int], TcpProxy]
) -> Iterator[Fault]:
    """Something that happens to a database, and its end."""
    proxy = make_proxy(private_server.port)

    def vanish() -> None:
        proxy.refuse()
        proxy.silence()

    def read_only(setting: str) -> None:
        for statement in ("SET default_transaction_read_only = off", setting, "SELECT pg_reload_conf()"):
            admin.execute(statement.encode())

    with private_server.connect() as admin:
        begin, end = {
            "immediate": (private_server.stop, private_server.start),
            "vanished": (vanish, proxy.restore),
            "read-only": (
                lambda: read_only("ALTER SYSTEM SET default_transaction_read_only = on"),
                lambda: read_only("ALTER SYSTEM RESET default_transaction_read_only"),
            ),
        }[request.param]
        yield Fault(proxy.port, begin, end)


async def test_live_pulls_are_held_open_while_the_database_is_away(
    private_server: PostgresServer, database: str, start: StartServer, fault: Fault
) -> None:
    url = private_server.url(database=database, port=fault.port)
    servers = start(url), start(url)
    followers = Follower("s"), Follower("s")
    async with trio.open_nursery() as nursery:
        for server, follower in zip(servers, followers, strict=True):
            nursery.start_soon(follower.run, server.url)
        assert await _push_in_time(servers[0].url, "s", 0, 1) == Answer("accepted")
        for follower in followers:
            await follower.reached(1)
        fault.begin()
        for server in servers:
            answer = await _push_in_time(server.url, "s", 1, 2)
            assert (answer.what, answer.note) == ("error", "storage-unavailable")
            await health_becomes(server.url, "storage unavailable")
            assert (await health(server.url))[0] == 503
        fault.end()
        for number, server in enumerate(servers, 2):
            await health_becomes(server.url, "ok")
            assert await _push_in_time(server.url, "s", number - 1, number) == Answer("accepted")
        for follower in followers:
            await follower.reached(3)
        nursery.cancel_scope.cancel()
    for follower in followers:
        assert follower.numbers == [1, 2, 3]
        assert (follower.problems, follower.interruptions, follower.mismatches) == ([], 0, 0)


async def test_failover_to_a_promoted_replica(
    private_server: PostgresServer, database: str, start: StartServer
) -> None:
    """A URL of both hosts, and a primary that waits for its replica: nothing acknowledged is lost."""
    replica = private_server.copy(f"replica-of-{database}")
    replica.start()
    try:
        private_server.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        private_server.run("SELECT pg_reload_conf()")
        hosts = f"127.0.0.1:{private_server.port},127.0.0.1:{replica.port}"
        url = f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write"
        servers = start(url), start(url)
        follower = Follower("s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.run, servers[1].url)
            for number in range(1, 11):
                assert await _push_in_time(servers[0].url, "s", number - 1, number) == Answer("accepted")
            await follower.reached(10)
            private_server.stop()
            answer = await _push_in_time(servers[0].url, "s", 10, 11)
            assert (answer.what, answer.note) == ("error", "storage-unavailable")
            replica.promote()
            for server in servers:
                await health_becomes(server.url, "ok")
            assert await _push_in_time(servers[0].url, "s", 10, 11) == Answer("accepted")
            assert await _push_in_time(servers[1].url, "s", 11, 12) == Answer("accepted")
            await follower.reached(12)
            nursery.cancel_scope.cancel()
        assert follower.numbers == list(range(1, 13))
        assert (follower.problems, follower.interruptions, follower.mismatches) == ([], 0, 0)
        for server in servers:
            server.stop_if_ours()
    finally:
        replica.stop()


async def test_failover_to_a_replica_that_lacks_events(
    private_server: PostgresServer, database: str, start: StartServer
) -> None:
    """Who has events that are gone starts over, before others get their numbers; who has them not goes on."""
    replica = private_server.copy(f"lagging-of-{database}")
    replica.start()
    try:
        private_server.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        private_server.run("SELECT pg_reload_conf()")
        hosts = f"127.0.0.1:{private_server.port},127.0.0.1:{replica.port}"
        server = start(f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write")
        ahead = Follower("s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ahead.run, server.url)
            assert await _push_in_time(server.url, "s", 0, 1) == Answer("accepted")
            await ahead.reached(1)
            identity = ahead.backend_id
            private_server.run("ALTER SYSTEM RESET synchronous_standby_names")
            private_server.run("SELECT pg_reload_conf()")
            replica.stop()
            for number in (2, 3, 4):
                assert await _push_in_time(server.url, "s", number - 1, number) == Answer("accepted")
            await ahead.reached(4)

            private_server.stop()
            replica.start()
            replica.promote()
            await ahead.started_over()  # nobody asks for anything: the server finds out by comparing
            await ahead.reached(1)
            assert await _push_in_time(server.url, "s", 1, 2) == Answer("accepted")
            await ahead.reached(2)
            nursery.cancel_scope.cancel()
        assert (ahead.backend_id, ahead.numbers) == (identity, [1, 2])
        assert (ahead.problems, ahead.mismatches) == ([], 1)
        assert "pull from above the head" in server.log_tail()
        server.stop_if_ours()
    finally:
        replica.stop()


# --- starting --------------------------------------------------------------------------------------------------------


def test_the_start_waits_for_the_database(private_server: PostgresServer, database: str, tmp_path: Path) -> None:
    private_server.stop()
    server = ServerProcess(tmp_path, private_server.url(database=database))

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.start)
            with trio.fail_after(20):
                while "waiting for the database" not in server.log_tail():  # noqa: ASYNC110 - another process decides
                    await trio.sleep(0.05)
            await trio.to_thread.run_sync(private_server.start)

    (tmp_path / "server.log").touch()
    trio.run(both)
    server.stop_if_ours()
    assert "seconds_left" in server.log_tail()


def test_the_start_does_not_wait_for_ever(private_server: PostgresServer, database: str, tmp_path: Path) -> None:
    private_server.stop()
    server = ServerProcess(tmp_path, private_server.url(database=database), {"LIVESYNC_DATABASE_WAIT_S": "0.5"})
    with pytest.raises(RuntimeError, match=r"cannot be reached: .*refused.* Gave up after 0\.5 s"):
        server.start()


async def test_two_servers_start_on_a_new_database_at_once(shared_database: str, tmp_path: Path) -> None:
    servers = []
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        servers.append(ServerProcess(tmp_path / name, shared_database))
    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(trio.to_thread.run_sync, server.start)
    for server in servers:
        assert (await health(server.url))[0] == 200
        server.stop_if_ours()
