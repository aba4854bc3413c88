"""Secrets that stand in examples, and so are none."""

from typing import Final

from livesync_trio.config.declaring import Secret

_PLACEHOLDERS: Final = frozenset(
    {
        "admin",
        "admin-secret",
        "auth-token",
        "default",
        "example",
        "insecure",
        "password",
        "placeholder",
        "secret",
        "test",
        "token",
        "your-secret",
        "your-token",
    }
)
"""Values that examples carry and that everybody can guess; besides everything that asks to be changed."""

_ASKS_TO_BE_CHANGED: Final = ("changeme", "change-me", "change-this", "replace-me", "replace-this")
"""`insecure-token-change-me` and `change-me-admin-secret` of LiveStore's examples, and their kin."""


def is_placeholder(secret: Secret) -> bool:
    """Whether a secret is one that stands in examples."""
    text = secret.reveal().strip().casefold().replace("_", "-").replace(" ", "-")
    return text in _PLACEHOLDERS or any(plea in text for plea in _ASKS_TO_BE_CHANGED)
