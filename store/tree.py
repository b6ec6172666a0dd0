"""What a question says, read from the tree that DuckDB makes of it: whether it only reads, whose rows, which times.

Nothing here asks DuckDB. A tree is the JSON of ``json_serialize_sql``, and whatever is not known in it is taken for
something that says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from store.errors import QueryInvalid
from store.schema import MACROS

Node = Mapping[str, Any]

#: Table functions that a question may call. Others write logs and profiles to any path, run SQL out of a text, follow
#: raw pointers or look at files.
_FUNCTIONS = {
    *MACROS,
    *("unnest", "range", "generate_series", "repeat", "repeat_row", "summary", "json_each", "json_tree"),
    *("histogram", "histogram_values", "pg_timezone_names", "icu_calendar_names"),
    *("duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types", "duckdb_views"),
    *("pragma_show", "pragma_table_info", "pragma_version"),
}
#: What a WITH may hold: DuckDB 2 also takes COPY and DELETE there, and lets the COPY write in a read-only transaction.
_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
#: What may stand in an expression that is the same for every row of a question.
_STEADY = {
    *("+", "-", "trunc", "now", "today", "current_date", "get_current_timestamp", "date_trunc"),
    *("to_years", "to_months", "to_weeks", "to_days", "to_hours", "to_minutes", "to_seconds"),
    *("make_timestamptz", "make_timestamp", "make_date", "to_timestamp"),
}
How = Literal["among", "from", "upto"]
#: A column, how it is compared, and with what.
_Compared = tuple[tuple[str, ...], How, tuple[Node, ...]]
_BOUNDS: dict[str, tuple[How, ...]] = {
    "COMPARE_EQUAL": ("from", "upto"),
    "COMPARE_GREATERTHAN": ("from",),
    "COMPARE_GREATERTHANOREQUALTO": ("from",),
    "COMPARE_LESSTHAN": ("upto",),
    "COMPARE_LESSTHANOREQUALTO": ("upto",),
}
_TURNED: dict[How, How] = {"from": "upto", "upto": "from"}


class Said(NamedTuple):
    """What a row of a view must fulfil to count: its entity is ``among`` some, its time is ``from`` or ``upto`` one."""

    view: str
    how: How
    values: tuple[Node, ...]


def nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every node of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def not_a_question(what: str) -> QueryInvalid:
    """The error for a statement that is none."""
    return QueryInvalid(
        f"{what} is not a question", hint="the store answers SELECT, DESCRIBE, SUMMARIZE, and EXPLAIN of a SELECT"
    )


def look_through(tree: object) -> None:
    """Refuse statements within a question and table functions that do more than read, however deep they stand."""
    for node in nodes(tree):
        kind = str(node.get("type"))
        if "cte_map" in node and kind not in _QUERY_NODES:
            raise not_a_question(kind.removesuffix("_QUERY_NODE"))
        if kind == "TABLE_FUNCTION" and (name := node["function"]["function_name"]).lower() not in _FUNCTIONS:
            raise QueryInvalid(
                f"{name!r} is not a table function for questions", hint=f"there are {', '.join(sorted(_FUNCTIONS))}"
            )


# -------------------------------------------------------------------------------------------- whose rows, which times


def said(tree: object, columns: Mapping[str, tuple[str | None, str | None]]) -> tuple[Said, ...]:
    """What a question's WHERE says about the entity and the time of views, where that is plain.

    Plain is: the view is mentioned once, read alone or inner-joined, and the WHERE beside it is a comparison with
    something constant, or several that must all hold. Whatever else it says leaves only fewer rows.

    Args:
        tree: of the question.
        columns: by the name of a view its column for the entity, and that for the time.
    """
    everything = list(nodes(tree))
    return tuple(
        Said(name, how, values)
        for name, (entity, time) in columns.items()
        for column, how, values in _beside(everything, name)
        if column == (entity if how == "among" else time)
    )


def _beside(everything: Sequence[Node], name: str) -> Iterator[tuple[str, How, tuple[Node, ...]]]:
    """The plain comparisons of the WHERE that tests the rows of a table."""
    mentions = [one for one in everything if one.get("type") == "BASE_TABLE" and _lower(one["table_name"]) == name]
    withs = [entry["key"] for one in everything if "cte_map" in one for entry in one["cte_map"]["map"]]
    if len(mentions) != 1 or name in map(_lower, withs):
        return
    mention = mentions[0]
    if mention["sample"] or mention["at_clause"] or mention["column_name_alias"]:
        return
    called = _lower(mention["alias"] or mention["table_name"])
    for one in everything:
        if one.get("type") != "SELECT_NODE" or one["sample"] or not one["where_clause"]:
            continue
        if any(part is mention for part in _joined(one["from_table"])):
            aliases = {_lower(listed["alias"]) for listed in one["select_list"]}
            for path, how, values in _conjuncts(one["where_clause"]):
                if path[-1] not in aliases and path[:-1] in ((), (called,)):
                    yield path[-1], how, values


def _lower(name: object) -> str:
    return str(name).lower()


def _joined(table: Node) -> Iterator[Node]:
    """The tables of a FROM whose rows a WHERE tests one by one: alone, or in plain inner joins."""
    if table.get("type") == "BASE_TABLE":
        yield table
    elif table.get("type") == "JOIN" and table.get("join_type") == "INNER" and table.get("ref_type") == "REGULAR":
        yield from _joined(table["left"])
        yield from _joined(table["right"])


def _conjuncts(where: Node) -> Iterator[_Compared]:
    """(column, how, values) of each plain comparison of those that must all hold."""
    waiting = [where]
    while waiting:
        node = waiting.pop()
        kind = node.get("type")
        if kind == "CONJUNCTION_AND":
            waiting.extend(node["children"])
        elif kind == "COMPARE_BETWEEN":
            yield from _comparison("COMPARE_GREATERTHANOREQUALTO", node["input"], node["lower"])
            yield from _comparison("COMPARE_LESSTHANOREQUALTO", node["input"], node["upper"])
        elif kind == "COMPARE_IN":
            first, *values = node["children"]
            if (column := _column(first)) and values and all(map(steady, values)):
                yield column, "among", tuple(values)
        elif kind in _BOUNDS and "left" in node:
            yield from _comparison(kind, node["left"], node["right"])


def _comparison(kind: str, left: Node, right: Node) -> Iterator[_Compared]:
    turned = not _column(left)
    column, value = (_column(right), left) if turned else (_column(left), right)
    if column and steady(value):
        for how in _BOUNDS[kind]:
            yield column, _TURNED[how] if turned else how, (value,)
        if kind == "COMPARE_EQUAL":
            yield column, "among", (value,)


def _column(node: Node) -> tuple[str, ...]:
    return tuple(map(_lower, node["column_names"])) if node.get("class") == "COLUMN_REF" else ()


def steady(node: Node) -> bool:
    """Whether an expression is the same for every row, and can be asked for by itself."""
    match node.get("class"):
        case "CONSTANT" | "PARAMETER":
            return True
        case "CAST":
            return steady(node["child"])
        case "FUNCTION":
            plain = not (node["filter"] or node["order_bys"]["orders"] or node["distinct"])
            given = [argument["expression"] for argument in node["arguments"]]
            return plain and _lower(node["function_name"]) in _STEADY and all(map(steady, given))
    return False


def parameters(values: Iterable[Node]) -> set[str]:
    """The names, or the numbers from 1 on, of the parameters that expressions need."""
    return {str(one["identifier"]) for value in values for one in nodes(value) if one.get("class") == "PARAMETER"}


def is_text(node: Node) -> bool:
    """Whether an expression is a plain text, which takes the type of what it is compared with."""
    return node.get("class") == "CONSTANT" and node.get("literal", {}).get("kind") == "STRING"
