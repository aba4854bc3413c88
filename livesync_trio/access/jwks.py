"""Where the public keys of token issuers come from: a PEM file, a JWKS file, or the URL of a JWKS.

Owns the cache of a URL's keys. It is fetched in a thread, once however many wait, again after an hour or when a token
names a key that is not in it, and never more often than its limit. What was fetched last goes on to count while the
issuer cannot be reached.
"""

import http.client
import json
import math
import socket
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import jwt
import trio

from livesync_trio.errors import Kind, StartupError
from livesync_trio.telemetry import get_logger

JWKS_MAX_BYTES: Final = 1024 * 1024
"""Largest key set read; real ones have a few kilobytes."""

JWKS_FETCH_LIMIT_S: Final = 5.0
"""How long fetching a key set may take, as long as a hook: somebody waits for it."""

JWKS_REFRESH_LEAST_S: Final = 30.0
"""A key set is not fetched more often than this, whatever key ids strangers make up."""

JWKS_MAX_AGE_S: Final = 3600.0
"""A key set is fetched again after this, so that a withdrawn key stops to count."""

_log = get_logger("transport")


class KeyRing(Protocol):
    """Gives keys by their id."""

    async def find(self, key_id: str | None) -> list[Any]:
        """The keys a token may be signed with: the one with its `kid`, or all when it names none. None found: empty."""


class FixedKeys:
    """Keys that were read when the server started."""

    def __init__(self, keys: dict[str | None, list[Any]]) -> None:
        """`keys` by id; those without one under None."""
        self._keys = keys

    async def find(self, key_id: str | None) -> list[Any]:
        """See `KeyRing`. A key without an id of its own counts for every token (a PEM file has none)."""
        return keys_for(self._keys, key_id)


def keys_for(keys: dict[str | None, list[Any]], key_id: str | None) -> list[Any]:
    """The keys with an id, and those without any; all of them when the token names none."""
    if key_id is None:
        return [key for of_id in keys.values() for key in of_id]
    return [*keys.get(key_id, ()), *keys.get(None, ())]


def read_keys(where: str, before: KeyRing | None = None) -> KeyRing:
    """Open the keys that the setting `jwt_keys` names.

    Args:
        where: path or URL.
        before: the keys until now. Those of the same URL are kept, and fetched again when next needed: an issuer that
            cannot be reached just now must not shut everybody out.

    Raises:
        StartupError: the file cannot be read, or holds no public key. The keys of a URL are fetched when needed.
    """
    if isinstance(before, RemoteKeys) and before.url == where:
        return before.aged()
    if "://" in where:
        return RemoteKeys(where)
    try:
        content = Path(where).read_bytes()
        if content.lstrip().startswith(b"{"):
            return FixedKeys(parse_jwks(content))
        return FixedKeys({None: [_public_key(content)]})
    except (OSError, ValueError) as error:
        raise StartupError(Kind.BAD_CONFIG, f"the keys in {where} cannot be used: {error}") from None


def _public_key(pem: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - only if configured
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    if b"PRIVATE KEY" in pem:
        raise ValueError("it is a private key: give the server the public one only")
    if b"BEGIN CERTIFICATE" in pem:
        return load_pem_x509_certificate(pem).public_key()
    return load_pem_public_key(pem)


def parse_jwks(content: bytes) -> dict[str | None, list[Any]]:
    """The usable public keys of a JWKS (RFC 7517), by id. Raises ValueError when there is none.

    Keys for encryption, of unknown kinds, and secrets (`oct`) are passed over.
    """
    keys: dict[str | None, list[Any]] = {}
    document = json.loads(content)
    listed = document.get("keys") if isinstance(document, dict) else None
    for each in listed if isinstance(listed, list) else ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or each.get("kty") == "oct" or "d" in each:
            continue
        try:
            key = jwt.PyJWK.from_dict(each)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        keys.setdefault(key.key_id, []).append(key.key)
    if not keys:
        raise ValueError("there is no public key for signatures in it")
    return keys


class RemoteKeys:
    """Keys of a JWKS URL."""

    def __init__(self, url: str) -> None:
        """`url` is https, or http on this machine (`config.checks`). Nothing is fetched yet."""
        self.url = url
        self._keys: dict[str | None, list[Any]] = {}
        self._fetched_s = self._tried_s = -math.inf
        self._fetching = trio.Lock()
        self._thread = trio.CapacityLimiter(1)  # its own: an issuer that hangs must not take those of others

    def aged(self) -> "RemoteKeys":
        """The same keys, to be fetched again as soon as anybody brings a token."""
        same = RemoteKeys(self.url)
        same._keys = self._keys
        return same

    async def find(self, key_id: str | None) -> list[Any]:
        """See `KeyRing`. May wait for a fetch, for `JWKS_FETCH_LIMIT_S` at most."""
        asked_s = trio.current_time()
        old = asked_s - self._fetched_s > JWKS_MAX_AGE_S
        found = keys_for(self._keys, key_id)
        if old or not found:
            async with self._fetching:
                if self._tried_s < asked_s and trio.current_time() - self._tried_s >= JWKS_REFRESH_LEAST_S:
                    await self._fetch()
            found = keys_for(self._keys, key_id)
        return found

    async def _fetch(self) -> None:
        self._tried_s = trio.current_time()
        try:
            with trio.fail_after(JWKS_FETCH_LIMIT_S):
                content = await trio.to_thread.run_sync(
                    _download, self.url, abandon_on_cancel=True, limiter=self._thread
                )
            self._keys = parse_jwks(content)
        except (OSError, ValueError, trio.TooSlowError) as error:
            _log.warning(
                "the keys of the token issuer cannot be fetched", url=self.url, reason=str(error) or "too slow"
            )
        else:
            self._fetched_s = trio.current_time()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead from https to http, or into the network behind the server."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Sockets:
    """The sockets of one download, cut when its time is over: time-outs of sockets begin anew with each byte."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []
        self._over = False

    def add(self, sock: socket.socket) -> None:
        """One more."""
        self._open.append(sock)
        if self._over:
            self.cut()

    def cut(self) -> None:
        """End whatever is read from them. Called by another thread."""
        self._over = True
        for sock in self._open:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not that of TLS, which belongs to the other thread


def _opener(sockets: _Sockets) -> urllib.request.OpenerDirector:
    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Secure, req)

    return urllib.request.build_opener(_NoRedirect, PlainHandler, SecureHandler)


def _download(url: str) -> bytes:
    """Fetch a URL; runs in a thread, for little longer than `JWKS_FETCH_LIMIT_S`. Raises OSError, ValueError."""
    sockets = _Sockets()
    end = threading.Timer(JWKS_FETCH_LIMIT_S, sockets.cut)
    end.daemon = True
    end.start()
    try:
        return _fetch(_opener(sockets), url)
    except http.client.HTTPException as error:  # no OSError, and no HTTP either
        raise OSError(f"{type(error).__name__}: {error}") from None
    finally:
        end.cancel()


def _fetch(opener: urllib.request.OpenerDirector, url: str) -> bytes:
    request = urllib.request.Request(url, headers={"accept": "application/json"})  # noqa: S310 - checked by config
    try:
        with opener.open(request, timeout=JWKS_FETCH_LIMIT_S) as answer:
            content: bytes = answer.read(JWKS_MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"status {error.code}") from None
    if len(content) > JWKS_MAX_BYTES:
        raise ValueError(f"the key set has more than {JWKS_MAX_BYTES} bytes")
    return content
