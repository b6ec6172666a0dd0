"""A WHERE that is plain leaves whole segments unread, and no answer changes by that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import FixedClock, Snapshot, Store
from store.duck import instant
from store.errors import Damaged, QueryInvalid
from store.tree import nodes
from tests.store.rows import insert, replace

MONTHS = [datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4)]
FEB, MARCH, APRIL = MONTHS[1:]
DAY = timedelta(days=1)
Params = Sequence[object] | Mapping[str, object] | None


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store with one segment of metrics a month and pair of assets, and some rows that are still hot."""
    path = tmp_path_factory.mktemp("months") / "grid.store"
    with Store.open(path, clock=FixedClock(datetime(2024, 4, 20, tzinfo=UTC))) as store:
        for place, month in enumerate(MONTHS[:3]):
            for pair in ("ab", "cd"):
                rows = [metric(asset, month + DAY * i, place * 100 + i) for i in range(28) for asset in pair]
                insert(store, "metrics", [*rows, metric(pair[0], None, -1.0), metric(None, month, -2.0)])
                store.flush()
        insert(store, "metrics", [metric("b", APRIL + DAY * i, i) for i in range(3)])
        started = {"r1": FEB, "r2": FEB - 15 * DAY}
        insert(store, "runs", [{"run_id": run, "asset_id": "a", "started_at": at} for run, at in started.items()])
        yield store


def metric(asset: str | None, time: datetime | None, value: float) -> dict[str, Any]:
    return {"run_id": "r1", "asset_id": asset, "name": "mae", "time": time, "value": float(value)}


BEGUN = "(select asset_id, started_at as time from runs)"
NARROWED: list[tuple[str, Params, int]] = [
    ("select * from metrics where time >= '2024-03-05'", None, 2),
    ("select * from metrics where '2024-03-05' <= Metrics.time and value > 3", None, 2),
    ("select * from metrics where time > $since", {"since": MARCH + 5 * DAY}, 2),
    ("select * from metrics where time > $since and name = $name", {"name": "mae", "since": MARCH + 5 * DAY}, 2),
    ("select * from metrics where name = ? and time < ?", ["mae", datetime(2024, 1, 9)], 2),  # noqa: DTZ001 - a naive one is UTC
    ("select * from metrics where time between timestamptz '2024-02-05' and date '2024-02-20'", None, 2),
    ("select * from metrics where time = timestamp '2024-02-09'", None, 2),
    ("select * from metrics where asset_id = 'a'", None, 3),
    ("select * from metrics where asset_id in ('a', $other, NULL)", {"other": "zz"}, 3),
    ("select * from metrics where time >= $day - interval 3 day and asset_id = 'd'", {"day": date(2024, 3, 20)}, 1),
    ("select max(value), name from (from metrics m where m.time < '2024-01-20' and value < 9) group by 2", None, 2),
    ("with one as (select * from metrics where asset_id = 'c' and time < '2024-01-20') select * from one", None, 1),
    ("select m.*, r.kind from metrics m join runs r using (run_id) where m.time < '2024-01-20'", None, 2),
    ("select * from metrics__v where time < '2024-01-20' and asset_id = 'b'", None, 1),
    ("select * from metrics where time >= now() - interval 100 years and time < '2024-01-20'", None, 2),
]  # fmt: skip
WHOLE: list[tuple[str, Params]] = [
    ("select * from metrics where time >= '2024-03-05' or value = 3", None),
    ("select * from metrics where not (time >= '2024-03-05')", None),
    ("select * from metrics where time is null", None),
    ("select * from metrics where time <> '2024-03-05' and asset_id <> 'a'", None),
    ("select * from metrics where asset_id not in ('a')", None),
    ("select * from metrics where time not between '2024-02-05' and '2024-02-20'", None),
    ("select * from metrics where time + interval 60 day >= '2024-04-01'", None),
    ("select * from metrics where lower(asset_id) = 'a'", None),
    ("select * from metrics where asset_id >= 'c'", None),
    ("select * from metrics where asset_id = (select min(asset_id) from runs)", None),
    ("select count(*) filter (where time >= '2024-03-05') as n from metrics", None),
    ("select name, max(time) as newest from metrics group by name having newest >= '2024-03-05'", None),
    ("select * from metrics qualify row_number() over (partition by asset_id order by time desc nulls last) = 1", None),
    ("select (select count(*) from metrics) as n, * from metrics where time < '2024-01-03'", None),
    ("select * from metrics a join metrics b using (asset_id, time) where a.time < '2024-01-03'", None),
    ("select m.value from runs r left join metrics m on m.run_id = r.run_id where m.time < '2024-01-03'", None),
    (f"select m.value from {BEGUN} asof join metrics m using (asset_id, time) where m.time < '2024-01-28 12:00'", None),
    ("with metrics as (select time - interval 9 day as time from metrics) from metrics where time < '2024-02-1'", None),
    ("select * from metrics as m(run, asset_id, recipe, library, name, time, step) where m.step < '2024-01-20'", None),
    ("select asset_id, time from metrics where time < '2024-01-20' union all select asset_id, time from metrics", None),
    ("select * from metrics where time < infinity_of($1)", [1]),
]  # fmt: skip


def same(found: pa.Table, expected: pa.Table) -> bool:
    return sorted(map(str, found.to_pylist())) == sorted(map(str, expected.to_pylist()))


