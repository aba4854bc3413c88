"""Which rows somebody may see: a safe part of SQL's WHERE, over one table, with claims of a token as parameters.

A filter is parsed once. For one version of the table and the claims of one client it becomes a predicate in Python,
with PostgreSQL's three-valued logic, and the same condition in SQL with parameters. Claims are values, never text
of the filter, so that nothing they hold can change what it says (decision 0017).
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs
import sqlglot
from sqlglot import exp

from livesync_trio.feed.tables import Relation, Row
from livesync_trio.feed.values import BOOL, INTEGERS, NAMES, NUMBERS, TEXTS, number_of, parser_of

FEED_FILTER_MAX_CHARACTERS: Final = 4_096
FEED_FILTER_MAX_NODES: Final = 500
"""Length of a filter, and how many parts it may have: it is evaluated for every change and client."""

Truth = bool | None
"""What a condition says of a row; None is SQL's *unknown*."""

Condition = Callable[[Row], Truth]

_PIECES: Final = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|\{([A-Za-z_][A-Za-z0-9_.:/-]*)\}""")
_MARK: Final = "livesync_claim_"
_OPERATORS: Final[Mapping[type[exp.Expr], tuple[str, Callable[[Any, Any], bool]]]] = {
    exp.EQ: ("=", operator.eq),
    exp.NEQ: ("<>", operator.ne),
    exp.LT: ("<", operator.lt),
    exp.LTE: ("<=", operator.le),
    exp.GT: (">", operator.gt),
    exp.GTE: (">=", operator.ge),
}
_FLIPPED: Final = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BY_NAME: Final = dict(_OPERATORS.values())


class BadFilter(ValueError):
    """A filter cannot be used; the message tells its author why."""


@attrs.frozen
class Constant:
    """A value that is compared with. `number`: it stood there without quotes."""

    text: str | None
    number: bool = False


@attrs.frozen
class Claim:
    """A value that the token brings."""

    name: str


Operand = Constant | Claim


@attrs.frozen
class Predicate:
    """A filter for one version of a table and one client.

    Attributes:
        holds: whether a row is seen: the condition is true, neither false nor unknown. Raises BadFilter for a value
            that cannot be read.
        sql: the same for PostgreSQL, with `%s` for parameters.
        parameters: texts for them.
    """

    holds: Callable[[Row], bool]
    sql: str
    parameters: tuple[str | None, ...]


class Filter:
    """A condition over the columns of a table."""

    def __init__(self, text: str) -> None:
        """Read it. Raises BadFilter."""
        if len(text) > FEED_FILTER_MAX_CHARACTERS:
            raise BadFilter(f"it is longer than {FEED_FILTER_MAX_CHARACTERS} characters")
        self.text = text
        self.claims: tuple[str, ...] = ()
        self._tree = self._parsed(text)
        if sum(1 for _ in self._tree.walk()) > FEED_FILTER_MAX_NODES:
            raise BadFilter("it is too large")
        self.bind(None, {})

    def _parsed(self, text: str) -> exp.Expr:
        names: list[str] = []

        def marked(piece: re.Match[str]) -> str:
            if piece[1] is not None:
                if re.search(r"\{[A-Za-z_]", piece[1]):
                    raise BadFilter(f"write a claim without quotes: {piece[1]} is plain text")
                return piece[1]
            names.append(piece[2])
            return f":{_MARK}{len(names) - 1}"

        if ":" in _PIECES.sub("", text):
            raise BadFilter("a colon has no meaning here; casts are not part of what filters may say")
        try:
            statements = sqlglot.parse(_PIECES.sub(marked, text), dialect="postgres")
        except sqlglot.errors.SqlglotError as error:
            raise BadFilter(re.sub(r"\x1b\[\d+m", "", str(error).splitlines()[0])) from None
        except RecursionError:
            raise BadFilter("it is nested too deeply") from None
        if len(statements) != 1 or statements[0] is None:
            raise BadFilter("it is not one condition")
        self.claims = tuple(names)
        return statements[0]

    def bind(self, relation: Relation | None, claims: Mapping[str, Any]) -> Predicate:
        """The filter for one version of its table and one client.

        Args:
            relation: None only looks at the form, before the table is known.
            claims: of the client's token.

        Raises:
            BadFilter: a column is missing or of a type that cannot be compared so; a claim has no such type.
        """
        binding = _Binding(relation, claims, self.claims)
        condition = binding.condition(self._tree)
        return Predicate(lambda row: condition(row) is True, binding.sql, tuple(binding.parameters))


class _Binding:
    """Turns a tree into a condition, and writes down the SQL of it on the way."""

    def __init__(self, relation: Relation | None, claims: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self._relation = relation
        self._claims = claims
        self._names = names
        self._sql: list[str] = []
        self.parameters: list[str | None] = []

    @property
    def sql(self) -> str:
        return "".join(self._sql)

    def _write(self, text: str) -> None:
        self._sql.append(text)

    # --- conditions ------------------------------------------------------------------------------------------------

    def condition(self, node: exp.Expr) -> Condition:
        match node:
            case exp.Paren():
                return self.condition(node.this)
            case exp.And() | exp.Or():
                return self._both(node)
            case exp.Not():
                self._write("(NOT ")
                inner = self.condition(node.this)
                self._write(")")
                return lambda row: None if (truth := inner(row)) is None else not truth
            case exp.Boolean():
                self._write("true" if node.this else "false")
                return lambda _, truth=bool(node.this): truth  # type: ignore[misc]
            case exp.Column():
                return self._flag(node)
            case exp.Is():
                return self._is(node)
            case exp.In():
                return self._in(node)
            case exp.Between():
                return self._between(node)
            case exp.Like():
                return self._like(node)
            case _ if type(node) in _OPERATORS:
                return self._comparison(node)
        raise BadFilter(f"{node.sql(dialect='postgres')!r} is not part of what filters may say")

    def _both(self, node: exp.And | exp.Or) -> Condition:
        decides = isinstance(node, exp.Or)
        self._write("(")
        left = self.condition(node.this)
        self._write(" OR " if decides else " AND ")
        right = self.condition(node.expression)
        self._write(")")

        def both(row: Row) -> Truth:
            first = left(row)
            if first is decides:
                return decides
            second = right(row)
            if second is decides:
                return decides
            return None if first is None or second is None else not decides

        return both

    def _flag(self, node: exp.Column) -> Condition:
        at, type_oid = self._column(node)
        if self._relation is not None and type_oid != BOOL:
            raise BadFilter(f"{node.name} alone is no condition: it is not of type boolean")
        return lambda row: None if row[at] is None else row[at] == "t"

    def _is(self, node: exp.Is) -> Condition:
        negate = bool(node.args.get("negate"))
        word = " IS NOT " if negate else " IS "
        known = set(_given(node)) <= {"this", "expression", "negate"}
        match node.expression if known else None:
            case exp.Null():
                at, _ = self._column(node.this)
                self._write(f"{word}NULL")
                return lambda row: (row[at] is None) is not negate
            case exp.Boolean() as wanted:
                truth = bool(wanted.this)
                self._write("(")
                inner = self.condition(node.this)
                self._write(f"{word}{'TRUE' if truth else 'FALSE'})")
                return lambda row: (inner(row) is truth) is not negate
        raise BadFilter(f"{node.sql(dialect='postgres')!r} is not part of what filters may say")

    def _comparison(self, node: exp.Expr) -> Condition:
        if set(_given(node)) != {"this", "expression"}:
            raise BadFilter("a comparison has two sides and nothing else")
        name, _ = _OPERATORS[type(node)]
        left, right = node.this, node.expression
        if not isinstance(left, exp.Column):
            left, right, name = right, left, _FLIPPED[name]
        if not isinstance(left, exp.Column):
            raise BadFilter("a comparison needs a column")
        if isinstance(right, exp.Any):
            if name != "=":
                raise BadFilter("ANY goes with = only")
            return self._one_of(left, [right.this])
        at, type_oid = self._column(left)
        self._check_order(left, type_oid, name)
        self._write(f" {name} ")
        compare, parse = _BY_NAME[name], self._parser(left, type_oid)
        if isinstance(right, exp.Column):
            return self._of_columns(at, type_oid, compare, right)
        given = self._one(right)
        value = self._value(left, type_oid, given)
        parse = number_of if _is_widened(type_oid, given) else parse

        def compared(row: Row) -> Truth:
            text = row[at]
            return None if text is None or value is None else compare(_read(parse, text), value)

        return compared

    def _of_columns(self, at: int, type_oid: int, compare: Callable[[Any, Any], bool], right: exp.Column) -> Condition:
        other, other_oid = self._column(right)
        if self._relation is not None and type_oid != other_oid and not {type_oid, other_oid} <= set(TEXTS):
            raise BadFilter(f"{right.name} is of another type than what it is compared with")
        parse = self._parser(right, type_oid)

        def compared(row: Row) -> Truth:
            one, two = row[at], row[other]
            return None if one is None or two is None else compare(_read(parse, one), _read(parse, two))

        return compared

    def _between(self, node: exp.Between) -> Condition:
        if set(_given(node)) != {"this", "low", "high"}:
            raise BadFilter("BETWEEN has two values and nothing else")
        low = exp.GTE(this=node.this, expression=node.args["low"])
        return self.condition(exp.And(this=low, expression=exp.LTE(this=node.this, expression=node.args["high"])))

    def _in(self, node: exp.In) -> Condition:
        if set(_given(node)) != {"this", "expressions"}:
            raise BadFilter("IN takes a list of values")
        return self._one_of(node.this, node.expressions)

    def _one_of(self, column: exp.Expr, nodes: Iterable[exp.Expr]) -> Condition:
        at, type_oid = self._column(column)
        parse = self._parser(column, type_oid)
        given = [each for node in nodes for each in self._operands(node)]
        widened = any(_is_widened(type_oid, each) for each in given)
        self._write(" = ANY (ARRAY[")
        values = []
        for number, each in enumerate(given):
            self._write(", " if number else "")
            value = self._value(column, type_oid, each, widened=widened)
            values.append(value)
        cast = _cast(type_oid, widened=widened)
        self._write(f"]::{cast}[])")
        unknown = None in values
        parse = number_of if widened else parse
        wanted = [value for value in values if value is not None]

        def one_of(row: Row) -> Truth:
            text = row[at]
            if not values:
                return False
            if text is None:
                return None
            return True if _read(parse, text) in wanted else (None if unknown else False)

        return one_of

    def _like(self, node: exp.Like) -> Condition:
        given = _given(node)
        pattern = node.expression
        if not set(given) <= {"this", "expression", "negate"} or not isinstance(pattern, exp.Literal):
            raise BadFilter("LIKE takes one text in quotes")
        text = self._constant(pattern).text or ""
        negate = bool(given.get("negate"))
        at, type_oid = self._column(node.this)
        if self._relation is not None and type_oid not in TEXTS:
            raise BadFilter(f"LIKE is for text; {node.this.name} is none")
        self._write(" NOT LIKE %s" if negate else " LIKE %s")
        self.parameters.append(text)
        if text.count("%") > 4:
            raise BadFilter("LIKE may have four % at most")
        wanted = re.compile("".join({"%": ".*", "_": "."}.get(sign) or re.escape(sign) for sign in text), re.DOTALL)
        return lambda row: None if row[at] is None else (wanted.fullmatch(str(row[at])) is None) is negate

    # --- columns and values ----------------------------------------------------------------------------------------

    def _column(self, node: exp.Expr) -> tuple[int, int]:
        """Place and type of a column."""
        if (
            not isinstance(node, exp.Column)
            or set(_given(node)) != {"this"}
            or not isinstance(node.this, exp.Identifier)
        ):
            raise BadFilter(f"{node.sql(dialect='postgres')!r} stands where the name of a column is expected")
        name = node.name if node.this.quoted else node.name.lower()
        quoted = '"' + name.replace('"', '""').replace("%", "%%") + '"'
        self._write(quoted)
        if self._relation is None:
            return 0, 0
        at = self._relation.place(name)
        if at is None:
            raise BadFilter(f"{self._relation.table} has no column {name}")
        return at, self._relation.columns[at].type_oid

    def _parser(self, node: exp.Expr, type_oid: int) -> Callable[[str], Any]:
        parse = parser_of(type_oid) if self._relation is not None else str
        if parse is None:
            raise BadFilter(f"{node.name} is of a type that filters cannot compare; IS NULL is all they can ask of it")
        return parse

    def _check_order(self, node: exp.Expr, type_oid: int, name: str) -> None:
        if type_oid in TEXTS and name not in ("=", "<>"):
            raise BadFilter(
                f"the order of texts depends on the database: {node.name} can be compared with = and <> only"
            )

    def _one(self, node: exp.Expr) -> Operand:
        operand = self._operand(node)
        if isinstance(operand, Claim) and isinstance(self._claims.get(operand.name), list):
            raise BadFilter(f"the claim {operand.name} is a list: write = ANY({{{operand.name}}})")
        return operand

    def _operands(self, node: exp.Expr) -> list[Operand]:
        """One value, or those of a claim that is a list."""
        operand = self._operand(node)
        if isinstance(operand, Claim) and isinstance(claim := self._claims.get(operand.name), list):
            return [Constant(_claim_text(operand.name, each)) for each in claim]
        return [operand]

    def _operand(self, node: exp.Expr) -> Operand:
        match node:
            case exp.Paren():
                return self._operand(node.this)
            case exp.Placeholder() if str(node.this).startswith(_MARK):
                return Claim(self._names[int(str(node.this).removeprefix(_MARK))])
            case exp.Placeholder():
                raise BadFilter("the only parameters are claims, as in {sub}")
            case exp.Neg() if isinstance(node.this, exp.Literal) and not node.this.is_string:
                return Constant(f"-{node.this.this}", number=True)
            case exp.Literal() | exp.Boolean() | exp.Null():
                return self._constant(node)
        raise BadFilter(f"{node.sql(dialect='postgres')!r} stands where a value is expected")

    def _constant(self, node: exp.Expr) -> Constant:
        match node:
            case exp.Null():
                return Constant(None)
            case exp.Boolean():
                return Constant("true" if node.this else "false")
        text = str(node.this)
        if "\\" in text:
            raise BadFilter("a backslash in a text has no meaning here")
        return Constant(text, number=not node.args.get("is_string"))

    def _value(self, column: exp.Expr, type_oid: int, given: Operand, *, widened: bool | None = None) -> Any:
        """What a column is compared with, in the column's type; written down as a parameter."""
        text = given.text if isinstance(given, Constant) else _claim_text(given.name, self._claims.get(given.name))
        widened = _is_widened(type_oid, given) if widened is None else widened
        self._write(f"%s::{_cast(type_oid, widened=widened)}")
        self.parameters.append(text)
        if self._relation is None or text is None:
            return text
        if isinstance(given, Constant) and given.number and type_oid not in NUMBERS:
            raise BadFilter(f"{column.name} is not a number: write {text} in quotes")
        parse = number_of if widened else self._parser(column, type_oid)
        try:
            return parse(text)
        except ValueError as error:
            what = f"the claim {given.name}" if isinstance(given, Claim) else repr(text)
            raise BadFilter(f"{what} is not a value of {column.name}: {error}") from None


