"""Real servers that are killed with -9 while they deliver, by themselves and two on one PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import trio

from livesync_trio.delivery.limits import WEBHOOK_LEASE_S
from tests.bad_input.clients import RpcClient, event, sync_url
from tests.bad_input.websockets import WebSocket
from tests.bad_input.wires import Ended, Wire
from tests.conformance.servers import free_port
from tests.delivery.receiver import SECRET, Arrived, Receiver, Reply, accept
from tests.postgres.server import fresh_schema
from tests.torture.server import ADMIN_SECRET, ServerProcess

PATIENCE_S = 60.0
STORES = ("a", "b/ö")


class Server(ServerProcess):
    """A server with a webhook, on a database file or on a PostgreSQL."""

    def __init__(self, directory: Path, port: int, settings: Mapping[str, str] | None = None, url: str = "") -> None:
        config = directory / "livesync.toml"
        config.write_text(
            f'[[webhooks]]\nid = "hook"\nurl = "http://127.0.0.1:{port}/"\nsecret = "{SECRET}"\n'
            'start = "beginning"\nbatch = 5\n'
        )
        self.control_port = free_port()
        given = {"LIVESYNC_CONFIG": str(config), "ADMIN_PORT": str(self.control_port), "LOG_LEVEL": "info"}
        super().__init__(directory, {**given, **(settings or {})})
        self._url = url

    @property
    def command(self) -> list[str]:
        """With another database, where there is one."""
        known = super().command
        return known if not self._url else [*known[:-1], self._url]

    async def push(self, store: str, count: int) -> int:
        """Push so many events, and give the head; what was stored without an answer counts."""
        wire = Wire(await trio.open_tcp_stream("127.0.0.1", self.port))
        try:
            client = RpcClient((await WebSocket.shake_hands(wire, sync_url(store))).wire, store)
            head = len(await client.pull())
            answer = await client.push(*(event(head + i + 1, head + i) for i in range(count)))
            assert answer["exit"]["_tag"] == "Success", answer
            return head + count
        finally:
            await wire.close()


async def all_arrive(receiver: Receiver, heads: Mapping[str, int]) -> None:
    with trio.fail_after(PATIENCE_S):
        while any(max(receiver.numbers(store), default=0) < head for store, head in heads.items()):  # noqa: ASYNC110
            await trio.sleep(0.02)  # another process decides


def check_whole(receiver: Receiver, heads: Mapping[str, int], twice_at_most: int) -> None:
    """Nothing is lost, the order is kept, and no more comes twice than was under way at a kill."""
    for store, head in heads.items():
        numbers = receiver.numbers(store)
        assert list(dict.fromkeys(numbers)) == list(range(1, head + 1))
        assert len(numbers) - head <= twice_at_most
        taken = 0
        for each in receiver.taken:
            if each.store == store:
                assert each.message["data"]["after"] <= taken
                taken = max(taken, each.message["data"]["upTo"])


async def test_killed_under_load_and_at_each_move_of_a_cursor_nothing_is_lost(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with trio.open_nursery() as nursery:
        receiver = Receiver(nursery)
        server = Server(tmp_path, await receiver.listen())
        kills = 0
        when = ""

        async def kill_around(arrived: Arrived) -> Reply:
            """Dead before it has the answer, or as soon as it has it."""
            nonlocal when, kills
            if when:
                how, when = when, ""
                kills += 1
                if how == "before":
                    await server.kill()
                else:
                    nursery.start_soon(server.kill)
            return Reply()

        receiver.answer = kill_around
        heads = dict.fromkeys(STORES, 0)
        for when_next in ("before", "after", ""):
            if server.process is None:
                await server.start()
            when = when_next
            for store in STORES:
                try:
                    heads[store] = await server.push(store, dice.randint(5, 20))
                except (OSError, Ended, trio.BrokenResourceError):
                    break
            if when_next:
                with trio.fail_after(PATIENCE_S):
                    while server.process is not None:  # noqa: ASYNC110 - the receiver kills it
                        await trio.sleep(0.01)
        for store in STORES:
            heads[store] = await server.push(store, 1)
        await all_arrive(receiver, heads)
        check_whole(receiver, heads, twice_at_most=kills * 5)
        await server.stop()
        nursery.cancel_scope.cancel()


async def test_of_two_servers_on_one_postgresql_the_other_goes_on_within_seconds(tmp_path: Path) -> None:
    url = fresh_schema(str(tmp_path))
    async with trio.open_nursery() as nursery:
        receiver = Receiver(nursery)
        port = await receiver.listen()
        servers = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            servers.append(Server(tmp_path / name, port, url=url))
            await servers[-1].start()
        first, second = servers
        heads = {"a": await second.push("a", 12)}  # stored by the one that does not deliver
        await all_arrive(receiver, heads)
        delivering = [server for server in servers if "webhooks are delivered" in server.log.read_text()]
        assert len(delivering) == 1
        other = second if delivering == [first] else first
        gate = trio.Event()

        async def hold(_: Arrived) -> Reply:
            gate.set()
            await trio.sleep_forever()
            raise AssertionError

        receiver.answer = hold
        heads["a"] = await other.push("a", 7)
        await gate.wait()
        await delivering[0].kill()
        receiver.answer = accept
        killed_s = trio.current_time()
        await all_arrive(receiver, heads)
        assert trio.current_time() - killed_s < WEBHOOK_LEASE_S + PATIENCE_S / 2
        check_whole(receiver, heads, twice_at_most=5)
        heads["a"] = await other.push("a", 3)
        await all_arrive(receiver, heads)
        await other.stop()
        nursery.cancel_scope.cancel()


async def test_a_webhook_is_made_tested_replayed_and_removed_through_the_control_plane(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        receiver = Receiver(nursery)
        port = await receiver.listen()
        server = Server(tmp_path, port)
        (tmp_path / "livesync.toml").write_text("")
        await server.start()
        heads = {"a": await server.push("a", 3)}
        plane = f"http://127.0.0.1:{server.control_port}/api/v1/webhooks"
        auth = {"authorization": f"Bearer {ADMIN_SECRET}"}
        private = "Bearer never-shown"
        async with httpx.AsyncClient(headers=auth, timeout=PATIENCE_S) as http:
            wanted = {"id": "made", "url": f"http://localhost:{port}/x", "secret": SECRET, "start": "beginning"}
            made = await http.post(f"{plane}/define", json={**wanted, "headers": {"authorization": private}})
            assert made.json() == {"webhook": "made"}
            await all_arrive(receiver, heads)
            assert receiver.taken[0].headers["authorization"] == private
            listed = await http.get(plane)
            [told] = listed.json()["webhooks"]
            assert told["mode"] == "delivering"
            assert told["deliveredEvents"] == 3
            assert listed.json()["delivering"]
            tested = await http.post(f"{plane}/test", json={"webhook": "made"})
            assert tested.json() == {"webhook": "made", "taken": True, "told": "it answered 200"}
            assert (await http.post(f"{plane}/replay", json={"webhook": "made", "storeId": "a", "after": 1})).is_success
            with trio.fail_after(PATIENCE_S):
                while receiver.numbers("a") != [1, 2, 3, 2, 3]:  # noqa: ASYNC110 - another process decides
                    await trio.sleep(0.02)
            places = await http.get(f"{plane}/deliveries", params={"webhook": "made"})
            [place] = places.json()["stores"]
            assert (place["storeId"], place["seqNum"], place["parked"]) == ("a", 3, False)
            metrics = await http.get(f"http://127.0.0.1:{server.control_port}/metrics")
            assert 'livesync_webhook_events_total{webhook="made"} 5.0' in metrics.text
            for wrong in ({"url": "http://example.org/"}, {"secret": "short-secret-of-mine"}, {"id": "A B"}):
                refused = await http.post(f"{plane}/define", json={**wanted, **wrong})
                assert refused.status_code == 400
                assert "short-secret-of-mine" not in refused.text
            assert (await http.post(f"{plane}/remove", json={"webhook": "made", "confirm": "no"})).status_code == 400
            assert (await http.post(f"{plane}/remove", json={"webhook": "made", "confirm": "made"})).is_success
            assert (await http.get(plane)).json()["webhooks"] == []
            said = listed.text + metrics.text + server.log.read_text()
            assert SECRET not in said
            assert private not in said
        await server.stop()
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
