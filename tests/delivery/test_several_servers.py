"""Of several servers on one database one delivers; when it dies another goes on; on the mock clock."""

from __future__ import annotations

from functools import partial

import trio

from livesync_trio.delivery.lease import Lease
from livesync_trio.delivery.limits import WEBHOOK_LEASE_RENEW_S, WEBHOOK_LEASE_S, WEBHOOK_LOOK_S
from livesync_trio.delivery.service import Deliveries
from livesync_trio.errors import StorageUnavailable
from livesync_trio.model import StoreId
from tests.delivery.receiver import Arrived, Reply, webhook
from tests.delivery.stage import DeliveryStage, staged, until

TAKEOVER_S = WEBHOOK_LEASE_S + 2 * WEBHOOK_LEASE_RENEW_S


class Server:
    """One of them, which can be killed."""

    def __init__(self, stage: DeliveryStage, nursery: trio.Nursery) -> None:
        self.deliveries: Deliveries = stage.deliveries(webhook(batch=2), shared=True)
        self._scope = trio.CancelScope()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            await self.deliveries.run()

    def kill(self) -> None:
        self._scope.cancel()

    @property
    def delivers(self) -> bool:
        return self.deliveries.delivering


async def test_one_delivers_and_when_it_dies_another_goes_on_within_seconds(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:

        async def slow(_: Arrived) -> Reply:
            await trio.sleep(0.2)
            return Reply()

        stage.receiver.answer = slow
        servers = [Server(stage, nursery) for _ in range(3)]
        await until(lambda: any(server.delivers for server in servers))
        head = 0
        for _ in range(len(servers)):
            head = await stage.push("a", 20)
            await trio.sleep(0.5)
            [active] = [server for server in servers if server.delivers]
            servers.remove(active)
            active.kill()
            killed_s = trio.current_time()
            if servers:
                await until(lambda: any(server.delivers for server in servers))
                assert trio.current_time() - killed_s < TAKEOVER_S
        servers.append(Server(stage, nursery))
        await until(lambda: stage.place("a").seq_num == head)
        numbers = stage.receiver.numbers("a")
        assert list(dict.fromkeys(numbers)) == list(range(1, head + 1))
        assert len(numbers) <= head + 3 * 2  # the message in flight, once for each that died
        nursery.cancel_scope.cancel()


async def test_a_server_that_stops_in_order_hands_over_at_once_and_nothing_comes_twice(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        first = Server(stage, nursery)
        await until(lambda: first.delivers)
        second = Server(stage, nursery)
        head = await stage.push("a", 30)
        await until(lambda: stage.receiver.taken)
        await first.deliveries.drain()
        drained_s = trio.current_time()
        await until(lambda: second.delivers)
        assert trio.current_time() - drained_s <= WEBHOOK_LEASE_RENEW_S + 1
        await until(lambda: stage.place("a").seq_num == head)
        assert stage.receiver.numbers("a") == list(range(1, head + 1))
        nursery.cancel_scope.cancel()


async def test_who_cannot_renew_stops_before_anybody_else_begins(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        held: dict[str, float] = {}
        ended: dict[str, float] = {}

        async def work(name: str) -> None:
            held[name] = trio.current_time()
            try:
                await trio.sleep_forever()
            finally:
                ended[name] = trio.current_time()

        other = DeliveryStage(nursery)
        other.engine = stage.engine
        first, second = Lease(stage.records, "x"), Lease(stage.records, "x")
        scope = trio.CancelScope()
        nursery.start_soon(partial(first.run, partial(work, "first")))
        await until(lambda: "first" in held)
        stage.writer.fail_before = StorageUnavailable("of the test")
        failed_s = trio.current_time()
        nursery.start_soon(partial(second.run, partial(work, "second")))
        with trio.fail_after(10 * WEBHOOK_LEASE_S):
            await until(lambda: "first" in ended)
        assert ended["first"] - failed_s <= WEBHOOK_LEASE_S
        assert "second" not in held
        stage.writer.fail_before = None
        await until(lambda: held.keys() == {"first", "second"} or held["first"] > ended["first"])
        assert first.held != second.held
        scope.cancel()
        nursery.cancel_scope.cancel()


async def test_a_renewal_with_an_unclear_outcome_does_not_cost_the_lease(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        begun: list[float] = []

        async def work() -> None:
            begun.append(trio.current_time())
            await trio.sleep_forever()

        lease = Lease(stage.records, "x")
        nursery.start_soon(lease.run, work)
        for _ in range(10):
            await trio.sleep(WEBHOOK_LEASE_RENEW_S)
            stage.writer.fail_after = StorageUnavailable("of the test")
        await trio.sleep(10 * WEBHOOK_LEASE_S)
        assert len(begun) == 1
        assert lease.held
        nursery.cancel_scope.cancel()


async def test_what_an_operator_does_on_one_server_the_one_that_delivers_carries_out(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        first = Server(stage, nursery)
        await until(lambda: first.delivers)
        second = Server(stage, nursery)
        await stage.push("a", 4)
        await until(lambda: stage.place("a").seq_num == 4)
        await second.deliveries.replay("hook", StoreId("a"), 2)
        await trio.sleep(WEBHOOK_LOOK_S + 1)
        assert stage.receiver.numbers("a") == [1, 2, 3, 4, 3, 4]
        await second.deliveries.switch("hook", on=False)
        await trio.sleep(WEBHOOK_LOOK_S + 1)
        await stage.push("a", 1)
        await trio.sleep(1)
        assert stage.receiver.numbers("a")[-1] == 4
        await second.deliveries.switch("hook", on=True)
        await trio.sleep(WEBHOOK_LOOK_S + 1)
        assert stage.receiver.numbers("a")[-1] == 5
        nursery.cancel_scope.cancel()
