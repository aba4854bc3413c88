"""A change that may be the client's own waits for the client's answer, but never for one that does not come."""

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from livesync_trio.errors import StorageUnavailable
from livesync_trio.feed import echoes
from livesync_trio.feed.echoes import OwnWrites
from livesync_trio.feed.writes.applying import Outcome
from livesync_trio.feed.writes.session import WriteSession, _Message

XID = 7
ROWS: dict[echoes.Key, set[bytes]] = {("public.todos", "[1]"): {echoes.digest_of(("1",))}}


async def test_an_answer_lets_go_of_what_waits() -> None:
    writes = OwnWrites()
    writes.expect(XID, ROWS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writes.answered, XID)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        writes.answer(XID)
    assert writes.expects(XID)


async def test_what_is_forgotten_to_make_room_lets_go_too(monkeypatch: Any) -> None:
    monkeypatch.setattr(echoes, "FEED_OWN_ROWS_KEPT", 1)
    writes = OwnWrites()
    writes.expect(XID, ROWS)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writes.answered, XID)
            await trio.testing.wait_all_tasks_blocked()
            writes.expect(XID + 1, ROWS)
    assert not writes.expects(XID)


async def test_a_commit_of_which_nobody_knows_lets_go_and_is_sent(autojump_clock: trio.testing.MockClock) -> None:
    """The connection to the source was lost as it committed, and it cannot be asked: it may be there all the same."""
    writes, said = OwnWrites(), []

    class Lost:
        async def write(self, _writes: Any, _view: Any, before_commit: Any) -> Outcome:
            before_commit(SimpleNamespace(xid=XID, rows=ROWS))
            nursery.start_soon(writes.answered, XID)
            await trio.testing.wait_all_tasks_blocked()
            raise StorageUnavailable("Whether this was written is not known.")

    peer: Any = SimpleNamespace(
        client=SimpleNamespace(meter=None),
        unanswered=SimpleNamespace(give_back=lambda _bytes: None),
        worth_a_line=lambda _what: False,
    )
    conversation: Any = SimpleNamespace(say=lambda kind, **told: said.append((kind, told["success"])))
    feed: Any = SimpleNamespace(state=SimpleNamespace(head_lsn=0))
    write_session = WriteSession(peer, conversation, SimpleNamespace(view=None), writes, feed, Lost())  # type: ignore[arg-type]
    write_session._waiting.append(_Message(None, [], 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await write_session._work()
    assert said == [("srv_changes_applied", False)]
    assert not writes.expects(XID)
