"""Filters: refused where they say too much, and of one mind with PostgreSQL about every row."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from livesync_trio.feed.filters import BadFilter, Filter
from livesync_trio.feed.tables import Column, Relation
from livesync_trio.feed.values import TEXTS
from tests.postgres.server import fresh_schema

TYPES = {"id": 23, "big": 20, "small": 21, "num": 1700, "real": 700, "dbl": 701, "txt": 25, "vc": 1043, "flag": 16,
         "uid": 2950, "day": 1082, "ts": 1114, "tz": 1184, "js": 3802}  # fmt: skip
NAMES_IN_SQL = "id int4, big int8, small int2, num numeric, real float4, dbl float8, txt text, vc varchar(20), flag bool, uid uuid, day date, ts timestamp, tz timestamptz, js jsonb"  # noqa: E501
TABLE = Relation(1, "public.t", tuple(Column(name, oid) for name, oid in TYPES.items()), (0,))

VALUES: dict[str, list[str | None]] = {
    "id": ["0", "1", "-1", "2147483647"],
    "big": [None, "0", "1", "9007199254740993", "-9223372036854775808"],
    "small": [None, "1", "-1"],
    "num": [None, "1.10", "1.1", "0", "NaN", "-1e20", "12345678901234567890.5", "1"],
    "real": [None, "1.1", "0", "NaN", "Infinity", "1"],
    "dbl": [None, "1.1", "0", "NaN", "-Infinity", "1"],
    "txt": [None, "", "a", "A", "it's", "100%", "a_b", "é", "x\ny"],
    "vc": [None, "", "a", "it's"],
    "flag": [None, "t", "f"],
    "uid": [None, "00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "day": [None, "2026-11-27", "0044-03-15 BC", "infinity", "12026-01-01"],
    "ts": [None, "2026-11-27 20:15:00", "2026-11-27 20:15:00.5", "-infinity"],
    "tz": [None, "2026-11-27 20:15:00+00", "2026-11-27 20:15:00.25+00", "infinity"],
    "js": [None, "{}"],
}
CONSTANTS = {
    "id": ["1", "0", "-1", "1.5", "'1'", "99999999999999999999"], "big": ["1", "9007199254740993", "0.5", "'1'"], "small": ["1", "-1.5", "70000"],  # noqa: E501
    "num": ["1.1", "1", "'NaN'", "-1e20"], "real": ["1.1", "1", "'NaN'"], "dbl": ["1.1", "1", "'Infinity'"],
    "txt": ["''", "'a'", "'it''s'", "'é'"], "vc": ["'a'", "''"], "flag": ["true", "'f'"],
    "uid": ["'00000000-0000-0000-0000-000000000001'", "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'"],
    "day": ["'2026-11-27'", "'infinity'"], "ts": ["'2026-11-27 20:15:00'", "'2026-11-27'"],
    "tz": ["'2026-11-27 20:15:00+00'", "'2026-11-27 22:15:00+02:00'", "'2026-11-27T20:15:00Z'"],
}  # fmt: skip
CLAIMS: dict[str, Any] = {"n": 1, "s": "a", "b": True, "ns": [1, 0, -1], "ss": ["a", "it's"], "none": None, "no": []}
FOR: dict[str, tuple[list[str], list[str]]] = {
    "id": (["n", "none", "gone"], ["ns", "no"]), "num": (["n"], ["ns"]), "txt": (["s", "n", "none"], ["ss", "no", "ns"]),  # noqa: E501
    "flag": (["b"], []),
}  # fmt: skip


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    column = draw(st.sampled_from([name for name in TYPES if name != "js"]))
    single, several = FOR.get(column, ([], []))
    operands = [*CONSTANTS[column], "NULL", *(f"{{{name}}}" for name in single)]
    operand = st.sampled_from(operands)
    order = ["=", "<>", "!="] + ([] if TYPES[column] in TEXTS else ["<", "<=", ">", ">="])
    shape = draw(st.sampled_from(["compare", "flipped", "in", "null", "between", "like", "any", "columns", "flag"]))
    match shape:
        case "compare":
            return f"{column} {draw(st.sampled_from(order))} {draw(operand)}"
        case "flipped":
            return f"{draw(operand)} {draw(st.sampled_from(order))} {column}"
        case "in":
            values = ", ".join(draw(st.lists(operand, min_size=1, max_size=3)))
            return f"{column} {draw(st.sampled_from(['IN', 'NOT IN']))} ({values})"
        case "between" if TYPES[column] not in TEXTS:
            return f"{column} {draw(st.sampled_from(['', 'NOT ']))}BETWEEN {draw(operand)} AND {draw(operand)}"
        case "like":
            pattern = draw(st.sampled_from(["%", "a%", "%s", "_", "a_b", "1__%", "%y"]))
            return f"txt {draw(st.sampled_from(['', 'NOT ']))}LIKE '{pattern}'"
        case "any" if several:
            return f"{column} = ANY({{{draw(st.sampled_from(several))}}})"
        case "columns":
            return draw(st.sampled_from(["txt = vc", "id = id", "ts < ts", "num >= num", "dbl = dbl"]))
        case "flag":
            return draw(st.sampled_from(["flag", "flag IS TRUE", "flag IS NOT FALSE", "true", "FALSE"]))
    return f"{draw(st.sampled_from(list(TYPES)))} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"


conditions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"{p[0]} {p[1]} {p[2]}"),
        inner.map(lambda one: f"NOT ({one})"),
        inner.map(lambda one: f"({one}) IS TRUE"),
    ),
    max_leaves=5,
)
rows = st.fixed_dictionaries({name: st.sampled_from(some) for name, some in VALUES.items()})


@pytest.fixture(scope="module")
def connection() -> Any:
    with psycopg.connect(fresh_schema("filters of the feed"), autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET DateStyle = 'ISO'")
        connection.execute(f"CREATE TABLE t ({NAMES_IN_SQL})".encode())
        yield connection


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conditions, st.lists(rows, min_size=1, max_size=6))
def test_postgresql_says_the_same_of_every_row(connection: Any, text: str, some: list[dict[str, str | None]]) -> None:
    predicate = Filter(text).bind(TABLE, CLAIMS)
    columns = ", ".join(
        f"(v->>'{name}')::{sql_type}" for name, sql_type in (c.split() for c in NAMES_IN_SQL.split(", "))
    )
    connection.execute("TRUNCATE t")
    for row in some:
        connection.execute(f"INSERT INTO t SELECT {columns} FROM (SELECT %s::jsonb v) s".encode(), [Jsonb(row)])
    whole = connection.execute(
        "SELECT ctid::text, id::text, big::text, small::text, num::text, real::text, dbl::text, txt, vc, CASE flag WHEN true THEN 't' WHEN false THEN 'f' END, uid::text, day::text, ts::text, tz::text, js::text FROM t"  # noqa: E501
    ).fetchall()
    theirs = {
        r[0]
        for r in connection.execute(f"SELECT ctid::text FROM t WHERE {predicate.sql}".encode(), predicate.parameters)
    }
    ours = {row[0] for row in whole if predicate.holds(row[1:])}
    assert ours == theirs, (text, predicate.sql, predicate.parameters)


@pytest.mark.parametrize(
    "text",
    [
        "", "id", "id = 1; DROP TABLE t", "id = 1) OR (1 = 1", "1 = 1", "id = (SELECT 1)", "EXISTS (SELECT 1)", "now() > ts",  # noqa: E501
        "lower(txt) = 'a'", "txt = '{s}'", "txt = :s", "txt = $1", "txt = ?", "id = id + 1", "txt || vc = 'a'", "txt ILIKE 'a'",  # noqa: E501
        "txt ~ 'a'", "txt < 'b'", "js = '{}'", "nothing = 1", "other.id = 1", "id = 'x'", "txt = 1", "txt = 'a\\b'", "id = {ns}",  # noqa: E501
        "txt LIKE {s}", "id = 1::text", "txt LIKE '%a%a%a%a%a%'", "txt = E'a'", "txt = $$a$$", "id = CASE WHEN true THEN 1 END",  # noqa: E501
        "SELECT 1", "DROP TABLE t", "id IN (SELECT 1)", "id = ALL({ns})", "flag IS UNKNOWN OR", "(" * 400 + "id=1" + ")" * 400,  # noqa: E501
        "id = 1 AND " * 400 + "id = 1", "id = {s}", "id = {dict}", "COALESCE(id, 1) = 1", "id IS DISTINCT FROM 1",
    ],
)  # fmt: skip
def test_what_says_too_much_is_refused(text: str) -> None:
    with pytest.raises(BadFilter):
        Filter(text).bind(TABLE, {**CLAIMS, "dict": {"a": 1}})


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(BadFilter):
        Filter(text).bind(TABLE, CLAIMS)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_claim_cannot_say_more_than_a_value(claim: str) -> None:
    predicate = Filter("txt = {sub}").bind(TABLE, {"sub": claim})
    assert predicate.sql == '"txt" = %s::text'
    assert predicate.parameters == (claim,)
    row = tuple(None if name != "txt" else claim for name in TYPES)
    assert predicate.holds(row)
    assert not predicate.holds(tuple(None if name != "txt" else claim + "x" for name in TYPES))


def test_names_that_need_quotes() -> None:
    table = Relation(1, "public.t", (Column('We"ird%', 25), Column("lower", 25)), (0,))
    predicate = Filter("\"We\"\"ird%\" = 'x' OR LOWER = 'y'").bind(table, {})
    assert predicate.holds(("x", None))
    assert predicate.holds((None, "y"))
    assert predicate.sql == '("We""ird%%" = %s::text OR "lower" = %s::text)'
