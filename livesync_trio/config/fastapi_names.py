"""Settings of the FastAPI server, by which a move is recognised: each is told, with what stands for it here."""

from collections.abc import Mapping
from typing import Final

_STANDS_FOR: Final = {
    "CORS_ORIGINS": "here it is LIVESYNC_CORS_ORIGINS",
    "JWT_SECRET": "here it is LIVESYNC_JWT_SECRET; LIVESYNC_JWT_STORES_CLAIM=workspaces lets its tokens in",
    "JWT_ALGORITHM": "here it is LIVESYNC_JWT_ALGORITHMS",
    "JWT_EXPIRY_MINUTES": "this server gives out no tokens",
    "ADMIN_EMAIL": "operators are made by `livesync operators add`",
    "ADMIN_PASSWORD": "operators are made by `livesync operators add`",
    "PERSISTENCE_FORMAT_VERSION": "it cannot be chosen here",
    "PULL_CHUNK_SIZE": "it cannot be chosen here",
    "DB_POOL_MIN_SIZE": "it cannot be chosen here",
    "DB_POOL_MAX_SIZE": "it cannot be chosen here",
    "DB_COMMAND_TIMEOUT": "it cannot be chosen here",
}

_LEAST: Final = 2
"""Names that must be there: one alone, such as `JWT_SECRET`, may be another program's."""


def remarks_of(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each of its settings that has no effect here; none where the environment is not that server's."""
    found = [name for name in _STANDS_FOR if environ.get(name)]
    if len(found) < _LEAST:
        return []
    return [f"{name} is set, as for the FastAPI server, and has no effect: {_STANDS_FOR[name]}" for name in found]
