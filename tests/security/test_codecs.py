"""The codecs under any bytes at all: they answer with a message of their vocabulary, and never raise."""

from __future__ import annotations

import json
import random
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from livesync_trio.wire import rpc, url, v3
from livesync_trio.wire.messages import Message

from .fuzzing import Fuzzer, _messages

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KNOWN = [json.dumps(message).encode() for message in _messages()]
KEYS = ("_tag", "id", "tag", "payload", "requestId", "batch", "storeId", "cursor", "live", "backendId", "seqNum")


@st.composite
def _altered(draw: st.DrawFn) -> bytes:
    """A real message in which one value somewhere is another one."""
    message = json.loads(draw(st.sampled_from(KNOWN)))
    place = message
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()) and isinstance(place, dict):
            del place[key]
        else:
            place[key] = draw(JSON)
        break
    return json.dumps(message).encode()


BYTES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6).map(lambda value: json.dumps(value).encode()),
    _altered(),
)


@settings(max_examples=250, deadline=None)
@given(BYTES)
@example(b"[" * 100_000)
@example(b'{"_tag":' * 30_000)
@example(b'{"_tag":"Request","id":"' + b"9" * 10_000 + b'","tag":"SyncWsRpc.Pull","payload":{}}')
@example(b'{"_tag":"Ack","requestId":' + b"9" * 5_000 + b"}")
@example(b'"\\ud83d"')
def test_any_bytes_become_messages(data: bytes) -> None:
    for transport in ("ws", "http"):
        messages = rpc.decode(data, transport)
        assert messages
        assert all(isinstance(message, Message) for message in messages)
    assert isinstance(v3.decode(data), Message)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
@example("/?" + "a=b&" * 1_000)
@example("/?storeId=s&transport=ws&payload=" + "%255B" * 10_000)
@example("/?storeId=%ED%A0%BD&transport=ws")
def test_any_target_is_read_or_refused(text: str) -> None:
    for target in (text, f"/?storeId=s&transport=ws&{text}", f"/?transport=ws&payload={text}&storeId={text}"):
        with suppress(url.BadSyncUrl):
            found = url.parse(target)
            assert found is None or found.store_id


@pytest.mark.parametrize("seed", range(3))
def test_what_the_fuzzer_says_becomes_messages(seed: int) -> None:
    fuzzer, choose = Fuzzer(seed), random.Random(seed)
    for _ in range(150):
        data = b"".join(fuzzer.conversation())[: choose.choice((100, 1000, 100_000))]
        assert rpc.decode(data, "ws")
        assert v3.decode(data) is not None
