"""Which tokens are valid (`transport.tokens`), and where their keys come from (`transport.jwks`)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
import structlog
import trio

from livesync_trio.access.jwks import (
    JWKS_MAX_AGE_S,
    JWKS_MAX_BYTES,
    JWKS_REFRESH_LEAST_S,
    RemoteKeys,
    parse_jwks,
    read_keys,
)
from livesync_trio.access.tokens import Identified, TokenVerifier
from livesync_trio.errors import Kind, Refusal, StartupError

from .tokens import EC, ED, OTHER_RSA, RSA, SECRET, claims, jwk, jwks, pem_of, private_pem_of, token

SHARED = TokenVerifier(secret=SECRET)


def keyed(tmp_path: Path, content: bytes, **settings: Any) -> TokenVerifier:
    file = tmp_path / "keys"
    file.write_bytes(content)
    return TokenVerifier(keys=read_keys(str(file)), **settings)


async def check(verifier: TokenVerifier, text: str) -> bool:
    """Whether a token is taken; a refusal never repeats the token, and says 401."""
    outcome = await verifier.verify(text)
    if isinstance(outcome, Identified):
        assert outcome.principal.id == "ann"
        return True
    assert outcome.kind is Kind.UNAUTHENTICATED
    assert not text or text not in outcome.message
    return False


def unsigned(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


async def test_a_right_token_is_taken() -> None:
    outcome = await SHARED.verify(token(org="acme"))
    assert isinstance(outcome, Identified)
    assert outcome.principal.claims["org"] == "acme"
    assert 3000 < outcome.expires_in_s <= 3600


WRONG: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no token": lambda: "sesame",
    "dots": lambda: "..",
    "many dots": lambda: "." * 1000,
    "not ASCII": lambda: token() + "é",
    "half a pair": lambda: "\ud83d.a.b",
    "NUL": lambda: token() + "\0",
    "another secret": lambda: token("another secret that is long enough, too"),
    "signature cut": lambda: token()[:-1],
    "signature gone": lambda: token().rpartition(".")[0] + ".",
    "alg none": lambda: unsigned({"alg": "none", "typ": "JWT"}, claims()),
    "alg NONE": lambda: unsigned({"alg": "nOnE"}, claims()),
    "alg missing": lambda: unsigned({"typ": "JWT"}, claims(), b"x"),
    "alg a list": lambda: unsigned({"alg": ["HS256"]}, claims(), b"x"),
    "alg not pinned": lambda: token(SECRET * 2, "HS512"),
    "another alg with the secret": lambda: token(RSA, "RS256"),
    "expired": lambda: token(expires_in_s=-1),
    "never expires": lambda: token(expires_in_s=None),
    "exp a text": lambda: token(exp="tomorrow"),
    "exp too big": lambda: token(exp=10**400) if False else unsigned({"alg": "HS256"}, claims(exp=1e300), b"x"),
    "not yet": lambda: token(nbf=int(time.time()) + 100),
    "for somebody else": lambda: token(aud="others"),
    "nobody": lambda: token(sub=""),
    "sub a number": lambda: jwt.encode({**claims(), "sub": 7}, SECRET),
    "claims a list": lambda: jwt.api_jws.encode(b"[]", SECRET),
    "claims no JSON": lambda: jwt.api_jws.encode(b"hello", SECRET),
    "deep claims": lambda: jwt.api_jws.encode(b"[" * 50_000, SECRET),
    "unknown crit": lambda: jwt.encode(claims(), SECRET, headers={"crit": ["x"], "x": 1}),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_token_is_refused_and_nothing_crashes(make: Callable[[], str]) -> None:
    assert not await check(SHARED, make())


async def test_why_a_token_is_not_valid_is_told_to_the_operator_and_not_to_who_brings_it() -> None:
    for wrong, why in (
        ("sesame", "no JSON Web Token"),
        (token("another secret that is long enough, too"), "InvalidSignatureError"),
        (token(aud="others"), "InvalidAudienceError"),
        (token(expires_in_s=None), "MissingRequiredClaimError"),
        (token(sub=""), "its sub is no text"),
        (token(SECRET * 2, "HS512"), "jwt_algorithms"),
    ):
        with structlog.testing.capture_logs() as logs:
            refusal = await SHARED.verify(wrong)
        assert isinstance(refusal, Refusal)
        assert refusal.message == "The token is not valid here. Log in again."
        (line,) = logs
        assert why in line["reason"]
        assert line["log_level"] == "debug"
        assert wrong not in str(line)


@pytest.mark.parametrize(("late_s", "leeway_s", "taken"), [(2, 0, False), (2, 30, True), (40, 30, False)])
async def test_leeway_forgives_clocks_that_differ(late_s: int, leeway_s: float, taken: bool) -> None:
    verifier = TokenVerifier(secret=SECRET, leeway_s=leeway_s)
    assert await check(verifier, token(expires_in_s=-late_s)) is taken
    assert await check(verifier, token(nbf=int(time.time()) + late_s)) is taken


async def test_issuer_and_audience_must_be_those_configured() -> None:
    verifier = TokenVerifier(secret=SECRET, issuer="https://id.example/", audience="sync")
    assert await check(verifier, token(iss="https://id.example/", aud="sync"))
    assert await check(verifier, token(iss="https://id.example/", aud=["app", "sync"]))
    for wrong in ({}, {"iss": "https://id.example/"}, {"aud": "sync"}):
        assert not await check(verifier, token(**wrong))
    assert not await check(verifier, token(iss="https://id.example", aud="sync"))
    assert not await check(verifier, token(iss="https://id.example/", aud="sync2"))


async def test_the_user_may_be_in_another_claim() -> None:
    verifier = TokenVerifier(secret=SECRET, principal_claim="https://x.example/user")
    assert not await check(verifier, token())
    assert await check(verifier, token(**{"https://x.example/user": "ann", "sub": "other"}))


# --- public keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
async def test_a_pem_file_verifies_what_its_key_signed(tmp_path: Path, key: Any, algorithm: str) -> None:
    verifier = keyed(tmp_path, pem_of(key))
    assert await check(verifier, token(key, algorithm))
    assert await check(verifier, token(key, algorithm, kid="whatever"))
    assert not await check(verifier, token(OTHER_RSA, "RS256"))
    assert not await check(verifier, token())


async def test_a_public_key_is_never_taken_for_a_secret(tmp_path: Path) -> None:
    """The classic confusion: a token "signed" by HMAC with the public key, which everybody knows."""
    import hashlib
    import hmac

    pem = pem_of(RSA)
    for verifier in (keyed(tmp_path, pem), keyed(tmp_path, pem, secret=SECRET)):
        head = unsigned({"alg": "HS256"}, claims()).rpartition(".")[0]
        forged = hmac.new(pem, head.encode(), hashlib.sha256).digest()
        assert not await check(verifier, head + "." + base64.urlsafe_b64encode(forged).decode().rstrip("="))


async def test_algorithms_are_pinned(tmp_path: Path) -> None:
    assert not await check(keyed(tmp_path, pem_of(RSA), keyed=("PS256",)), token(RSA, "RS256"))
    assert await check(keyed(tmp_path, pem_of(RSA), keyed=("PS256",)), token(RSA, "PS256"))
    assert not await check(keyed(tmp_path, pem_of(RSA)), token(RSA, "RS512"))


async def test_secret_and_keys_may_stand_side_by_side(tmp_path: Path) -> None:
    verifier = keyed(tmp_path, pem_of(EC), secret=SECRET)
    assert await check(verifier, token())
    assert await check(verifier, token(EC, "ES256"))


async def test_a_jwks_file_gives_the_key_that_the_token_names(tmp_path: Path) -> None:
    verifier = keyed(tmp_path, jwks(jwk(RSA, "r"), jwk(EC, "e"), jwk(ED, "d"), jwk(OTHER_RSA, None)))
    assert await check(verifier, token(RSA, "RS256", kid="r"))
    assert await check(verifier, token(EC, "ES256", kid="e"))
    assert await check(verifier, token(ED, "EdDSA", kid="d"))
    assert await check(verifier, token(RSA, "RS256"))
    assert await check(verifier, token(OTHER_RSA, "RS256", kid="unknown"))  # a key without an id is for every token
    assert not await check(verifier, token(RSA, "RS256", kid="e"))
    assert not await check(verifier, token(RSA, "RS256", kid="unknown"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"{",
        b"-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n",
        private_pem_of(RSA),
        jwks({"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}),
        jwks(jwk(RSA, "r", use="enc")),
        jwks({"kty": "RSA", "n": "!", "e": "AQAB"}),
        b'{"keys":7}',
    ],
    ids=["empty", "empty object", "no JSON", "no PEM", "private", "secret", "encryption", "broken", "no list"],
)
def test_a_file_without_a_public_key_stops_the_start(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(StartupError) as error:
        keyed(tmp_path, content)
    assert error.value.kind is Kind.BAD_CONFIG


# --- a JWKS URL ------------------------------------------------------------------------------------------------------


class Issuer:
    """A web server with a JWKS."""

    def __init__(self) -> None:
        self.content = jwks(jwk(RSA, "1"))
        self.status = 200
        self.location: str | None = None
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                if issuer.location is not None:
                    self.send_header("location", issuer.location)
                self.end_headers()
                self.wfile.write(issuer.content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


class Clock:
    """Trio's clock, moved on by hand, while threads take their real time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now_s = 1000.0
        monkeypatch.setattr("livesync_trio.access.jwks.trio.current_time", lambda: self._now_s)

    def pass_s(self, seconds: float) -> None:
        self._now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_a_url_is_fetched_once_for_all_who_wait(issuer: Issuer) -> None:
    verifier = TokenVerifier(keys=RemoteKeys(issuer.url))
    results: list[bool] = []

    async def ask() -> None:
        results.append(await check(verifier, token(RSA, "RS256", kid="1")))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert results == [True] * 20
    assert issuer.asked == 1


