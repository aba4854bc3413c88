"""Frames that break RFC 6455, and those that look odd but do not."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from livesync_trio.errors import RULES, Kind

from .clients import RpcClient, event, pull, push, sync_url
from .servers import STORE, TestedServer
from .websockets import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, WebSocket, frame, text, upgrade
from .wires import Ended

PING_MESSAGE = b'{"_tag":"Ping"}'
PONG_MESSAGE = Frame(TEXT, b'{"_tag":"Pong"}')


def masked(opcode: int, payload: bytes) -> bytes:
    """A frame with a mask that changes every byte."""
    mask = b"\x12\x34\x56\x78"
    plain = frame(opcode, payload)
    head = len(plain) - len(payload) - len(mask)
    return plain[:head] + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


BROKEN: dict[str, bytes] = {
    "without a mask": frame(TEXT, PING_MESSAGE, masked=False),
    "a ping without a mask": frame(PING, b"x", masked=False),
    **{f"reserved bits {rsv:03b} (100: deflate)": frame(TEXT, PING_MESSAGE, rsv=rsv) for rsv in range(1, 8)},
    "reserved bits in a ping": frame(PING, b"x", rsv=7),
    "reserved bits in a close": frame(CLOSE, b"\x03\xe8", rsv=7),
    "reserved bits in a continuation": frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"}", rsv=1),
    **{f"reserved opcode {opcode}": frame(opcode, PING_MESSAGE) for opcode in (*range(3, 8), *range(11, 16))},
    "a ping of 126 bytes": frame(PING, b"x" * 126),
    "a pong of 126 bytes": frame(PONG, b"x" * 126),
    "a close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "a ping in fragments": frame(PING, b"x", fin=False),
    "a pong in fragments": frame(PONG, b"x", fin=False),
    "a close in fragments": frame(CLOSE, b"\x03\xe8", fin=False),
    "a continuation of nothing": frame(CONTINUATION, PING_MESSAGE),
    "the beginning of a continuation of nothing": frame(CONTINUATION, PING_MESSAGE, fin=False),
    "a continuation of a message that was whole": masked(TEXT, b'{"_tag":"Eof"}') + frame(CONTINUATION, b""),
    "a new message inside another": frame(TEXT, b"{", fin=False) + frame(TEXT, PING_MESSAGE),
    "a close with one byte": frame(CLOSE, b"\x03"),
    **{
        f"a close with code {code}": frame(CLOSE, code.to_bytes(2, "big"))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "a length of 2^63": frame(TEXT, b"", length=b"\x7f\x80\0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("generation", ["rpc", "v3"])
async def test_a_frame_that_breaks_the_protocol_closes_the_socket(
    server: TestedServer, generation: str, sent: bytes
) -> None:
    client: Any = await (server.rpc() if generation == "rpc" else server.v3())
    await client.wire.send(sent)
    code = await client.closed()
    kinds = [line["kind"] for line in server.logged("connection closed")]
    if sent == BROKEN["a length of 2^63"] and kinds == [Kind.FRAME_TOO_BIG]:
        assert code == RULES[Kind.FRAME_TOO_BIG].close_code  # too big and against the protocol: either is right
        return
    assert kinds == [Kind.PROTOCOL_ERROR]
    assert code == RULES[Kind.PROTOCOL_ERROR].close_code == 1002


NOT_UTF_8 = {
    "a stray byte": b'{"_tag":"Ping","x":"\xff"}',
    "an encoded surrogate": b'{"_tag":"Ping","x":"\xed\xa0\xbd"}',
    "too long an encoding": b'{"_tag":"Ping","x":"\xc0\x80"}',
    "a cut sequence": b'{"_tag":"Ping","x":"\xf0\x9f\x98"}',
    "beyond U+10FFFF": b'{"_tag":"Ping","x":"\xf4\x90\x80\x80"}',
    "the last surrogate": b'{"_tag":"Ping","x":"\xed\xbf\xbf"}',
    "a pair of surrogates": b'{"_tag":"Ping","x":"\xed\xa0\x80\xed\xb0\x80"}',
    "a slash in three bytes": b'{"_tag":"Ping","x":"\xe0\x80\xaf"}',
    "five bytes": b'{"_tag":"Ping","x":"\xf8\x88\x80\x80\x80"}',
    "six bytes": b'{"_tag":"Ping","x":"\xfc\x84\x80\x80\x80\x80"}',
    "0xFE": b'{"_tag":"Ping","x":"\xfe"}',
    "a lonely continuation byte": b'{"_tag":"Ping","x":"\x80"}',
    "cut at the end": b'{"_tag":"Ping","x":"\xce\xba\xe1',
}


@pytest.mark.parametrize("data", NOT_UTF_8.values(), ids=NOT_UTF_8)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
async def test_a_message_that_is_not_utf_8_closes_the_socket_with_1007(
    server: TestedServer, opcode: int, data: bytes
) -> None:
    client = await server.rpc()
    await client.send_frame(opcode, data)
    assert await client.closed() == RULES[Kind.BAD_TEXT].close_code == 1007
    assert [line["kind"] for line in server.logged("connection closed")] == [Kind.BAD_TEXT]


async def test_a_close_reason_that_is_not_utf_8_closes_the_socket(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send_frame(CLOSE, b"\x03\xe8\xff")
    assert await client.closed() in (RULES[Kind.BAD_TEXT].close_code, RULES[Kind.PROTOCOL_ERROR].close_code)


@pytest.mark.parametrize("fragments", [1, 2, 1_000], ids=["whole", "halves", "bytes"])
async def test_every_character_that_utf_8_has_is_taken(server: TestedServer, fragments: int) -> None:
    """The borders of its ranges, what Unicode calls no characters among them."""
    client = await server.rpc()
    edges = (0x20, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFE, 0x10FFFF)
    args = "κόσμε" + "".join(map(chr, edges))
    data = json.dumps(push("1", STORE, event(1, 0, args)), ensure_ascii=False).encode()
    size = max(1, len(data) // fragments)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    for number, piece in enumerate(pieces):
        opcode = CONTINUATION if number else TEXT
        await client.send_frame(opcode, piece, fin=number == len(pieces) - 1)
    assert (await client.answer_to("1"))[1]["exit"]["_tag"] == "Success"
    assert (await client.pull())[0]["args"] == args


@pytest.mark.parametrize("broken", [0, 1, 2], ids=["first", "middle", "last"])
async def test_a_message_that_is_not_utf_8_in_one_of_its_fragments_closes_the_socket_with_1007(
    server: TestedServer, broken: int
) -> None:
    client = await server.rpc()
    pieces = [b'{"_tag":"Ping",', b'"x":"', b'"}']
    pieces[broken] += b"\xf4\x90\x80\x80"
    for number, piece in enumerate(pieces):
        await client.send_frame(CONTINUATION if number else TEXT, piece, fin=number == 2)
    assert await client.closed() == RULES[Kind.BAD_TEXT].close_code


async def test_pings_are_answered_with_their_payload_in_order(server: TestedServer) -> None:
    payloads = [b"", b"Hello", bytes(range(0x90, 0x100)) + b"\0\xff", b"x" * 125, *(b"%d" % n for n in range(10))]
    for client in (await server.rpc(), await server.v3()):
        await client.wire.send(b"".join(frame(PING, payload) for payload in payloads))
        assert [await client.receive_frame() for _ in payloads] == [Frame(PONG, payload) for payload in payloads]
        for payload in payloads:
            await client.wire.send_piecemeal(masked(PING, payload))
            assert await client.receive_frame() == Frame(PONG, payload)


async def test_a_character_may_be_split_over_fragments(server: TestedServer) -> None:
    client = await server.rpc()
    message = json.dumps(push("1", STORE, event(1, 0, "ö\U0001f600")), ensure_ascii=False).encode()
    pieces = [bytes((byte,)) for byte in message]
    await client.send_frame(TEXT, pieces[0], fin=False)
    for piece in pieces[1:-1]:
        await client.send_frame(CONTINUATION, piece, fin=False)
    await client.send_frame(CONTINUATION, pieces[-1])
    assert (await client.answer_to("1"))[1]["exit"]["_tag"] == "Success"
    assert (await client.pull())[0]["args"] == "ö\U0001f600"
    await client.check_works()


async def test_control_frames_between_fragments_are_answered_at_once(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send_frame(TEXT, PING_MESSAGE[:4], fin=False)
    await client.send_frame(PING, b"in between")
    assert await client.receive_frame() == Frame(PONG, b"in between")
    await client.send_frame(PONG, b"nobody asked")
    await client.send_frame(CONTINUATION, b"", fin=False)
    await client.send_frame(CONTINUATION, PING_MESSAGE[4:])
    assert await client.receive_frame() == PONG_MESSAGE
    await client.check_works()


async def test_1024_fragments_are_a_message_and_more_are_refused(server: TestedServer) -> None:
    client = await server.rpc()
    empty = frame(CONTINUATION, b"", fin=False)
    last = frame(CONTINUATION, PING_MESSAGE)
    await client.wire.send(frame(TEXT, b"", fin=False) + 1022 * empty + last)
    assert await client.receive_frame() == PONG_MESSAGE
    await client.wire.send(frame(TEXT, b"", fin=False) + 1023 * empty + last)
    assert await client.closed() == RULES[Kind.FRAME_TOO_BIG].close_code


async def test_fragments_that_never_end_are_refused(server: TestedServer) -> None:
    client = await server.rpc()
    await client.wire.send(frame(TEXT, b"", fin=False) + 100_000 * frame(CONTINUATION, b"", fin=False))
    assert await client.closed() == RULES[Kind.FRAME_TOO_BIG].close_code


async def test_a_length_may_be_written_longer_than_needed(server: TestedServer) -> None:
    """RFC 6455 forbids it to senders; a server that reads it is as good as one that closes. It must not hang."""
    client = await server.rpc()
    await client.send_frame(TEXT, PING_MESSAGE, length=b"\x7e\0" + bytes((len(PING_MESSAGE),)))
    received = await client.receive_frame()
    assert received == PONG_MESSAGE or client.close_code == RULES[Kind.PROTOCOL_ERROR].close_code


async def test_binary_frames_are_taken_in_0_4_and_ignored_in_0_3(server: TestedServer) -> None:
    client = await server.rpc()
    await client.send_frame(BINARY, PING_MESSAGE)
    assert await client.receive_frame() == PONG_MESSAGE
    await client.check_works()
    old = await server.v3()  # not before that push, whose broadcast it would get
    await old.send_frame(BINARY, b'{"_tag":"WSMessage.Ping","requestId":"in binary"}')
    await old.send({"_tag": "WSMessage.Ping", "requestId": "in text"})
    assert (await old.receive())["requestId"] == "in text"
    await old.check_works()


CLOSES = {
    "nothing": b"",
    **{str(code): code.to_bytes(2, "big") for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)},
    "1001 with a reason": b"\x03\xe9bye",
    "the longest reason": b"\x03\xe8" + b"x" * 121 + "ö".encode(),
}


@pytest.mark.parametrize("data", CLOSES.values(), ids=CLOSES)
async def test_a_close_frame_is_answered_with_its_code_and_the_end(server: TestedServer, data: bytes) -> None:
    client = await server.rpc()
    await client.send_frame(CLOSE, data)
    answer = await client.receive_frame()
    assert (answer.opcode, answer.payload[:2]) == (CLOSE, data[:2])
    assert await client.wire.read_to_end() == b""


async def test_what_comes_right_before_a_close_frame_is_done_and_the_socket_ends_all_the_same(
    server: TestedServer,
) -> None:
    """The client waits for the server to end the TCP connection (RFC 6455, 7.1.1)."""
    client = await server.rpc()
    await client.wire.send(text(push("1", STORE, event(1))) + frame(CLOSE, b"\x03\xe8"))
    assert await client.closed(agree=False) == 1000
    other = await server.rpc()
    assert [stored["seqNum"] for stored in await other.pull()] == [1]


async def test_what_comes_right_before_a_broken_frame_is_done_and_the_socket_ends_all_the_same(
    server: TestedServer,
) -> None:
    client = await server.rpc()
    await client.wire.send(text(push("1", STORE, event(1))) + frame(TEXT, b"x", masked=False))
    assert await client.closed(agree=False) == RULES[Kind.PROTOCOL_ERROR].close_code
    assert [line["kind"] for line in server.logged("connection closed")] == [Kind.PROTOCOL_ERROR]
    assert [stored["seqNum"] for stored in await (await server.rpc()).pull()] == [1]


async def test_nothing_is_answered_after_the_close_frame(server: TestedServer) -> None:
    client = await server.rpc()
    await client.wire.send(frame(CLOSE, b"\x03\xe8") + text(push("1", STORE, event(1))) + frame(PING, b"x"))
    assert await client.closed(agree=False) == 1000
    assert await (await server.rpc()).pull() == []


async def test_a_client_that_vanishes_in_the_middle_of_a_frame_leaves_no_trace(server: TestedServer) -> None:
    for cut in (frame(TEXT, PING_MESSAGE)[:5], frame(TEXT, PING_MESSAGE, fin=False), frame(PING, b"abc")[:3]):
        client = await server.rpc()
        await client.send(pull("1", STORE, live=True))
        await client.receive()
        await client.wire.send(cut)
        await client.wire.half_close()
        await client.wire.read_to_end()
        client = await server.rpc()
        await client.send(pull("1", STORE, live=True))
        await client.receive()
        await client.wire.send(cut)
        await client.wire.reset()


@pytest.mark.parametrize("size", [15, 125, 126, 127, 128, 65_535, 65_536, 65_537])
async def test_messages_of_every_kind_of_length_are_unmasked_and_taken(server: TestedServer, size: int) -> None:
    client = await server.rpc()
    message = PING_MESSAGE[:-1] + b" " * (size - len(PING_MESSAGE)) + b"}"
    await client.wire.send(masked(TEXT, message) + masked(BINARY, message) + masked(PING, b"x"))
    assert sorted([await client.receive_frame() for _ in range(3)]) == [PONG_MESSAGE, PONG_MESSAGE, Frame(PONG, b"x")]


@pytest.mark.parametrize("size", [0, 15, 125, 65_535])
async def test_a_length_written_longer_than_needed_does_not_shift_what_follows(server: TestedServer, size: int) -> None:
    """Whoever reads the length wrongly takes the middle of a message for a frame: what smuggling is made of."""
    client = await server.rpc()
    length = b"\x7f" + size.to_bytes(8, "big") if size > 125 else b"\x7e" + size.to_bytes(2, "big")
    inner = frame(PING, b"smuggled")
    await client.wire.send(frame(BINARY, (inner + b" " * size)[:size], length=length) + frame(PING, b"after"))
    assert Frame(PONG, b"smuggled") not in await received_until_pong_or_end(client)


async def received_until_pong_or_end(client: WebSocket) -> list[Frame]:
    received: list[Frame] = []
    with contextlib.suppress(Ended):
        while Frame(PONG, b"after") not in received:
            received.append(await client.receive_frame())
    return received


async def test_frames_of_all_kinds_may_be_split_at_every_byte(server: TestedServer) -> None:
    client = await server.rpc()
    several = (
        text({"_tag": "Ping"})
        + masked(PING, b"x" * 125)
        + frame(TEXT, PING_MESSAGE[:4], fin=False)
        + frame(PING, b"")
        + masked(CONTINUATION, PING_MESSAGE[4:])
        + frame(TEXT, PING_MESSAGE + b" " * 200)
        + masked(BINARY, PING_MESSAGE)
    )
    expected = sorted([PONG_MESSAGE] * 4 + [Frame(PONG, b"x" * 125), Frame(PONG, b"")])
    for split in range(1, len(several)):
        await client.wire.send_piecemeal(several, split)
        assert sorted([await client.receive_frame() for _ in expected]) == expected, split


async def test_frames_may_arrive_byte_by_byte(server: TestedServer) -> None:
    client = await server.rpc()
    message = text(push("1", STORE, event(1))) + frame(PING, b"x") + text({"_tag": "Ping"})
    await client.wire.send_piecemeal(message)
    answers = sorted([await client.receive_frame() for _ in range(3)])
    assert [answer.opcode for answer in answers] == [TEXT, TEXT, PONG]
    await client.check_works()


async def test_the_first_frames_may_come_in_the_same_segment_as_the_handshake(server: TestedServer) -> None:
    early = upgrade(sync_url(STORE)) + text({"_tag": "Ping"}) + text(pull("0", STORE))
    for split in (len(early), *range(len(upgrade(sync_url(STORE))) - 3, len(early), 17)):
        wire = await server.wire()
        await wire.send_piecemeal(early, split)
        assert (await wire.read_answer()).status == 101
        client = RpcClient(wire, STORE)
        assert await client.receive() == {"_tag": "Pong"}
        assert (await client.answer_to("0"))[1]["exit"]["_tag"] == "Success"
        await client.check_works()