@pytest.mark.parametrize(("query", "params"), [*((query, params) for query, params, _ in NARROWED), *WHOLE[:-1]])
def test_no_answer_depends_on_what_was_left_unread(months: Store, query: str, params: Params) -> None:
    view = "metrics__v" if "__v" in query else "metrics"
    columns = [*months.table("metrics").column_names, *(["_v"] if view == "metrics__v" else [])]
    everything = {view: months.table("metrics", columns=columns), "runs": months.table("runs")}
    expected = months.sql(query, params, tables=everything).arrow()  # given tables are read whole
    assert expected.num_rows
    assert same(months.sql(query, params).arrow(), expected)
    assert same(months.sql(query, params).arrow(), expected)  # as it is remembered


@pytest.mark.parametrize(("query", "params", "files"), NARROWED)
def test_what_a_where_rules_out_is_not_opened(months: Store, query: str, params: Params, files: int) -> None:
    assert opened(months, query, params) == files


@pytest.mark.parametrize(("query", "params"), WHOLE[:-1])
def test_a_where_that_is_not_plain_rules_nothing_out(months: Store, query: str, params: Params) -> None:
    assert opened(months, query, params) == 6


def opened(store: Store, query: str, params: Params) -> int:
    """Of how many files DuckDB says that it read them, in the scan of most."""
    (row,) = store.sql(f"explain (analyze, format json) {query}", params).rows()
    told = [node.get("extra_info", {}) for node in nodes(json.loads(row["explain_value"]))]
    return max(int(one["Total Files Read"]) for one in told if "Total Files Read" in one)


def test_an_error_is_told_by_the_question_itself(months: Store) -> None:
    for query, params in (
        WHOLE[-1],
        ("select * from metrics where time >= $since", {"until": FEB}),
        ("select * from metrics where time >= 'never'", None),
        ("select * from metrics where time >= 7", None),
    ):
        with pytest.raises(QueryInvalid):
            months.sql(query, params)


def test_a_file_that_is_not_asked_may_be_gone(store: Store) -> None:
    insert(store, "metrics", [metric("a", FEB, 1)])
    store.flush()
    insert(store, "metrics", [metric("a", APRIL, 2)])
    store.flush()
    first = min((store.path / "segments" / "metrics").iterdir())
    first.unlink()
    assert store.sql("select value from metrics where time >= $since", {"since": MARCH}).rows() == [{"value": 2.0}]
    with pytest.raises(Damaged):
        store.sql("select value from metrics where time < $until", {"until": MARCH})


def test_replaced_rows_stay_replaced_whatever_the_where_rules_out(store: Store) -> None:
    run = {"run_id": "1", "asset_id": "a", "started_at": FEB, "status": "running"}
    insert(store, "runs", [run])
    store.flush()
    replace(store, "runs", [run | {"started_at": APRIL, "asset_id": "b", "status": "ok"}])
    store.flush()
    assert store.sql("select * from runs where started_at < '2024-03-01'").rows() == []
    assert store.sql("select * from runs where asset_id = 'a'").rows() == []
    assert len(store.sql("select * from runs where started_at >= '2024-03-01'").rows()) == 1


def test_the_register_in_force_does_not_depend_on_the_bounds_asked(store: Store) -> None:
    for since, region in ((FEB, "old"), (APRIL, "new")):
        insert(store, "assets", [{"asset_id": "a", "region": region, "valid_from": since}])
        store.flush()
    assert store.table("assets", until=MARCH).num_rows == 0
    assert store.table("assets", since=MARCH, columns=["region"]).to_pylist() == [{"region": "new"}]


def test_dates_are_compared_as_dates(store: Store) -> None:
    cell = {"asset_id": "a", "product": "p", "role": "r", "truth": "latest", "lead_bucket": "0-1h"}
    for day in (date(2024, 3, 1), date(2024, 3, 2)):
        insert(store, "scores", [cell | {"day": day}])
        store.flush()
    copy = {"scores": store.table("scores")}
    for test in ("day = '2024-03-02'", "day >= '2024-03-01 23:00:00'", "day <= date '2024-03-01'", "day < $day"):
        query, params = f"select day from scores where {test} order by day", {"day": APRIL} if "$" in test else None
        assert store.sql(query, params).rows() == store.sql(query, params, tables=copy).rows()


stamps = st.integers(-40, 140).map(lambda days: MONTHS[0] + DAY * days)
comparisons = st.one_of(
    st.tuples(st.sampled_from(("time < {}", "time >= {}", "{} > time", "time = {}", "{} <= time")), stamps),
    st.tuples(st.sampled_from(("asset_id = '{}'", "asset_id in ('{}', 'b')")), st.sampled_from("abcdx")),
)


@given(st.lists(comparisons, min_size=1, max_size=4), st.sampled_from((" and ", " or ")), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_comparisons_select_what_they_select_of_all_rows(
    months: Store, chosen: list[tuple[str, Any]], joined: str, earlier: bool
) -> None:
    where = joined.join(
        form.format(value if isinstance(value, str) else instant(int(value.timestamp()) * 1_000_000))
        for form, value in chosen
    )
    at: Store | Snapshot = months.at(4) if earlier else months
    query = f"select * from metrics where {where}"
    expected = months.sql(query, tables={"metrics": at.table("metrics")}).arrow()
    assert same(at.sql(query).arrow(), expected)


def test_what_was_checked_is_remembered_within_bounds(store: Store, tmp_path: Path) -> None:
    insert(store, "metrics", [metric("a", FEB, 1)])
    for number in range(300):
        assert store.sql(f"select {number} as n from metrics").rows() == [{"n": number}]
    assert store.sql("select 299 as n from metrics").rows() == [{"n": 299}]
