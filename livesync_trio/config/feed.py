"""The settings of the change feed: one table of the TOML file."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import attrs

from livesync_trio import limits
from livesync_trio.config import checks
from livesync_trio.config.declaring import Secret, declare_tables
from livesync_trio.config.groups import Group

FeedDialect = Literal["current", "first"]
"""The messages that the original's clients knew in May 2025, or in March 2025."""

_NONE: Final[Mapping[str, str | bool]] = MappingProxyType({})
_NO_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class FeedTable:
    """The table `[feed]`. See `docs/change-feed.md`.

    Attributes:
        source: URL of the PostgreSQL whose tables are followed.
        tables: their names, each with its schema.
        access: who sees which rows of each: a filter over the token's claims, or true for everybody.
        columns: the columns of a table that are sent; all of them for a table without an entry.
        writes: who may write which rows, as `access`; nobody for a table without an entry.
        write_columns: the columns that clients may set besides the key; all that they see for a table without an entry.
        writer: URL of the same database for what clients write, with another role; None: that of `source`.
        publication: name of the publication that is made in the source.
        slot: name of the replication slot that is made in the source.
        keep_hours: for how long changes are kept.
        keep_bytes: how many bytes of changes are kept at most.
        compact_hours: of changes that are older only the last of each row is kept; 0: all of them.
        max_lag_bytes: of its log, that the source keeps for the feed before its slot is given up; 0: without a limit.
        client_hours: for how long a client that does not come back is remembered.
        dialect: the messages that the clients know.
        polling: whether the log of the source is read by SQL functions, where no replication connection is allowed.
    """

    source: Secret
    tables: tuple[str, ...]
    access: Mapping[str, str | bool] = _NONE
    columns: Mapping[str, tuple[str, ...]] = _NO_COLUMNS
    writes: Mapping[str, str | bool] = _NONE
    write_columns: Mapping[str, tuple[str, ...]] = _NO_COLUMNS
    writer: Secret | None = None
    publication: str = "livesync_feed"
    slot: str = "livesync_feed"
    keep_hours: float = limits.FEED_KEEP_HOURS
    keep_bytes: int = limits.FEED_KEEP_BYTES
    compact_hours: float = 0.0
    max_lag_bytes: int = 0
    client_hours: float = limits.FEED_CLIENT_HOURS
    dialect: FeedDialect = "current"
    polling: bool = False

    def differs_in_rights_only(self, other: "FeedTable") -> bool:
        """Whether another table says the same but for who may see and write what."""
        names = ("access", "columns", "writes", "write_columns")
        return attrs.evolve(other, **{name: getattr(self, name) for name in names}) == self


def _feed(value: FeedTable | None) -> None:
    if value is None:
        return
    checks.check_postgresql_url(value.source.reveal())
    if not value.tables or len(set(value.tables)) != len(value.tables):
        raise ValueError("tables names no table, or one of them twice")
    if value.writer is not None:
        checks.check_postgresql_url(value.writer.reveal())
    named = (*value.access, *value.columns, *value.writes, *value.write_columns)
    unknown = [name for name in named if name not in value.tables]
    if unknown:
        raise ValueError(f"access, columns and writes may only name tables of the feed, not {unknown[0]}")
    blind = [name for name in value.writes if value.access.get(name) is False]
    if blind:
        raise ValueError(f"writes lets clients write to {blind[0]}, which access lets nobody see")
    for name in (value.publication, value.slot):
        if not (name.isascii() and name.replace("_", "a").isalnum() and name == name.lower() and len(name) < 64):
            raise ValueError(f"{name!r} is not made of small letters, digits and underscores")
    for number in (value.keep_hours, value.keep_bytes, value.client_hours):
        checks.duration(number)
    if value.compact_hours < 0 or value.compact_hours >= value.keep_hours:
        raise ValueError("compact_hours is less than keep_hours, or 0 to keep every change")
    if value.max_lag_bytes < 0:
        raise ValueError("max_lag_bytes is a number of bytes, or 0 for no limit")


@attrs.frozen(kw_only=True, slots=False)
class FeedSettings(Group):
    """The change feed. See `docs/change-feed.md`; without `[feed]` there is none."""

    feed: FeedTable | None = declare_tables(
        None,
        "a table with `source`, `tables`, `[feed.access]` and more",
        "Tables of a PostgreSQL database whose changes clients follow.",
        check=_feed,
    )