async def test_an_unknown_key_id_fetches_again_but_not_too_often(issuer: Issuer, clock: Clock) -> None:
    verifier = TokenVerifier(keys=RemoteKeys(issuer.url))
    assert await check(verifier, token(RSA, "RS256", kid="1"))
    issuer.content = jwks(jwk(RSA, "1"), jwk(EC, "2"))
    for made_up in range(50):
        clock.pass_s(JWKS_REFRESH_LEAST_S / 100)
        assert not await check(verifier, token(EC, "ES256", kid=f"made-up-{made_up}"))
    assert issuer.asked == 1
    clock.pass_s(JWKS_REFRESH_LEAST_S / 2 + 1)
    assert await check(verifier, token(EC, "ES256", kid="2"))
    assert issuer.asked == 2


async def test_a_withdrawn_key_stops_to_count(issuer: Issuer, clock: Clock) -> None:
    verifier = TokenVerifier(keys=RemoteKeys(issuer.url))
    assert await check(verifier, token(RSA, "RS256", kid="1", expires_in_s=9000))
    issuer.content = jwks(jwk(EC, "2"))
    clock.pass_s(JWKS_MAX_AGE_S - 1)
    assert await check(verifier, token(RSA, "RS256", kid="1", expires_in_s=9000))
    clock.pass_s(2)
    assert not await check(verifier, token(RSA, "RS256", kid="1", expires_in_s=9000))