def _is_widened(type_oid: int, given: Operand) -> bool:
    """Whether PostgreSQL compares as `numeric`: a whole-number column with a number that has a fraction."""
    return type_oid in INTEGERS and isinstance(given, Constant) and given.number and not _whole(given.text)


def _whole(text: str | None) -> bool:
    return text is not None and text.removeprefix("-").isdigit() and abs(int(text)) < 2**63


def _cast(type_oid: int, *, widened: bool) -> str:
    """As what a parameter is compared: any whole number may be asked for, whatever the column can hold."""
    if widened:
        return "numeric"
    return "int8" if type_oid in INTEGERS else NAMES.get(type_oid, "text")


def _claim_text(name: str, value: object) -> str | None:
    """A claim as the text of a value. One that is missing is NULL: nothing equals it."""
    match value:
        case None | str():
            text = value
        case bool():
            text = "true" if value else "false"
        case int() | float():
            text = str(value)
        case _:
            raise BadFilter(f"the claim {name} is no single value")
    if text is not None and "\0" in text:
        raise BadFilter(f"the claim {name} holds a character that no value can hold")
    return text


def _read(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise BadFilter(f"a value cannot be compared: {error}") from None


def _given(node: exp.Expr) -> dict[str, Any]:
    """The arguments of a node that say something."""
    return {name: value for name, value in node.args.items() if value not in (None, [], False)}
