"""A person's word on a forecast, as arithmetic: rows of a model go in, the rows that were changed come out.

The mean and every quantile are changed the same way, so that the spread stays what the model said (replace, add) or
grows with the level (scale). What the model said is kept beside it under its own recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.clock import to_micros

if TYPE_CHECKING:
    import numpy.typing as npt

    from store.reading import Snapshot

Kind = Literal["replace", "add", "scale"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ROLE = "manual"
SUFFIX = "+manual"
"""Ends the recipe of a changed row, so that a leaderboard shows it beside the recipe that it was made from."""
EVER = 2**62

IN_FORCE = """
select * from adjustments where product = $product and revoked_at is null order by created_at, adjustment_id
"""
SPOKEN = """
select asset_id, issue_time, valid_time from forecasts
where role = 'manual' and product = $product and issue_time >= $since
"""

Step = tuple[str, int, int]
"""An asset, an issue time and a valid time, UTC microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One adjustment in force.

    Args:
        valid_from, valid_to: the steps that it is about, the second one excluded; UTC microseconds.
        value: in the asset's unit, or a factor.
        expires: no issue from then on is changed; UTC microseconds.
    """

    asset_id: str
    valid_from: int
    valid_to: int
    kind: Kind
    value: float
    expires: int = EVER


def words_of(snapshot: Snapshot, product: str, without: Collection[str] = ()) -> tuple[Word, ...]:
    """The adjustments of a product that nobody revoked, in the order in which they were made; without some, by id."""
    rows = snapshot.sql(IN_FORCE, {"product": product}).rows()
    return tuple(word_of(row) for row in rows if row["adjustment_id"] not in without)


def word_of(row: Mapping[str, Any]) -> Word:
    """The adjustment of a stored row."""
    return Word(
        asset_id=row["asset_id"],
        valid_from=to_micros(row["valid_from"]),
        valid_to=to_micros(row["valid_to"]),
        kind=row["kind"],
        value=row["value"],
        expires=EVER if row["expires_at"] is None else to_micros(row["expires_at"]),
    )


def spoken(snapshot: Snapshot, product: str, since: datetime) -> frozenset[Step]:
    """The steps of issues from an instant on of which there is a person's word already."""
    rows = snapshot.sql(SPOKEN, {"product": product, "since": since}).rows()
    return frozenset((row["asset_id"], to_micros(row["issue_time"]), to_micros(row["valid_time"])) for row in rows)


def adjusted(table: pa.Table, words: Sequence[Word], also: Collection[Step] = ()) -> pa.Table:
    """The rows that words change, as they are afterwards; several words on one step follow each other.

    Args:
        table: rows of ``forecasts`` of one product, as a model made them.
        also: steps that are given back although no word changes them, since an older word on them is stored.

    >>> from fleet.rows import UTC
    >>> hours = pa.array([0, 3_600_000_000]).cast(UTC)
    >>> rows = pa.table({"asset_id": ["a", "a"], "recipe": ["gbm"] * 2, "role": ["champion"] * 2, "issue_time": hours,
    ...                  "valid_time": hours, "mean": [10.0, 20.0], "q10": [8.0, 16.0]})
    >>> half = Word(asset_id="a", valid_from=3_600_000_000, valid_to=7_200_000_000, kind="scale", value=0.5)
    >>> adjusted(rows, [half]).select(["recipe", "role", "mean", "q10"]).to_pylist()
    [{'recipe': 'gbm+manual', 'role': 'manual', 'mean': 10.0, 'q10': 8.0}]
    """
    assets = plain(table["asset_id"]).to_numpy(zero_copy_only=False)
    concerned = {word.asset_id for word in words} | {asset for asset, _, _ in also}
    places = {asset: np.flatnonzero(assets == asset) for asset in concerned} if concerned else {}
    issue, valid = (table[name].cast(pa.int64()).to_numpy() for name in ("issue_time", "valid_time"))
    names = [name for name in table.column_names if name == "mean" or (name[0] == "q" and name[1:].isdigit())]
    values = {name: table[name].cast(pa.float64()).to_numpy(zero_copy_only=False).copy() for name in names}
    touched = np.zeros(table.num_rows, dtype=bool)
    for word in words:
        mine = places[word.asset_id]
        mine = mine[(valid[mine] >= word.valid_from) & (valid[mine] < word.valid_to) & (issue[mine] < word.expires)]
        _change(word, mine, values)
        touched[mine] = True
    for asset in {asset for asset, _, _ in also}:
        touched[[k for k in places[asset] if (asset, int(issue[k]), int(valid[k])) in also]] = True
    rows = pa.table({name: plain(table[name]) for name in table.column_names})
    for name in names:
        # Before they were changed absent values were NULL, which NumPy knows as NaN.
        rows = _with(rows, name, pa.array(values[name], from_pandas=True))
    rows = rows.filter(pa.array(touched))
    rows = _with(rows, "role", pa.repeat(ROLE, rows.num_rows))
    return _with(rows, "recipe", pc.binary_join_element_wise(rows["recipe"], SUFFIX, ""))


def with_words(table: pa.Table, words: Sequence[Word], also: Collection[Step] = ()) -> pa.Table:
    """What a model made, and after it what people made of that; both go into one commit."""
    if not (words or also):
        return table
    changed = adjusted(table, words, also)
    if not changed.num_rows:
        return table
    raw = pa.table({name: plain(table[name]) for name in table.column_names})
    return pa.concat_tables([raw, changed], promote_options="permissive")


def _change(word: Word, rows: npt.NDArray[np.int64], values: Mapping[str, npt.NDArray[np.float64]]) -> None:
    shift = word.value - values["mean"][rows] if word.kind == "replace" else word.value
    for column in values.values():
        if word.kind == "scale":
            column[rows] *= word.value
        else:
            column[rows] += shift
    if word.kind == "replace":
        values["mean"][rows] = word.value  # to the last bit


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without a dictionary."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
