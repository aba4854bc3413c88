"""What operators do with webhooks at run time; on the mock clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from livesync_trio.config.declaring import Secret
from livesync_trio.config.webhooks import Webhook
from livesync_trio.delivery.messages import Failed, Taken, Wrong
from livesync_trio.delivery.records import STANDINGS, cursors_of, from_plain, read_definition, written
from livesync_trio.model import StoreId
from tests.delivery.receiver import SECRET, Reply, in_turn, webhook
from tests.delivery.stage import staged, until


async def test_a_webhook_made_at_run_time_delivers_changes_and_goes(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        deliveries = stage.deliveries()
        nursery.start_soon(deliveries.run)
        await stage.push("a", 2)
        await deliveries.define(webhook("late", headers={"x-key": "1"}))
        await until(lambda: stage.receiver.numbers("a") == [1, 2])
        await deliveries.define(webhook("late", headers={"x-key": "2"}))
        await trio.sleep(1)
        await stage.push("a", 1)
        await until(lambda: stage.receiver.numbers("a") == [1, 2, 3])
        assert [each.headers["x-key"] for each in stage.receiver.taken] == ["1", "2"]
        await deliveries.remove("late")
        await trio.sleep(1)
        await stage.push("a", 1)
        await trio.sleep(60)
        assert stage.receiver.numbers("a") == [1, 2, 3]
        assert await deliveries.known() == []
        reader = stage.engine.reader()
        assert reader.records(cursors_of("late"), None, 9) == reader.records(STANDINGS, None, 9) == []
        nursery.cancel_scope.cancel()


async def test_a_webhook_with_the_id_of_one_that_is_gone_begins_anew(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        deliveries = stage.deliveries()
        nursery.start_soon(deliveries.run)
        await stage.push("a", 2)
        await deliveries.define(webhook("x"))
        await until(lambda: stage.receiver.numbers("a") == [1, 2])
        await deliveries.remove("x")
        await trio.sleep(1)
        await stage.records.put(cursors_of("x"), "a", b'{"backendId":"left behind","seqNum":2}')
        await deliveries.define(webhook("x"))
        await until(lambda: stage.receiver.numbers("a") == [1, 2, 1, 2])
        nursery.cancel_scope.cancel()


async def test_one_of_the_configuration_is_not_changed_at_run_time(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage:
        deliveries = stage.deliveries(webhook())
        for act in (deliveries.define(webhook()), deliveries.remove("hook")):
            with pytest.raises(Wrong, match="stands in the configuration"):
                await act
        for other in (deliveries.remove("other"), deliveries.test("other"), deliveries.switch("other", on=True)):
            with pytest.raises(Wrong, match="There is no webhook 'other'"):
                await other


async def test_a_test_says_what_the_receiver_says(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage:
        deliveries = stage.deliveries(webhook())
        stage.receiver.answer = in_turn([Reply(204), Reply(500)])
        assert await deliveries.test("hook") == Taken(204)
        assert await deliveries.test("hook") == Failed("it answered 500")
        stage.receiver.unreachable = True
        assert await deliveries.test("hook") == Failed("nobody is there")
        assert stage.receiver.arrived[0].message["type"] == "webhook.test"


async def test_a_replay_goes_back_also_while_a_message_is_under_way(autojump_clock: trio.abc.Clock) -> None:
    async with staged() as stage, trio.open_nursery() as nursery:
        deliveries = stage.deliveries(webhook(batch=2))
        nursery.start_soon(deliveries.run)
        await stage.push("a", 4)
        await until(lambda: stage.place("a").seq_num == 4)
        for wrong, about in ((("a", 5), "ends at 4"), (("nothing", 0), "is told of no store")):
            with pytest.raises(Wrong, match=about):
                await deliveries.replay("hook", StoreId(wrong[0]), wrong[1])
        gate = trio.Event()

        async def wait(_: object) -> Reply:
            await gate.wait()
            return Reply()

        stage.receiver.answer = wait
        await stage.push("a", 2)
        await until(lambda: len(stage.receiver.arrived) == 3)
        await deliveries.replay("hook", StoreId("a"), 0)
        gate.set()
        await until(lambda: stage.place("a").seq_num == 6)
        await trio.sleep(1)
        assert stage.receiver.numbers("a") == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]
        nursery.cancel_scope.cancel()


def test_a_definition_is_written_and_read_whole_and_never_shown() -> None:
    made = webhook(old_secret=Secret(SECRET), headers={"authorization": "Bearer private"}, stores=["a*"], start="now")
    assert read_definition(written(made)) == made
    assert "private" not in repr(made)
    assert SECRET not in repr(made)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "A b"),
        ("id", ""),
        ("url", "http://example.org/"),
        ("url", "ftp://example.org/"),
        ("url", "https://user:pw@example.org/"),
        ("url", "https://example.org/#part"),
        ("url", "https://exa mple.org/"),
        ("url", "https://example.org:99999/"),
        ("url", "https:///path"),
        ("url", "http://127.0.0.1.example.org/"),
        ("url", "https://example.org/" + "x" * 3000),
        ("url", "https://exämple.org/"),
        ("secret", Secret("whsec_c2hvcnQ=")),
        ("secret", Secret("no prefix c2VjcmV0IG9mIHRoZSB0ZXN0cyBvbmx5ISEhISE=")),
        ("stores", []),
        ("stores", "a*"),
        ("events", [""]),
        ("headers", {"webhook-id": "1"}),
        ("headers", {"Host": "elsewhere"}),
        ("headers", {"x": "a\r\nevil: 1"}),
        ("headers", {"x": "ä"}),
        ("headers", {"a b": "1"}),
        ("headers", {f"x-{i}": "y" * 1000 for i in range(20)}),
        ("batch", 0),
        ("batch", 1001),
        ("start", "soon"),
    ],
)
def test_what_is_no_webhook_is_refused(field: str, value: object) -> None:
    given: dict[str, Any] = {"webhook_id" if field == "id" else field: value}
    with pytest.raises(ValueError, match=f"{field}:|array") as refused:
        webhook(**given)
    assert "c2hvcnQ=" not in str(refused.value)
    with pytest.raises(ValueError, match="no webhook"):
        from_plain({"id": "x", "nonsense": 1})


async def test_another_configuration_takes_effect_at_once_and_what_stays_is_not_disturbed(
    autojump_clock: trio.abc.Clock,
) -> None:
    def named(name: str, value: str) -> Webhook:
        return webhook(name, headers={"x-key": value})

    async with staged() as stage, trio.open_nursery() as nursery:
        deliveries = stage.deliveries(named("stays", "stays"), named("changes", "before"))
        nursery.start_soon(deliveries.run)
        await stage.push("a", 1)
        await until(lambda: len(stage.receiver.taken) == 2)
        connections = stage.receiver.connections
        deliveries.reconfigure([named("stays", "stays"), named("changes", "after"), named("new", "new")], None)
        await until(lambda: len(stage.receiver.taken) == 3)  # the new one begins
        await stage.push("a", 1)
        await until(lambda: len(stage.receiver.taken) == 6)
        keys = sorted(each.headers["x-key"] for each in stage.receiver.taken[2:])
        assert keys == ["after", "new", "new", "stays"]
        assert stage.receiver.connections == connections + 2  # the one that stays kept its own
        deliveries.reconfigure([named("stays", "stays")], None)
        await stage.push("a", 1)
        await until(lambda: len(stage.receiver.taken) == 7)
        await trio.sleep(60)
        assert [each.headers["x-key"] for each in stage.receiver.taken[6:]] == ["stays"]
        assert [known.webhook.id for known in await deliveries.known()] == ["stays"]
        nursery.cancel_scope.cancel()
