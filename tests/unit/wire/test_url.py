"""The URL of a sync request, as the clients encode it and as strangers write it (SPEC 3.1, 5.1)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync_trio.limits import STORE_ID_MAX_BYTES
from livesync_trio.model import StoreId
from livesync_trio.wire.url import BadSyncUrl, SyncUrl, parse


def encode_uri_component(text: str) -> str:
    """As JavaScript's encodeURIComponent."""
    return quote(text, safe="-_.!~*'()")


def form_encode(text: str) -> str:
    """As JavaScript's URLSearchParams: `application/x-www-form-urlencoded` of the URL standard."""
    return quote_plus(text, safe="*-._").replace("~", "%7E")


def client_url(store: str, payload: Any, transport: str | None = "ws", path: str = "/") -> str:
    """The target a client sends."""
    fields = [("storeId", store)]
    if payload is not ...:
        fields.append(("payload", encode_uri_component(json.dumps(payload, ensure_ascii=False, separators=(",", ":")))))
    if transport is not None:
        fields.append(("transport", transport))
    return path + "?" + "&".join(f"{name}={form_encode(value)}" for name, value in fields)


def test_the_real_example() -> None:
    target = "/?storeId=st%2F%C3%B6+re-hd4xc4&payload=%257B%2522authToken%2522%253A%2522sesame%2522%257D&transport=ws"
    assert parse(target) == SyncUrl(StoreId("st/ö re-hd4xc4"), {"authToken": "sesame"}, "ws")
    assert client_url("st/ö re-hd4xc4", {"authToken": "sesame"}) == target


payloads = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
store_ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)


@given(store_ids, payloads, st.sampled_from(["ws", "http"]), st.sampled_from(["/", "/any/path", "/x/websocket", ""]))
def test_what_a_client_of_0_4_encodes_is_decoded(store: str, payload: Any, transport: str, path: str) -> None:
    assert parse(client_url(store, payload, transport, path)) == SyncUrl(StoreId(store), payload, transport)  # type: ignore[arg-type]


@given(store_ids, payloads, st.sampled_from(["/websocket", "/prefix/websocket"]))
def test_what_a_client_of_0_3_encodes_is_decoded(store: str, payload: Any, path: str) -> None:
    assert parse(client_url(store, payload, None, path)) == SyncUrl(StoreId(store), payload, "v3")


def test_without_a_payload_it_is_none() -> None:
    assert parse(client_url("a", ...)) == SyncUrl(StoreId("a"), None, "ws")
    assert parse(client_url("a", None)) == SyncUrl(StoreId("a"), None, "ws")
    assert parse("/?storeId=a&payload=null&transport=ws") == SyncUrl(StoreId("a"), None, "ws")


def test_a_lone_surrogate_in_the_payload_is_kept() -> None:
    parameter = form_encode(encode_uri_component(json.dumps("\ud83d")))
    parsed = parse(f"/?storeId=a&payload={parameter}&transport=ws")
    assert parsed is not None
    assert parsed.payload == "\ud83d"


def test_json_encoded_once_works_where_the_second_decoding_leaves_it_intact() -> None:
    once = quote_plus('{"a":"b c"}')
    assert parse(f"/?storeId=a&payload={once}&transport=ws") == SyncUrl(StoreId("a"), {"a": "b c"}, "ws")
    with pytest.raises(BadSyncUrl):
        parse("/?storeId=a&payload=" + quote_plus('"100%"') + "&transport=ws")


def test_order_and_unknown_parameters_do_not_matter() -> None:
    for target in ("/?transport=http&x=1&storeId=a&x=2&=&&y", "/?x&storeId=a&transport=http"):
        assert parse(target) == SyncUrl(StoreId("a"), None, "http")
    assert parse("/?%73toreId=a&tr%61nsport=http") == SyncUrl(StoreId("a"), None, "http")


@pytest.mark.parametrize(
    ("query", "store"),
    [("a+b", "a b"), ("a%2Bb", "a+b"), ("a%20b", "a b"), ("%C3%B6", "ö"), ("%c3%b6", "ö"), ("o%CC%88", "o\u0308"),
     ("%F0%9F%98%80", "\U0001f600"), ("a/b?c", "a/b?c"), ("a%26b%3Dc", "a&b=c"), ("%EF%BF%BD", "\ufffd"), ("%", "%"),
     ("%zz", "%zz"), ("..%2F..", "../.."), ("a;b", "a;b"), ("+", " "), ("A", "A"), ("%0A", "\n")],
)  # fmt: skip
def test_store_ids_are_taken_exactly(query: str, store: str) -> None:
    assert parse(f"/?storeId={query}&transport=ws") == SyncUrl(StoreId(store), None, "ws")


