"""Who may see which rows: deny by default, filters over claims, and a hook that decides instead.

A *view* is what one client may see, fixed when it connects. It knows for every change what that is for this client: a
row that comes into its filter is inserted, one that leaves it is deleted, whatever happened in the source. What a
client may write is granted apart, and only of what it sees.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from livesync_trio.errors import Kind, Refusal
from livesync_trio.feed.filters import BadFilter, Filter
from livesync_trio.feed.tables import Relation, Row
from livesync_trio.hooks import HookRunner
from livesync_trio.model import Principal

Rule = str | bool
"""A filter; True for every row, False for none."""


@attrs.frozen
class Sight:
    """What one client sees of one table, or may write of it.

    Attributes:
        filter: None for every row.
        columns: names of those it gets, or may set; None for all.
        claims: what the filter is about.
    """

    filter: Filter | None
    columns: frozenset[str] | None
    claims: Mapping[str, Any]


class View:
    """What one client may see. Its answers are kept for each version of a table."""

    def __init__(self, sights: Mapping[str, Sight], grants: Mapping[str, Sight] | None = None) -> None:
        """`sights`: what it sees of each table; `grants`: what it may write of it."""
        self.sights = sights
        self.grants = grants or {}
        self._predicates: dict[int, Any] = {}

    @property
    def fingerprint(self) -> str:
        """Changes when the client may see other rows or columns than before."""
        told = [
            (
                table,
                None if sight.filter is None else sight.filter.text,
                None if sight.columns is None else sorted(sight.columns),
                {} if sight.filter is None else {name: sight.claims.get(name) for name in sight.filter.claims},
            )
            for table, sight in sorted(self.sights.items())
        ]
        return hashlib.sha256(msgspec.json.encode(told, enc_hook=repr)).hexdigest()[:16]

    @property
    def sees_all_rows(self) -> bool:
        """Whether it is never a row's values that decide who sees it: then its last change alone says what to do."""
        return all(sight.filter is None for sight in self.sights.values())

    def sees(self, relation: Relation, row: Row | None) -> bool:
        """Whether the client sees a row. Raises BadFilter."""
        sight = self.sights.get(relation.table)
        if row is None or sight is None:
            return False
        if sight.filter is None:
            return True
        predicate = self._predicates.get(relation.version)
        if predicate is None:
            predicate = self._predicates[relation.version] = sight.filter.bind(relation, sight.claims)
        return bool(predicate.holds(row))

    def columns(self, table: str) -> frozenset[str] | None:
        """Names of the columns that are sent; None for all."""
        return self.sights[table].columns


@attrs.frozen
class _Answer:
    """What the hook may say instead of a `Rule`."""

    where: Rule = True
    columns: Sequence[str] | None = None
    params: Mapping[str, Any] = attrs.field(factory=dict)
    write: Rule = False
    write_columns: Sequence[str] | None = None


NOTHING: Final = Refusal(Kind.NOT_ALLOWED, "You may see none of the tables of this feed.")


class FeedAccess:
    """The rules of a feed."""

    def __init__(
        self,
        tables: Sequence[str],
        rules: Mapping[str, Rule],
        columns: Mapping[str, Sequence[str]],
        hooks: Callable[[], HookRunner],
        *,
        writes: Mapping[str, Rule] | None = None,
        write_columns: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Read the filters.

        Args:
            tables: the tables of the feed.
            rules: who sees what of them; a table without a rule is seen by nobody.
            columns: the columns that are sent; all of them for a table without an entry.
            hooks: gives who runs `feed_access` by now, which decides instead of the rules if there is one.
            writes: who may write which rows; a table without a rule is written by nobody, whatever the hook says.
            write_columns: the columns that clients may set; all that they see, for a table without an entry.

        Raises:
            BadFilter: a rule or columns are for no table of the feed, or a filter cannot be read; says which.
        """
        self._tables = tuple(tables)
        self._hooks = hooks
        writes, write_columns = writes or {}, write_columns or {}
        for table in (*rules, *columns, *writes, *write_columns):
            if table not in self._tables:
                raise BadFilter(f"{table} is not among the tables of the feed")
        self._reads = _Rules(rules, columns)
        self._writes = _Rules(writes, write_columns)

    async def view(self, user: Principal | None) -> View | Refusal:
        """What a client may see; the refusal when that is nothing."""
        claims = {} if user is None else {"sub": user.id, **user.claims}
        sights, grants, runner = {}, {}, self._hooks()
        for table in self._tables:
            if runner.hooks.feed_access is None:
                sight, grant = self._reads.sight(table, claims), self._writes.sight(table, claims)
            else:
                answer = await runner.consult(runner.hooks.feed_access, "feed", user, table)
                if isinstance(answer, Refusal):
                    if answer.kind is Kind.HOOK_REFUSED:
                        continue
                    return answer
                sight, grant = self._told(table, answer, claims)
            if sight is not None:
                sights[table] = sight
                if grant is not None:
                    grants[table] = grant
        return View(sights, grants) if sights else NOTHING

    def _told(self, table: str, answer: object, claims: Mapping[str, Any]) -> tuple[Sight | None, Sight | None]:
        """What the hook has decided: what is seen, and what may be written. Raises BadFilter."""
        match answer:
            case bool() | str():
                told = _Answer(answer)
            case Mapping():
                try:
                    told = _Answer(**answer)
                except TypeError:
                    raise BadFilter(
                        f"feed_access answered {sorted(answer)}: it says where, columns, params, write, write_columns"
                    ) from None
            case _:
                return None, None
        claims = {**claims, **told.params}
        grant = self._writes.decided(table, told.write, told.write_columns, claims) if table in self._writes else None
        return self._reads.decided(table, told.where, told.columns, claims), grant


class _Rules:
    """Filters and columns, by table: for what is seen, or for what is written."""

    def __init__(self, rules: Mapping[str, Rule], columns: Mapping[str, Sequence[str]]) -> None:
        """Raises BadFilter."""
        self._columns = {table: frozenset(names) for table, names in columns.items()}
        self._filters: dict[str, Filter | None] = {}
        for table, rule in rules.items():
            if rule is not False:
                try:
                    self._filters[table] = None if rule is True else Filter(str(rule))
                except BadFilter as error:
                    raise BadFilter(f"the filter of {table} cannot be used: {error}") from None

    def __contains__(self, table: str) -> bool:
        return table in self._filters

    def sight(self, table: str, claims: Mapping[str, Any]) -> Sight | None:
        """As the configuration says; None for nothing."""
        return Sight(self._filters[table], self._columns.get(table), claims) if table in self._filters else None

    def decided(self, table: str, rule: Rule, columns: Sequence[str] | None, claims: Mapping[str, Any]) -> Sight | None:
        """As a hook says; None for nothing. Raises BadFilter."""
        if rule is False:
            return None
        known = self._columns.get(table) if columns is None else frozenset(columns)
        return Sight(None if rule is True else Filter(str(rule)), known, claims)
