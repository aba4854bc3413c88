"""Who may see which rows: deny by default, filters over claims, and a hook that decides instead.

A *view* is what one client may see, fixed when it connects. It knows for every change what that is for this client: a
row that comes into its filter is inserted, one that leaves it is deleted, whatever happened in the source.
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
    """What one client sees of one table.

    Attributes:
        filter: None for every row.
        columns: names of those it gets; None for all.
        claims: what the filter is about.
    """

    filter: Filter | None
    columns: frozenset[str] | None
    claims: Mapping[str, Any]


class View:
    """What one client may see. Its answers are kept for each version of a table."""

    def __init__(self, sights: Mapping[str, Sight]) -> None:
        self.sights = sights
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


NOTHING: Final = Refusal(Kind.NOT_ALLOWED, "You may see none of the tables of this feed.")


class FeedAccess:
    """The rules of a feed."""

    def __init__(
        self,
        tables: Sequence[str],
        rules: Mapping[str, Rule],
        columns: Mapping[str, Sequence[str]],
        hooks: Callable[[], HookRunner],
    ) -> None:
        """Read the filters.

        Args:
            tables: the tables of the feed.
            rules: who sees what of them; a table without a rule is seen by nobody.
            columns: the columns that are sent; all of them for a table without an entry.
            hooks: gives who runs `feed_access` by now, which decides instead of the rules if there is one.

        Raises:
            BadFilter: a rule or columns are for no table of the feed, or a filter cannot be read; says which.
        """
        self._tables = tuple(tables)
        self._hooks = hooks
        self._columns = {table: frozenset(names) for table, names in columns.items()}
        for table in (*rules, *columns):
            if table not in self._tables:
                raise BadFilter(f"{table} is not among the tables of the feed")
        self._filters: dict[str, Filter | None] = {}
        for table, rule in rules.items():
            if rule is not False:
                try:
                    self._filters[table] = None if rule is True else Filter(str(rule))
                except BadFilter as error:
                    raise BadFilter(f"the filter of {table} cannot be used: {error}") from None

    async def view(self, user: Principal | None) -> View | Refusal:
        """What a client may see; the refusal when that is nothing."""
        claims = {} if user is None else {"sub": user.id, **user.claims}
        sights, runner = {}, self._hooks()
        for table in self._tables:
            if runner.hooks.feed_access is None:
                sight = self._sight(table, claims)
            else:
                answer = await runner.consult(runner.hooks.feed_access, "feed", user, table)
                if isinstance(answer, Refusal):
                    if answer.kind is Kind.HOOK_REFUSED:
                        continue
                    return answer
                sight = self._told(table, answer, claims)
            if sight is not None:
                sights[table] = sight
        return View(sights) if sights else NOTHING

    def _sight(self, table: str, claims: Mapping[str, Any]) -> Sight | None:
        if table not in self._filters:
            return None
        return Sight(self._filters[table], self._columns.get(table), claims)

    def _told(self, table: str, answer: object, claims: Mapping[str, Any]) -> Sight | None:
        """What the hook has decided. Raises BadFilter."""
        match answer:
            case bool() | str():
                told = _Answer(answer)
            case Mapping():
                try:
                    told = _Answer(**answer)
                except TypeError:
                    raise BadFilter(
                        f"feed_access answered {sorted(answer)}: it may say where, columns, params"
                    ) from None
            case _:
                return None
        if told.where is False:
            return None
        columns = self._columns.get(table) if told.columns is None else frozenset(told.columns)
        return Sight(None if told.where is True else Filter(str(told.where)), columns, {**claims, **told.params})
