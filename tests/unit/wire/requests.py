"""Messages as the clients send them, made as text, so that every byte of them is known."""

from __future__ import annotations

from livesync_trio.model import Event
from livesync_trio.wire import rpc, v3
from livesync_trio.wire.messages import Message, PushRequest


def event_text(
    seq_num: str = "1",
    parent: str = "0",
    args: str | None = "null",
    name: str = '"n"',
    client: str = '"c"',
    session: str = '"s"',
) -> str:
    """An event; every argument is JSON text. `args` None leaves the member out."""
    more = "" if args is None else f'"args":{args},'
    return (
        f'{{"name":{name},{more}"seqNum":{seq_num},"parentSeqNum":{parent},"clientId":{client},"sessionId":{session}}}'
    )


def kept_text(
    seq_num: int = 1, parent: int = 0, args: str = "null", name: str = '"n"', client: str = '"c"', session: str = '"s"'
) -> bytes:
    """The text that must be kept of it."""
    return event_text(str(seq_num), str(parent), args, name, client, session).encode()


def push_text(events: list[str], request_id: str = '"1"', transport: str = "Ws", store: str = '"a"') -> str:
    """A Push of 0.4 or next."""
    payload = f'{{"storeId":{store},"batch":[{",".join(events)}],"backendId":{{"_tag":"None"}}}}'
    return f'{{"_tag":"Request","id":{request_id},"tag":"Sync{transport}Rpc.Push","payload":{payload},"headers":[]}}'


def v3_push_text(events: list[str], request_id: str = '"x"') -> str:
    """A PushReq of 0.3."""
    return f'{{"_tag":"WSMessage.PushReq","requestId":{request_id},"batch":[{",".join(events)}]}}'


def read_everywhere(events: list[str]) -> list[Message]:
    """What each codec makes of a push of these events."""
    return [
        *rpc.decode(push_text(events).encode(), "ws"),
        *rpc.decode(push_text(events, "7").encode(), "ws"),
        *rpc.decode(push_text(events, "7", "Http").encode(), "http"),
        v3.decode(v3_push_text(events).encode()),
    ]


def events_everywhere(events: list[str]) -> list[tuple[Event, ...]]:
    """The events that each codec reads; fails when one refuses them."""
    batches = []
    for message in read_everywhere(events):
        assert isinstance(message, PushRequest), message
        batches.append(message.events)
    return batches
