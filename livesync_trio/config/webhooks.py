"""What a webhook is: where to, signed with what, and which events of which stores.

Owns the definition and its checks, for the configuration and for those made at run time alike.
"""

import base64
import binascii
import fnmatch
import ipaddress
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs

from livesync_trio.config.secret import Secret
from livesync_trio.limits import (
    WEBHOOK_BATCH,
    WEBHOOK_BATCH_MAX,
    WEBHOOK_HEADERS_MAX_BYTES,
    WEBHOOK_PATTERNS_MAX,
    WEBHOOK_SECRET_BYTES,
    WEBHOOK_URL_MAX_BYTES,
)

Start = Literal["now", "beginning"]
"""Which events of stores that exist already a new webhook is told: none, or all."""

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_OURS: Final = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"}
)
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how every secret of Standard Webhooks begins


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(part, str) for part in value):
        raise ValueError("it is not an array of texts")
    return tuple(value)


def _secrets(value: Any) -> tuple[Secret, ...]:
    return tuple(part if isinstance(part, Secret) else Secret(part) for part in value)


def _headers(value: Mapping[str, str | Secret]) -> Mapping[str, Secret]:
    return {name: each if isinstance(each, Secret) else Secret(each) for name, each in value.items()}


@attrs.frozen(kw_only=True, slots=False)
class Webhook:
    """A receiver of events. See `docs/webhooks.md`.

    Attributes:
        id: its name, for operators, metrics and log lines.
        url: where events are sent: https, or http to this machine.
        secrets: one, or two while the receiver changes from one to the other; `whsec_` and base64.
        stores: patterns of store ids, with `*` and `?`.
        events: patterns of event names.
        headers: sent along with each message; their values are kept like secrets.
        batch: most events in one message.
        start: what of stores that exist already is sent.

    Raises:
        ValueError: something of it is not usable. The message names the field and never holds a secret.
    """

    id: str
    url: str
    secrets: tuple[Secret, ...] = attrs.field(converter=_secrets)
    stores: tuple[str, ...] = attrs.field(default=("*",), converter=_texts)
    events: tuple[str, ...] = attrs.field(default=("*",), converter=_texts)
    headers: Mapping[str, Secret] = attrs.field(factory=dict, converter=_headers)
    batch: int = WEBHOOK_BATCH
    start: Start = "now"

    def __attrs_post_init__(self) -> None:
        """Check all of it."""
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id: {self.id[:80]!r} is not made of a to z, 0 to 9, _ and -, at most 64")
        check_url(self.url)
        if not 1 <= len(self.secrets) <= 2:
            raise ValueError("secrets: give one, or two while the receiver changes from one to the other")
        for secret in self.secrets:
            _check_secret(secret)
        for name in ("stores", "events"):
            patterns = getattr(self, name)
            if not patterns or len(patterns) > WEBHOOK_PATTERNS_MAX or not all(patterns):
                raise ValueError(f"{name}: give 1 to {WEBHOOK_PATTERNS_MAX} patterns, none of them empty")
        _check_headers(self.headers)
        if not 1 <= self.batch <= WEBHOOK_BATCH_MAX:
            raise ValueError(f"batch: {self.batch} is not within 1 and {WEBHOOK_BATCH_MAX}")
        if self.start not in ("now", "beginning"):
            raise ValueError(f"start: {self.start!r} is neither now nor beginning")

    def wants_store(self, store_id: str) -> bool:
        """Whether it is told of a store at all."""
        return self.stores == ("*",) or self._stores.fullmatch(store_id) is not None

    def wants_event(self, name: str) -> bool:
        """Whether it is told of events of this name."""
        return self._events.fullmatch(name) is not None

    @property
    def wants_all_events(self) -> bool:
        """Whether names need not be looked at."""
        return self.events == ("*",)

    @cached_property
    def _stores(self) -> re.Pattern[str]:
        return _any_of(self.stores)

    @cached_property
    def _events(self) -> re.Pattern[str]:
        return _any_of(self.events)


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))


def check_url(url: str) -> None:
    """Check where a webhook leads to. Raises ValueError."""
    if len(url) > WEBHOOK_URL_MAX_BYTES or not url.isascii() or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise ValueError("url: it is not a URL of printable ASCII without white space")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("url: it is not https://host/path")
    if "@" in parts.netloc:
        raise ValueError("url: it holds a user name; send a header instead")
    if parts.fragment:
        raise ValueError("url: a fragment (#…) is never sent; leave it out")
    if parts.scheme == "http" and not names_this_machine(host):
        raise ValueError("url: http is only for this machine (localhost); use https")


def names_this_machine(host: str) -> bool:
    """Whether a host of a URL is, as it stands there, this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_secret(secret: Secret) -> None:
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    low, high = WEBHOOK_SECRET_BYTES
    if not text.startswith(_SECRET_PREFIX) or not low <= len(key) <= high:
        raise ValueError(
            f"secrets: one of them is not {_SECRET_PREFIX} and the base64 of {low} to {high} random bytes "
            "(openssl rand -base64 32)"
        )


def _check_headers(headers: Mapping[str, Secret]) -> None:
    size_bytes = 0
    for name, value in headers.items():
        text = value.reveal()
        size_bytes += len(name) + len(text)
        if not _HEADER.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise ValueError(f"headers: {name[:80]!r} is no header that can be set here")
        if not text.isascii() or not text.isprintable():
            raise ValueError(f"headers: the value of {name} is not printable ASCII")
    if size_bytes > WEBHOOK_HEADERS_MAX_BYTES:
        raise ValueError(f"headers: they have more than {WEBHOOK_HEADERS_MAX_BYTES} bytes together")
