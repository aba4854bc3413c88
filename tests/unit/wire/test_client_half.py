"""What a client writes is what the server reads, and what real servers have said can be read."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.errors import BackendIdMismatch, Kind, Refusal, ServerAhead
from livesync_trio.wire import client_rpc, client_v3, rpc, v3
from livesync_trio.wire.answers import Done, Event, Pages, Unusable
from livesync_trio.wire.messages import Generation, PingRequest, PullRequest, PushRequest, RequestId
from livesync_trio.wire.reading import Unreadable

RECORDINGS = Path(__file__).resolve().parents[2] / "transcripts" / "data"
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates, too


@given(store_id=TEXTS, after=st.integers(0, 2**53 - 1), identity=st.none() | TEXTS, live=st.booleans())
def test_the_server_reads_the_pull_that_is_written(
    store_id: str, after: int, identity: str | None, *, live: bool
) -> None:
    [read] = rpc.decode(client_rpc.pull(7, store_id, b'{"a":1}', after, identity, live=live), "ws")
    assert isinstance(read, PullRequest)
    assert (read.store_id, read.payload, read.live, read.backend_id) == (store_id, b'{"a":1}', live, identity)
    assert read.after == (0 if identity is None else after)
    old = v3.decode(client_v3.pull(7, after))
    assert isinstance(old, PullRequest)
    assert old.after == after


@given(TEXTS, TEXTS, TEXTS, st.sampled_from([b"null", b"1e21", b'"\\ud83d"', b'{"b": 1,"a":[]}']))
def test_the_server_reads_the_push_that_is_written(name: str, client: str, identity: str, args: bytes) -> None:
    event = Event(5, 3, name, args, client, "s")
    for read in (
        *rpc.decode(client_rpc.push(7, "s", None, [event.json], identity), "ws"),
        v3.decode(client_v3.push(7, [event.json])),
    ):
        assert isinstance(read, PushRequest)
        [stored] = read.events
        assert (stored.seq_num, stored.parent_seq_num) == (5, 3)
        assert json.loads(stored.json)["name"] == name
        assert b'"args":' + args + b"," in stored.json
    [ping] = rpc.decode(client_rpc.http_ping(7, "s", b"1"), "http")
    assert isinstance(ping, PingRequest)


@pytest.mark.parametrize(
    "refusal",
    [
        ServerAhead.of(12, 9),
        BackendIdMismatch.of("ours", "theirs"),
        Refusal(Kind.TOO_FAST, "Slower."),
        Refusal(Kind.HOOK_REFUSED, "because"),
    ],
)
@pytest.mark.parametrize("generation", [Generation.V4, Generation.NEXT])
def test_the_refusal_that_the_server_writes_is_read(refusal: Refusal, generation: Generation) -> None:
    answer = client_rpc.read_answer(rpc.refused(RequestId(b'"7"', generation), refusal))
    assert isinstance(answer, Done)
    assert answer.refusal == refusal


def test_the_refusals_of_0_3_are_told_apart_by_their_text() -> None:
    request_id = RequestId(b'"7"', Generation.V3)
    behind = client_v3.read_answer(v3.error(request_id, v3.parent_mismatch(12, 9)))
    assert isinstance(behind, Done)
    assert behind.refusal == ServerAhead.of(12, 9)
    other = client_v3.read_answer(v3.error(request_id, "no"))
    assert isinstance(other, Done)
    assert other.refusal == Refusal(Kind.HOOK_REFUSED, "no")


# --- what real servers said -------------------------------------------------------------------------------------------


def said(recording: Path) -> Iterator[str]:
    """What the server said on WebSockets."""
    opened: Any = gzip.open if recording.suffix == ".gz" else open
    with opened(recording, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("dir") == "s2c" and record.get("kind") == "ws-text" and isinstance(record.get("data"), str):
                yield record["data"]


EVERY = [path for path in sorted(RECORDINGS.rglob("*.jsonl*")) if "ws-" in path.name]


@pytest.mark.parametrize("generation", ["0.3.1", "0.4.0"])
def test_every_message_of_the_recordings_is_read(generation: str) -> None:
    read_answer = client_v3.read_answer if generation == "0.3.1" else client_rpc.read_answer
    counts = {"pages": 0, "done": 0, "events": 0}
    for recording in EVERY:
        if generation not in recording.parts:
            continue
        for text in said(recording):
            answer = read_answer(text.encode(errors="surrogatepass"))
            match answer:
                case Pages():
                    counts["pages"] += 1
                    counts["events"] += sum(len(page.events) for page in answer.read())
                case Done():
                    counts["done"] += 1
                case Unusable(why):
                    assert "defect" in why.lower(), (recording.name, text[:200])
    assert min(counts.values()) > 50, counts


# --- an array that arrives in pieces ----------------------------------------------------------------------------------

WORDS = st.text('a"\\[]{},é', max_size=6)
VALUES = st.recursive(
    st.none() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@given(
    members=st.lists(st.dictionaries(WORDS, VALUES, max_size=3), max_size=4),
    size=st.integers(1, 9),
    spaced=st.booleans(),
)
def test_an_array_in_pieces_gives_its_members(members: list[dict[str, Any]], size: int, *, spaced: bool) -> None:
    text = json.dumps(members, ensure_ascii=False, indent=1 if spaced else None).encode()
    splitter, found = client_rpc.Splitter(10_000), []
    for begin in range(0, len(text), size):
        found += splitter.feed(text[begin : begin + size])
    assert [json.loads(member) for member in found] == members


@pytest.mark.parametrize("text", [b'{"a":[]}', b'"a"', b"]", b"{", b'["' + b"a" * 200, b"[" + b'{"a":1,' * 40])
def test_what_is_no_array_or_too_large_is_told(text: bytes) -> None:
    splitter = client_rpc.Splitter(100)
    with pytest.raises(Unreadable):
        splitter.feed(text)