@pytest.mark.parametrize("trouble", ["down", "error", "nonsense", "too big", "redirect"])
async def test_what_was_fetched_goes_on_to_count_while_the_issuer_is_in_trouble(
    issuer: Issuer, clock: Clock, trouble: str
) -> None:
    verifier = TokenVerifier(keys=RemoteKeys(issuer.url))
    assert await check(verifier, token(RSA, "RS256", kid="1"))
    other = Issuer()
    other.content = jwks(jwk(EC, "1"))
    match trouble:
        case "down":
            issuer.close()
        case "error":
            issuer.status = 500
        case "nonsense":
            issuer.content = b"<html>"
        case "too big":
            issuer.content = b" " * JWKS_MAX_BYTES + issuer.content
        case "redirect":
            issuer.status, issuer.location = 302, other.url
    clock.pass_s(JWKS_MAX_AGE_S + 1)
    try:
        assert await check(verifier, token(RSA, "RS256", kid="1"))
        assert not await check(verifier, token(EC, "ES256", kid="1"))
        assert other.asked == 0
    finally:
        other.close()


async def test_an_issuer_that_never_answered_means_nobody_comes_in(issuer: Issuer) -> None:
    issuer.status = 503
    outcome = await TokenVerifier(keys=RemoteKeys(issuer.url)).verify(token(RSA, "RS256", kid="1"))
    assert isinstance(outcome, Refusal)


def test_secrets_in_a_key_set_are_passed_over() -> None:
    keys = parse_jwks(jwks({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, jwk(RSA, "r")))
    assert list(keys) == ["r"]


def test_the_verifier_does_not_show_its_secret() -> None:
    assert SECRET not in repr(SHARED)