def test_a_store_id_has_up_to_1024_bytes_of_utf_8() -> None:
    assert STORE_ID_MAX_BYTES == 1024
    for store in ("a" * 1024, "ö" * 512, "\U0001f600" * 256):
        assert parse(client_url(store, ...)) == SyncUrl(StoreId(store), None, "ws")
        with pytest.raises(BadSyncUrl, match="1024 bytes"):
            parse(client_url(store + "a", ...))


@pytest.mark.parametrize(
    "target",
    ["/", "", "/?", "/?storeId=a", "/health", "/websocket/", "/websocketx", "/x?payload=1", "/?Transport=ws&storeId=a",
     "/?storeId=a&websocket"],
)  # fmt: skip
def test_what_is_no_sync_request_at_all(target: str) -> None:
    assert parse(target) is None


BAD = {
    "/?transport=ws": "storeId",
    "/?storeId=&transport=ws": "storeId",
    "/?storeId&transport=ws": "storeId",
    "/?storeId=a&storeId=a&transport=ws": "storeId",
    "/?storeId=%00&transport=ws": "storeId",
    "/?storeid=a&transport=ws": "storeId",
    "/websocket": "storeId",
    "/websocket?storeId=a&storeId=b": "storeId",
    "/?storeId=a&transport=": "transport",
    "/?storeId=a&transport=WS": "transport",
    "/?storeId=a&transport=ws+": "transport",
    "/?storeId=a&transport=ws&transport=http": "transport",
    "/?storeId=a&transport=ws&transport=ws": "transport",
    "/websocket?storeId=a&transport=v3": "transport",
    "/?storeId=a&payload=&transport=ws": "payload",
    "/?storeId=a&payload&transport=ws": "payload",
    "/?storeId=a&payload=undefined&transport=ws": "payload",
    "/?storeId=a&payload=notjson&transport=ws": "payload",
    "/?storeId=a&payload=1&payload=1&transport=ws": "payload",
    "/?storeId=a&payload=%25&transport=ws": "payload",
    "/?storeId=a&payload=%2522%25zz%2522&transport=ws": "payload",
    "/?storeId=a&payload=%2522%25ff%2522&transport=ws": "payload",
    "/?storeId=a&payload=%2522%25ed%25a0%25bd%2522&transport=ws": "payload",
    "/?storeId=a&payload=%257B%2522a%2522%253A1%257D%20x&transport=ws": "payload",
    "/?storeId=a&payload=NaN&transport=ws": "payload",
    "/?storeId=a&payload=" + "%5B" * 10_000 + "&transport=ws": "payload",
    "/websocket?storeId=a&payload=undefined": "payload",
}


@pytest.mark.parametrize(("target", "culprit"), BAD.items(), ids=[target[:60] for target in BAD])
def test_what_means_to_be_a_sync_request_and_cannot_be_one(target: str, culprit: str) -> None:
    with pytest.raises(BadSyncUrl, match=f"`{culprit}`") as caught:
        parse(target)
    assert len(str(caught.value)) < 100


def test_many_parameters_are_refused() -> None:
    with pytest.raises(BadSyncUrl, match="parameters"):
        parse("/?storeId=a&transport=ws" + "&x=1" * 1000)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80))
def test_any_target_is_parsed_or_refused(text: str) -> None:
    for target in (text, "/websocket?" + text, "/?storeId=a&transport=ws&" + text, "/?transport=http&storeId=" + text):
        try:
            parsed = parse(target)
        except BadSyncUrl:
            continue
        if parsed is not None:
            parsed.store_id.encode()


@pytest.mark.parametrize("bytes_", ["%FF", "%FE", "a%C3", "%ED%A0%80", "%C0%AF", "%F5%80%80%80"])
def test_what_is_not_utf_8_is_refused_and_not_replaced(bytes_: str) -> None:
    """Replaced by the same sign, two names would be one store."""
    for query in (f"storeId={bytes_}", f"storeId=a&{bytes_}=b", f"storeId=a&payload={bytes_}"):
        with pytest.raises(BadSyncUrl, match="UTF-8"):
            parse(f"/?{query}&transport=ws")
