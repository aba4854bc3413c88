"""Settings of databases that other machines serve."""

import attrs

from livesync_trio import limits
from livesync_trio.config.database_url import check_postgresql_url
from livesync_trio.config.declaring import SECONDS, declare, duration


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class DatabaseSettings:
    """How PostgreSQL is reached. See `docs/postgresql.md`."""

    listen_url: str | None = declare(
        None,
        "`postgresql://user@host/database`",
        "PostgreSQL without the pooler that `DATABASE_URL` leads to: where news from other servers is listened for.",
        check=check_postgresql_url,
        holds_secret=True,
    )
    database_wait_s: float = declare(
        limits.DATABASE_WAIT_S,
        SECONDS,
        "How long the start waits for a PostgreSQL that cannot be reached yet, or an SQLite file whose server stops.",
        check=duration,
    )
