"""Webhooks made at run time, as they are kept in the database and as the control plane takes them."""

from typing import Any

import msgspec

from livesync_trio.config.declaring import Secret
from livesync_trio.config.webhooks import Webhook


def read_definition(value: bytes) -> Webhook:
    """What `written` wrote. Raises ValueError (msgspec's errors are some)."""
    return from_plain(msgspec.json.decode(value, type=dict[str, Any]))


def written(webhook: Webhook) -> bytes:
    """A webhook with its secrets, for the database and nothing else."""
    plain = {
        "id": webhook.id,
        "url": webhook.url,
        "secret": webhook.secret.reveal(),
        "old_secret": None if webhook.old_secret is None else webhook.old_secret.reveal(),
        "stores": webhook.stores,
        "events": webhook.events,
        "headers": {name: value.reveal() for name, value in webhook.headers.items()},
        "batch": webhook.batch,
        "start": webhook.start,
    }
    return msgspec.json.encode(plain)


def from_plain(plain: dict[str, Any]) -> Webhook:
    """A webhook of texts and numbers. Raises ValueError when something of it is not usable."""
    given = dict(plain)
    for name in ("secret", "old_secret"):
        if given.get(name) is not None:
            given[name] = Secret(given[name])
    try:
        return Webhook(**given)
    except TypeError as error:
        raise ValueError(f"it is no webhook: {error}") from None
