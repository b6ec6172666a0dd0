"""The views are API: their names, columns and order; questions read and do nothing else."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import Store
from store.duck import query_source
from store.errors import NotFound, QueryInvalid, SchemaMismatch, SourceUnreadable
from store.schema import TABLES, VIEWS
from store.tree import nodes
from tests.store.rows import HOUR, START, insert, reading, readings, replace

COLUMNS = {
    "assets": "asset_id kind region capacity unit timezone freq state meta",
    "assets_all": "asset_id kind region capacity unit timezone freq state meta valid_from valid_to",
    "series": "series_id source freq timezone",
    "links": "asset_id series_id name valid_from valid_to",
    "actuals": "asset_id valid_time y available_at quality",
    "actuals_all": "asset_id valid_time y available_at quality",
    "covariates": "series_id name valid_time available_at value",
    "covariates_all": "series_id name valid_time available_at value",
    "masks": "asset_id valid_from valid_to reason available_at actor",
    "runs": "run_id asset_id product recipe recipe_hash library library_version kind status started_at ended_at "
    "duration_s params tags data_version train_start train_end code_version fingerprint batch_id error_code error",
    "metrics": "run_id asset_id recipe library name step time value",
    "latest": "asset_id product recipe name step time value run_id",
    "versions": "version_id asset_id product recipe recipe_hash run_id codec trusted bytes sha256 created_at",
    "champions": "asset_id product recipe version_id since",
    "champions_all": "asset_id product recipe version_id since",
    "forecasts": "asset_id product recipe recipe_hash version_id run_id role issue_time valid_time step mean "
    "q025 q05 q10 q50 q95 quality created_at",
    "scores": "asset_id product recipe recipe_hash version_id role truth perfect_foresight day lead_bucket n points "
    "sum_e sum_abs_e sum_sq_e sum_abs_y sum_smape sum_nmae_cap n_cap pinball_sum_q10 pinball_sum_q90 covered_80 "
    "covered_95 width_sum_80 winkler_sum_80 actuals_v",
    "scales": "asset_id product origin season scale_abs scale_sq",
    "decisions": "asset_id product decided_at champion challenger metric champion_value challenger_value margin lower "
    "n verdict reason actor",
    "job_runs": "job slot attempt status started_at ended_at assets ok failed fell_back skipped error revision",
    "outcomes": "job slot asset_id product recipe status error_code cause duration_s revision",
    "adjustments": "adjustment_id asset_id product valid_from valid_to kind value actor reason created_at expires_at "
    "revoked_at",
    "deliveries": "delivery number product issue_time snapshot rows sha256 target status attempts sent_at "
    "acknowledged_at error job slot spec",
    "alerts": "alert_id opened_at closed_at rule cause assets impact severity text",
    "alert_assets": "alert_id rule asset_id product value impact since until",
    "alert_actions": "action_id alert_id acted_at action actor until note",
    "notifications": "notification_id alert_id channel event created_at status attempts sent_at error",
    "reports": "report_id job slot created_at kind product body",
}  # fmt: skip
COLUMNS["published"] = COLUMNS["forecasts"]


def issued(issue: int, step: int, mean: float, role: str = "champion", **more: object) -> dict[str, object]:
    return {
        "asset_id": "a", "product": "default", "recipe": "r", "role": role, "issue_time": START + HOUR * issue,
        "valid_time": START + HOUR * (issue + step - 1), "step": step, "mean": mean, "created_at": START, **more,
    }  # fmt: skip


def scored(**more: object) -> dict[str, object]:
    key = {"asset_id": "a", "product": "p", "role": "r", "truth": "latest", "lead_bucket": "0-1h"}
    return {**key, "day": START.date(), **more}


@pytest.mark.parametrize("filled", [False, True])
def test_every_view_has_the_columns_of_the_design_in_order(store: Store, filled: bool) -> None:
    if filled:
        insert(store, "forecasts", [issued(0, 1, 1.0, q95=1.0, q10=1.0), issued(0, 2, 1.0, q05=1, q025=1, q50=1)])
        dynamic = ("winkler_sum_80", "covered_95", "pinball_sum_q90", "width_sum_80", "covered_80", "pinball_sum_q10")
        insert(store, "scores", [scored(**dict.fromkeys(dynamic, 1.0))])
        store.flush()
    assert COLUMNS.keys() == VIEWS.keys()
    for name, listed in COLUMNS.items():
        wanted = listed.split()
        if not filled:
            table = VIEWS[name].table
            wanted = [column for column in wanted if column in table.by_name]
        assert store.table(name).column_names == wanted, name
        assert store.sql(f"select * from {name}").arrow().column_names == wanted, name


def test_absent_quantiles_are_null_in_segments_of_other_columns(store: Store) -> None:
    insert(store, "forecasts", [issued(i, 1, 1.0, q10=0.5) for i in range(5_000)])
    insert(store, "forecasts", [issued(i, 2, 1.0, q90=1.5) for i in range(5_000)])
    insert(store, "forecasts", [issued(0, 3, 1.0)])
    ask = "select step, min(q10) as low, max(q90) as high, count(*) as n from forecasts group by step order by step"
    assert [tuple(row.values()) for row in store.sql(ask).rows()] == [
        (1, 0.5, None, 5_000),
        (2, None, 1.5, 5_000),
        (3, None, None, 1),
    ]


def test_published_has_one_row_a_valid_time(store: Store) -> None:
    roles = ["fallback", "champion", "challenger", "baseline", "backtest"]
    insert(store, "forecasts", [issued(0, 1, float(i), role) for i, role in enumerate(roles)])
    insert(store, "forecasts", [issued(0, 2, 7.0, "fallback"), issued(1, 1, 8.0, "manual"), issued(1, 1, 9.0)])
    found = store.table("published", columns=["issue_time", "valid_time", "mean"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (START, START, 1.0),
        (START, START + HOUR, 7.0),
        (START + HOUR, START + HOUR, 8.0),
    ]


def test_forecast_as_of_is_the_newest_issued_by_then(store: Store) -> None:
    insert(store, "forecasts", [issued(i, s, i * 10.0 + s) for i in range(3) for s in (1, 2)])
    ask = "select valid_time, mean from forecast_as_of($t) order by valid_time"
    found = store.sql(ask, {"t": START + HOUR}).rows()
    assert [row["mean"] for row in found] == [1.0, 11.0, 12.0]
    assert store.sql(ask, {"t": START - HOUR}).rows() == []


@pytest.mark.parametrize(
    "query",
    [
        "insert into hot.actuals_1 values (1)",
        "create table x as select 1",
        "copy (select 1) to 'x.csv'",
        "attach 'x.db'",
        "set threads = 1",
        "pragma version",
        "select 1; select 2",
        "",
        "selec 1",
        "select nothing from actuals",
        "select * from missing",
        "select * from read_csv('/etc/hostname')",
        "select * from '/etc/hostname.parquet'",
        "select cast('x' as integer)",
        "select $absent",
    ],
)
def test_what_is_no_question_is_refused_in_one_line(store: Store, query: str) -> None:
    with pytest.raises(QueryInvalid) as caught:
        store.sql(query)
    assert "\n" not in caught.value.message
    assert caught.value.code == "query-invalid"


WRITES = [
    f"{explain} {statement}"
    for explain in ("", "explain", "explain analyze", "EXPLAIN (ANALYZE)", "explain (format json)",
                    "explain (analyze, format json)", "/* a */ explain -- b\n analyze /* c */",
                    "/* /* */ select 1 */ explain analyze /* /* */ select 1 */")
    for statement in ("copy (select 1 as a) to '{file}'", "copy {hot} to '{file}'", "copy {hot} from '{file}'",
                      "with x as (delete from {hot} returning *) select * from x", "delete from {hot}",
                      "prepare p as copy (select 1) to '{file}'", "drop table {hot}")
] + [
    "with x as (insert into {hot} (asset_id) values ('new') returning *) select * from x",
    "with x as (update {hot} set y = 0 returning *) select * from x",
    "select * from (with x as (delete from {hot} returning *) select * from x)",
    "with x as (copy (select 1 as a) to '{file}') select 1",
    "with x as (copy (select 1 as a) to '{file}') select * from x",
    "explain analyze with x as (copy (select 1 as a) to '{file}') from x",
    "select 1 where exists (with x as (copy (select 1 as a) to '{file}') from x)",
    "select * from (copy (select 1 as a) to '{file}')",
    "describe copy (select 1 as a) to '{file}'",
    "summarize copy (select 1 as a) to '{file}'",
    "select 1 -- \n; copy (select 1 as a) to '{file}'",
    "select 1 /* ; */ ; /* */ delete from {hot}",
    "explain select 1; copy (select 1 as a) to '{file}'",
    "explain analyze\tselect 1;\rdelete from {hot}",
    "merge into {hot} using (select 1 as a) s on true when matched then delete",
    "create or replace temp table actuals as select 1",
    "create or replace view actuals as select 1",
    "select 1 as a into x",
    "prepare p as select 1", "execute p", "deallocate p", "begin", "commit", "rollback", "checkpoint", "vacuum",
    "export database '{folder}/segments/out'", "import database '{folder}/segments'",
    "attach '{folder}/catalog.db' as c",
    "attach '{folder}/segments/new.db' as c", "attach ':memory:' as c", "detach memory", "use hot",
    "install sqlite", "load sqlite", "load json", "pragma enable_profiling", "pragma database_list",
    "set enable_external_access = true", "set global allowed_directories = ['/']", "reset threads",
    "set variable x = 1", "call enable_logging()", "call pragma_version()",
    "from enable_logging(storage = 'file', storage_path = '{folder}/segments/log.csv')",
    "explain analyze from enable_logging('QueryLog', storage_path = '{folder}/segments/log.csv')",
    "from system.main.enable_logging(storage_path = '{folder}/segments/log.csv')",
    'select 1 where exists (from "ENABLE_LOGGING"(storage_path = \'{folder}/segments/log.csv\'))',
    "describe from enable_logging(storage_path = '{folder}/segments/log.csv')",
    "with x as materialized (from enable_logging(storage_path = '{folder}/segments/log.csv')) select 1 union from x",
    "from enable_profiling(save_location = '{outside}.json')",
    "from query('from enable_logg' || 'ing(storage_path = ''{folder}/segments/log.csv'')')",
    "from json_execute_serialized_sql(json_serialize_sql('from enable_logging()'))",
    "from arrow_scan(1, 2, 3)", "from pandas_scan(1)", "from checkpoint()", "from truncate_duckdb_logs()",
    "from read_text('{outside}')", "from read_blob('{outside}')", "from read_csv('{outside}')",
    "from read_csv_auto('{outside}')", "from read_json('{outside}')", "from read_parquet('{outside}')",
    "from parquet_metadata('{outside}')", "from sniff_csv('{outside}')", "from glob('{folder}/../*')",
    "from glob('/etc/*')", "from '{outside}'", "from '/etc/passwd'", "from '{folder}/segments/../../outside.csv'",
    "from 'file://{outside}'", "from read_duckdb('{outside}')", "select getenv('HOME')", "from duckdb_secrets()",
    "select * from actuals where y in (select size from read_text('{outside}'))",
    "select (select content from read_text('{outside}'))",
]  # fmt: skip


def test_no_question_writes_or_looks_outside_the_store(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    insert(store, "actuals", readings(10, 500))
    insert(store, "actuals", [reading("hot", 0, 1.0)])
    ask = "select count(*) as n, sum(y) as total from actuals"
    right = store.sql(ask).rows()
    assert right[0]["n"] == 5_001
    held = store.sql(
        "select schema_name || '.' || table_name as t from duckdb_tables() where table_name ~ 'actuals_[0-9]+'"
    )
    folder = tmp_path / "grid.store"
    names = {"file": next(folder.rglob("*.parquet")), "folder": folder, "outside": outside, "hot": held.rows()[0]["t"]}

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    for template in WRITES:
        query = template.format(**names)
        try:
            store.sql(query)
            pytest.fail(f"answered: {query}")
        except QueryInvalid as refused:
            assert "\n" not in refused.message, query  # noqa: PT017
        assert files() == before, query
        assert store.sql(ask).rows() == right, query


@pytest.mark.parametrize(
    "query",
    [
        "explain {}", "explain analyze {}", "EXPLAIN (ANALYZE) {}", "explain (format json) {}", "explain ({});",
        "/* a */ explain -- b\n (analyze, format json) /* c */ {}", "describe {}", "summarize {}",
        "with x as ({}) from x", "({})", "{};", "-- a\n{} -- b",
    ],
)  # fmt: skip
def test_a_select_is_answered_however_it_is_dressed(store: Store, query: str) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    assert store.sql(query.format("select y from actuals")).rows()


def test_functions_that_only_read_are_answered(store: Store) -> None:
    assert len(store.sql("from range(3) r, unnest([1, 2]) u, generate_series(1, 2) g")) == 12
    assert store.sql("select unnest(['read_text', 'from enable_logging()']) as x").df()["x"].tolist()[0] == "read_text"


@pytest.mark.parametrize(("asked", "near"), [("actual", "actuals"), ("Forecast", "forecasts"), ("zzzzqqq", None)])
def test_an_unknown_table_is_told_the_views(store: Store, asked: str, near: str | None) -> None:
    with pytest.raises(QueryInvalid) as caught:
        store.sql(f"select * from {asked}")
    assert caught.value.message == f"there is no view {asked!r}"
    assert (f"did you mean {near!r}?" in caught.value.hint) == (near is not None)
    assert all(name in caught.value.hint for name in VIEWS)
    assert "pg_" not in caught.value.hint


def test_a_python_variable_is_not_a_table(store: Store) -> None:
    secret = pa.table({"x": [1]})
    with pytest.raises(QueryInvalid):
        store.sql("select * from secret")
    assert store.sql("select x from secret", tables={"secret": secret}).rows() == [{"x": 1}]


def test_a_given_table_may_take_the_name_of_a_view(store: Store) -> None:
    assert store.sql("select x from actuals", tables={"actuals": pa.table({"x": [1]})}).rows() == [{"x": 1}]


def test_parameters_are_bound(store: Store) -> None:
    insert(store, "actuals", [reading("it's", 0, 1.0), reading("b", 0, 2.0)])
    assert store.sql("select y from actuals where asset_id = ?", ["it's"]).rows() == [{"y": 1.0}]
    assert store.sql("select y from actuals where asset_id = $a", {"a": "b"}).df()["y"].tolist() == [2.0]


def test_show_and_describe_know_the_views(store: Store) -> None:
    names = {row["name"] for row in store.sql("show tables").rows()}
    assert names >= VIEWS.keys()
    described = [row["column_name"] for row in store.sql("describe actuals").rows()]
    assert described == COLUMNS["actuals"].split()
    assert store.sql("explain select * from actuals").rows()


@pytest.mark.parametrize("flushed", [False, True])
def test_table_selects_by_asset_time_column_and_value(store: Store, flushed: bool) -> None:
    insert(store, "actuals", readings(12, 1_000))
    insert(store, "actuals", readings(2, 48, first=100))
    if flushed:
        store.flush()
    everything = store.table("actuals_all")
    assert everything.num_rows == 12_096
    since, until = START + HOUR * 10, START + HOUR * 20
    few = ["asset-00003", "asset-00100", "asset-99999"]
    found = store.table("actuals_all", assets=few, since=since, until=until, columns=["valid_time", "asset_id"])
    assert found.num_rows == 20
    assert found.column_names == ["valid_time", "asset_id"]
    assert found.column("valid_time").to_pylist()[:10] == [since + HOUR * i for i in range(10)]
    many = [f"asset-{i:05d}" for i in range(1, 200)]
    assert store.table("actuals", assets=many, until=since).num_rows == 13 * 10
    assert store.table("actuals", assets=[]).num_rows == 0
    keys = [tuple(row.values()) for row in store.table("actuals", columns=["asset_id", "valid_time"]).to_pylist()]
    assert keys == sorted(keys)
    insert(store, "runs", [{"run_id": str(i), "kind": "ab"[i % 2], "data_version": i} for i in range(6)])
    assert store.table("runs", where={"kind": "a", "data_version": ["0", "1", "2"]}).num_rows == 2


def test_table_refuses_what_it_does_not_know(store: Store) -> None:
    with pytest.raises(NotFound):
        store.table("nothing")
    with pytest.raises(SchemaMismatch):
        store.table("actuals", columns=["x"])
    with pytest.raises(SchemaMismatch):
        store.table("series", since=START)
    with pytest.raises(SchemaMismatch):
        store.table("job_runs", assets=["a"])
    with pytest.raises(SchemaMismatch):
        store.table("actuals", since=datetime(2024, 1, 1))  # noqa: DTZ001


def test_time_bounds_do_not_bring_replaced_rows_back(store: Store) -> None:
    insert(store, "runs", [{"run_id": "1", "asset_id": "a", "started_at": START, "status": "running"}])
    replace(store, "runs", [{"run_id": "1", "asset_id": "a", "started_at": START + HOUR, "status": "ok"}])
    store.flush()
    assert store.table("runs", until=START + HOUR).num_rows == 0
    assert store.table("runs", since=START + HOUR, columns=["status"]).to_pylist() == [{"status": "ok"}]


def test_a_count_over_files_and_hot_rows_reads_no_column_of_the_files(store: Store) -> None:
    insert(store, "actuals", readings(2, 10))
    store.flush()
    insert(store, "actuals", readings(2, 10, first=5))
    (row,) = store.sql("explain (analyze, format json) select count(*) as n from actuals_all").rows()
    scans = [node["extra_info"] for node in nodes(json.loads(row["explain_value"])) if node.get("type") == "TABLE_SCAN"]
    (files,) = (scan for scan in scans if scan.get("Function") == "READ_PARQUET")
    assert not files.get("Projections")
    assert store.sql("select count(*) as n from actuals_all").rows() == [{"n": 40}]


def test_runs_come_as_pandas_newest_first(store: Store) -> None:
    insert(
        store, "runs", [{"run_id": f"r{i}", "recipe": "ab"[i % 2], "started_at": START + HOUR * i} for i in range(4)]
    )
    assert store.runs().run_id.tolist() == ["r3", "r2", "r1", "r0"]
    assert store.runs(where="recipe = 'a' -- only these", limit=1).run_id.tolist() == ["r2"]
    with pytest.raises(QueryInvalid):
        store.runs(where="1 = 1) ; drop table runs; select (1")


def test_results_come_in_three_forms(store: Store) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    result = store.sql("select asset_id, valid_time, y from actuals")
    assert result.rows() == [{"asset_id": "a", "valid_time": START, "y": 1.0}]
    assert result.arrow().num_rows == len(result) == 1
    assert result.df().valid_time.iloc[0].to_pydatetime() == START
    assert "1 rows" in repr(result)


def test_tables_declare_an_arrow_schema() -> None:
    schema = TABLES["actuals"].arrow
    assert schema.names == COLUMNS["actuals"].split()
    assert schema.field("valid_time").type == pa.timestamp("us", "UTC")
    assert not schema.field("asset_id").nullable


def test_a_users_files_are_read_relative_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "it's here").mkdir()
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "it's here" / "a.parquet")
    reader = query_source(
        "select x, timestamptz '2024-01-01 00:00+02' as t from 'a.parquet'", folder=tmp_path / "it's here"
    )
    table = reader.read_all()
    assert table.column("x").to_pylist() == [1, 2]
    assert str(table.schema.field("t").type) == "timestamp[us, tz=UTC]"
    (tmp_path / "bad.csv").write_text("a\n" + "1\n" * 100_000 + "x\n")
    late = query_source("select * from read_csv('bad.csv', columns = {'a': 'INTEGER'})", folder=tmp_path)
    with pytest.raises(SourceUnreadable, match="100002"):
        late.read_all()
    for bad in ("select * from 'missing.parquet'", "selec", "select y from 'a.parquet'"):
        with pytest.raises(SourceUnreadable) as caught:
            query_source(bad, folder=tmp_path / "it's here").read_all()
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_users_file_is_looked_at_anew_by_every_question(tmp_path: Path, name: str) -> None:
    """Also when it was written over in place with as many bytes and the same time."""
    found = []
    for value in (1, 2):
        table = pa.table({"x": [value]})
        if name.endswith("csv"):
            (tmp_path / name).write_text(f"x\n{value}\n")
        else:
            pq.write_table(table, tmp_path / name)
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
        found += query_source(f"select x from '{name}'", folder=tmp_path).read_all()["x"].to_pylist()
    assert found == [1, 2]


def test_what_a_question_sets_is_gone_with_it(tmp_path: Path) -> None:
    asked = "select getvariable('x') as x, current_setting('TimeZone') as zone"
    first = query_source(f"set variable x = 3; set global TimeZone = 'Asia/Tokyo'; {asked}", folder=tmp_path)
    assert first.read_all().to_pylist() == [{"x": 3, "zone": "Asia/Tokyo"}]
    assert query_source(asked, folder=tmp_path).read_all().to_pylist() == [{"x": None, "zone": "UTC"}]
    query_source("create table kept as select 1 as x", folder=tmp_path)
    with pytest.raises(SourceUnreadable):
        query_source("select * from kept", folder=tmp_path)
