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

from livesync_trio.config.declaring import Secret, declare, declare_tables
from livesync_trio.config.groups import Group
from livesync_trio.limits import (
    WEBHOOK_BATCH,
    WEBHOOK_BATCH_MAX,
    WEBHOOK_HEADERS_MAX_BYTES,
    WEBHOOK_PATTERNS_MAX,
    WEBHOOK_SECRET_BYTES,
    WEBHOOK_URL_MAX_BYTES,
    WEBHOOKS_MAX,
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


def _headers(value: Mapping[str, str | Secret]) -> Mapping[str, Secret]:
    return {name: each if isinstance(each, Secret) else Secret(each) for name, each in value.items()}


@attrs.frozen(kw_only=True, slots=False)
class Webhook:
    """A receiver of events. See `docs/webhooks.md`.

    Attributes:
        id: its name, for operators, metrics and log lines.
        url: where events are sent: https, or http to this machine.
        secret: messages are signed with it; `whsec_` and base64.
        old_secret: messages are signed with it too, while the receiver changes from one to the other.
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
    secret: Secret
    old_secret: Secret | None = None
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
        for name in ("secret", "old_secret"):
            _check_secret(name, getattr(self, name))
        for name in ("stores", "events"):
            patterns = getattr(self, name)
            if not patterns or len(patterns) > WEBHOOK_PATTERNS_MAX or not all(patterns):
                raise ValueError(f"{name}: give 1 to {WEBHOOK_PATTERNS_MAX} patterns, none of them empty")
        _check_headers(self.headers)
        if not 1 <= self.batch <= WEBHOOK_BATCH_MAX:
            raise ValueError(f"batch: {self.batch} is not within 1 and {WEBHOOK_BATCH_MAX}")
        if self.start not in ("now", "beginning"):
            raise ValueError(f"start: {self.start!r} is neither now nor beginning")

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Those with which messages are signed."""
        return (self.secret,) if self.old_secret is None else (self.secret, self.old_secret)

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


def _check_secret(name: str, secret: Secret | None) -> None:
    if secret is None:
        return
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    low, high = WEBHOOK_SECRET_BYTES
    if not text.startswith(_SECRET_PREFIX) or not low <= len(key) <= high:
        raise ValueError(
            f"{name}: it is not {_SECRET_PREFIX} and the base64 of {low} to {high} random bytes "
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


def _apart(webhooks: tuple[Webhook, ...]) -> None:
    if len(webhooks) > WEBHOOKS_MAX:
        raise ValueError(f"there are more than {WEBHOOKS_MAX}")
    seen: set[str] = set()
    for webhook in webhooks:
        if webhook.id in seen:
            raise ValueError(f"the id {webhook.id} is given twice")
        seen.add(webhook.id)


def _host_names(values: tuple[str, ...]) -> None:
    for value in values:
        if re.search(r"[\s/:@]", value):
            raise ValueError(f"{value!r} is not the name of a host")


@attrs.frozen(kw_only=True, slots=False)  # the groups are one class in the end
class WebhookSettings(Group):
    """Who is sent events. See `docs/webhooks.md`."""

    webhooks: tuple[Webhook, ...] = declare_tables(
        (),
        "tables `[[webhooks]]` with `id`, `url`, `secret` or `secret_file`, and perhaps `old_secret`, `stores`, "
        "`events`, `headers`, `batch`, `start`",
        "Receivers to which the server sends events by HTTP as they are stored.",
        check=_apart,
    )
    webhook_private_hosts: tuple[str, ...] = declare(
        (),
        "host names separated by commas",
        "Hosts to which webhooks may lead although their addresses are not public.",
        check=_host_names,
    )
