"""Laws of the ingest: all or nothing, nothing twice, nothing in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fleet.config import parse
from fleet.errors import ConfigInvalid, SeriesInvalid
from fleet.ingest import IngestReport, ingest
from fleet.ingest.stamps import localized, off_grid
from fleet.outcome import Progress
from fleet.population import load, population
from store import FixedClock, Store
from store.clock import EPOCH, to_micros
from store.errors import SourceUnreadable

NOW = FixedClock(datetime(2025, 1, 1, tzinfo=UTC))
Frame = pd.DataFrame


class Fleet:
    """A folder with a store; `ingest` takes the text of a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder / "fleet.store", clock=NOW)

    def ingest(self, text: str = "[data]\npath = 'data.parquet'", source: object = None, **more: Any) -> IngestReport:
        config = parse(text, self.folder / "fleet.toml", check_recipes=False)
        return ingest(self.store, config, clock=NOW, source=source, **more)

    def refused(self, *args: Any, **kwargs: Any) -> str:
        """The one line of a refusal; the store is as before."""
        before = self.store.head()
        with pytest.raises((SeriesInvalid, SourceUnreadable, ConfigInvalid)) as caught:
            self.ingest(*args, **kwargs)
        assert "\n" not in caught.value.message
        assert self.store.head() == before
        return caught.value.message

    def rows(self, query: str) -> list[dict[str, Any]]:
        return self.store.sql(query).rows()

    def actuals(self, asset: str = "a") -> Frame:
        return self.store.table("actuals", assets=[asset]).to_pandas().set_index("valid_time")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.store.close()


def hourly(*assets: str, steps: int = 48, start: str = "2024-06-01", freq: str = "h") -> Frame:
    times = pd.date_range(start, periods=steps, freq=freq, tz="UTC")
    parts = [
        Frame({"unique_id": a, "ds": times, "y": np.arange(steps) + 100.0 * n + 1}) for n, a in enumerate(assets or "a")
    ]
    return pd.concat(parts, ignore_index=True)


def checks(report: IngestReport) -> Mapping[str, int]:
    return {str(row["check"]): int(str(row["rows"])) for row in report.summary()}


# -- all of it, once -------------------------------------------------------------------------------------------------


def test_actuals_come_with_the_time_they_were_known(fleet: Fleet) -> None:
    report = fleet.ingest(source=hourly("b", "a"))
    assert (report.assets, report.new_assets, report.rows, report.missing) == (2, 2, 96, 0)
    assert dict(report.written) == {"assets": 2, "actuals": 96}
    assert report.first == datetime(2024, 6, 1, tzinfo=UTC)
    stored = fleet.actuals("b")
    assert list(stored.y) == list(np.arange(48) + 1.0)
    assert ((stored.available_at - stored.index) == pd.Timedelta("1h")).all()
    assert fleet.rows("select asset_id, state, meta from assets order by 1")[0] == {
        "asset_id": "a", "state": "active", "meta": "{}",
    }  # fmt: skip


def test_a_second_run_writes_nothing_and_makes_no_snapshot(fleet: Fleet) -> None:
    frame = hourly("a", "b")
    frame.loc[3, "y"] = np.nan
    first, again = fleet.ingest(source=frame), fleet.ingest(source=frame)
    assert first.snapshot == 1
    assert (again.snapshot, dict(again.written), again.new_assets) == (None, {}, 0)
    assert fleet.store.head() == 1


def test_only_new_rows_and_revisions_are_written(fleet: Fleet) -> None:
    fleet.ingest(source=hourly("a", "b"))
    longer = hourly("a", "b", "c", steps=50)
    longer.loc[(longer.unique_id == "a") & (longer.index == 5), "y"] = 999.0
    report = fleet.ingest(source=longer)
    assert dict(report.written) == {"assets": 1, "actuals": 2 + 2 + 50 + 1}
    assert fleet.actuals("a").y.iloc[5] == 999.0
    assert len(fleet.actuals("a")) == 50
    assert fleet.rows("select count(*) as n from actuals_all")[0]["n"] == 96 + 55
    assert fleet.store.at(1).table("actuals", assets=["a"]).num_rows == 48


def test_nothing_is_stored_when_one_source_of_several_is_refused(fleet: Fleet) -> None:
    hourly("a").to_parquet(fleet.folder / "data.parquet")
    (fleet.folder / "assets.csv").write_text("asset_id,region\na,north\n")
    text = (
        "[assets]\npath = 'assets.csv'\n[data]\npath = 'data.parquet'\n[[covariates]]\npath = 'w.csv'\ncolumns = 'temp'"
    )
    (fleet.folder / "w.csv").write_text("ds,temp\n2024-06-01T00:00Z,1\n2024-06-01T01:00Z,warm\n")
    assert "1 with a value that is no number; the first is w at 2024-06-01T01:00:00Z, value warm" in fleet.refused(text)
    assert fleet.rows("select count(*) as n from assets")[0]["n"] == 0
    (fleet.folder / "w.csv").write_text("ds,temp\n2024-06-01T00:00Z,1\n2024-06-01T01:00Z,NA\n")
    assert dict(fleet.ingest(text).written) == {"assets": 1, "actuals": 48, "covariates": 2, "series": 1, "links": 1}
    assert dict(fleet.ingest(text).written) == {}


@pytest.mark.parametrize("shuffled", [False, True])
def test_files_in_any_order_give_the_same_store(fleet: Fleet, shuffled: bool) -> None:
    frame = hourly("b", "a", "c", steps=500)
    frame = frame.sample(frac=1, random_state=0) if shuffled else frame.sort_values(["unique_id", "ds"])
    half = len(frame) // 2
    frame[:half].to_parquet(fleet.folder / "1.parquet")
    frame[half:].to_parquet(fleet.folder / "2.parquet")
    report = fleet.ingest("[data]\npath = '*.parquet'")
    assert (report.rows, report.written["actuals"]) == (1500, 1500)
    assert list(fleet.actuals("b").y) == list(np.arange(500) + 1.0)


def test_batches_are_cut_between_assets(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.ingest import readings

    monkeypatch.setattr(readings.batches, "__kwdefaults__", {"rows": 100})
    seen: list[Progress] = []
    frame = pd.concat([hourly(f"a{n:03}", steps=37 + n) for n in range(60)])
    report = fleet.ingest(source=frame, on_progress=seen.append)
    assert report.written["actuals"] == len(frame)
    assert (seen[-1].done, seen[-1].total) == (len(frame), len(frame))
    counts = fleet.rows("select asset_id, count(*) as n from actuals group by 1 order by 1")
    assert [row["n"] for row in counts] == [37 + n for n in range(60)]


def test_two_ingests_take_turns(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.ingest import verb
    from store.errors import StoreBusy
    from store.lock import WriterLock

    monkeypatch.setattr(verb, "WAIT_S", 0.0)
    other = WriterLock(fleet.store.path / "ingest.lock")
    with other.held(), pytest.raises(StoreBusy):
        fleet.ingest(source=hourly("a"))
    other.close()
    assert fleet.ingest(source=hourly("a")).rows == 48


# -- ids -------------------------------------------------------------------------------------------------------------


def test_odd_ids_are_accepted_and_kept_distinct(fleet: Fleet) -> None:
    odd = ["plant", "Plant", "../plant", "plant'", 'pl"ant', "🌊 wind", "a b", "007", "7", "é", "%s", ".", "NULL"]
    frame = hourly(*odd, steps=2)
    assert fleet.ingest(source=frame).assets == len(odd)
    for number, asset in enumerate(odd):
        assert list(fleet.actuals(asset).y) == [100.0 * number + 1, 100.0 * number + 2]


def test_ids_that_are_one_after_unicode_normalisation_are_one_asset(fleet: Fleet) -> None:
    frame = pd.concat([hourly("e\u0301", steps=2), hourly("\u00e9", steps=2, start="2024-07-01")])
    assert fleet.ingest(source=frame).assets == 1
    assert len(fleet.actuals("é")) == 4


@pytest.mark.parametrize("bad", ["x" * 513, "a\nb", "a\x00b", "", None])
def test_an_id_that_cannot_be_stored_is_refused(fleet: Fleet, bad: str | None) -> None:
    frame = hourly("a", "zzz", steps=3)
    frame["unique_id"] = frame.unique_id.replace({"zzz": bad})
    assert "3 rows refused" in fleet.refused(source=frame)
    report = fleet.ingest("[data]\non_bad = 'keep_aside'", source=frame)
    assert (report.bad, report.assets) == (3, 1)


# -- bad rows --------------------------------------------------------------------------------------------------------


def test_a_refusal_names_asset_time_value_and_count(fleet: Fleet) -> None:
    frame = hourly("a", "b")
    frame.loc[[7, 60], "y"] = np.inf
    message = fleet.refused(source=frame)
    assert "2 rows refused: 2 with an infinite value" in message
    assert "the first is a at 2024-06-01T07:00:00Z, value inf" in message


def test_bad_rows_kept_aside_are_written_beside_the_store(fleet: Fleet) -> None:
    (fleet.folder / "data.csv").write_text(
        "unique_id,ds,y\na,2024-06-01T00:00Z,1\na,yesterday,2\na,,3\n,2024-06-01T01:00Z,4\n"
        "a,2024-06-01T02:00Z,much\na,2024-06-01T03:00Z,\na,2024-06-01T04:30Z,5\na,2024-06-01T05:00Z,NaN\n"
        "a,2024-06-01T06:00Z,inf\na,2024-06-01T07:00Z,7\na,2024-06-01T07:00Z,8\n"
        "a,0001-01-01T00:00Z,9\na,2024-06-01 08:00,9\n"
    )
    report = fleet.ingest("[data]\npath = 'data.csv'\non_bad = 'keep_aside'")
    assert (report.rows, report.bad, report.missing, report.written["actuals"]) == (13, 10, 2, 3)
    (path,) = report.aside
    assert path.parent.name == "fleet.store.aside"
    aside = pd.read_csv(path, keep_default_na=False)
    assert len(aside) == 10
    assert set(aside.time) >= {"yesterday", "", "2024-06-01T07:00:00Z", "2024-06-01T08:00:00", "0001-01-01T00:00:00Z"}
    assert set(aside.value) >= {"much", "inf", "7.0", "8.0"}
    assert aside.fault.nunique() == 9
    assert checks(report)["kept_aside"] == 10
    again = fleet.ingest("[data]\npath = 'data.csv'\non_bad = 'keep_aside'")
    assert (again.aside, dict(again.written)) == ((path,), {})
    assert list(path.parent.iterdir()) == [path]


def test_duplicates_are_refused_or_the_last_one_counts(fleet: Fleet) -> None:
    frame = pd.concat([hourly("a", steps=3), hourly("a", steps=2).assign(y=[50.0, 60.0])])
    assert "4 whose id and time stand more than once" in fleet.refused(source=frame)
    report = fleet.ingest("[data]\nduplicates = 'last'", source=frame)
    assert list(fleet.actuals().y) == [50.0, 60.0, 3.0]
    assert checks(report)["duplicates"] == 2
    fleet.ingest("[data]\nduplicates = 'first'", source=frame.assign(unique_id="b"))
    assert list(fleet.actuals("b").y) == [1.0, 2.0, 3.0]


def test_off_grid_stamps_are_those_that_differ_from_the_most(fleet: Fleet) -> None:
    frame = hourly("a", "b", steps=24)
    frame.loc[0, "ds"] -= pd.Timedelta("7min")
    frame.loc[frame.unique_id == "b", "ds"] += pd.Timedelta("30min")
    assert "1 off the grid of the asset's step; the first is a at 2024-05-31T23:53:00Z" in fleet.refused(source=frame)
    fleet.ingest(source=frame[1:])
    one = Frame({"unique_id": ["b"], "ds": [pd.Timestamp("2024-06-03", tz="UTC")], "y": [1.0]})
    assert "1 off the grid" in fleet.refused(source=one)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ds": [1, 2, 3]}, "column ds (time) holds int64, not times"),
        ({"y": [True, False, True]}, "column y (target) holds bool, not numbers"),
        ({"load": [1.0, 2.0, 3.0]}, 'no column target = "y"; accepted: ds, load, unique_id'),
    ],
)
def test_a_column_of_the_wrong_kind_is_one_line(fleet: Fleet, change: dict[str, Any], said: str) -> None:
    frame = hourly("a", steps=3).assign(**change)
    frame = frame.drop(columns="y") if "load" in change else frame
    assert said in fleet.refused(source=frame)


def test_nothing_to_ingest_is_one_line(fleet: Fleet) -> None:
    assert "[data] does not say where the actuals are" in fleet.refused("")
    assert "holds no row" in fleet.refused("[data]\nsql = \"select 'a' as unique_id, now() as ds, 1 as y where false\"")


# -- time ------------------------------------------------------------------------------------------------------------


def test_naive_stamps_are_refused_unless_the_source_names_a_zone(fleet: Fleet) -> None:
    frame = hourly("a", steps=24)
    frame["ds"] = frame.ds.dt.tz_localize(None)
    assert "every row with a time without a zone" in fleet.refused(source=frame)
    fleet.ingest("[data]\ntimezone = 'Asia/Tokyo'", source=frame)
    assert fleet.actuals().index[0] == pd.Timestamp("2024-05-31T15:00Z")


def test_the_repeated_hour_means_what_the_source_says(fleet: Fleet) -> None:
    # The file runs through the night of 27 October: 02:00 and 02:30 stand twice, the first time in summer time.
    utc = pd.date_range("2024-10-26T22:00Z", periods=12, freq="30min")
    frame = Frame({"unique_id": "a", "ds": utc.tz_convert("Europe/Paris").tz_localize(None), "y": np.arange(12.0)})
    text = "[fleet]\nfreq = '30min'\n[data]\ntimezone = 'Europe/Paris'\n"
    assert "4 in an hour that the clock shows twice" in fleet.refused(text, source=frame)
    report = fleet.ingest(text + "ambiguous = 'infer'", source=frame)
    assert list(fleet.actuals().index) == list(utc)
    assert list(fleet.actuals().y) == list(np.arange(12.0))
    assert checks(report)["ambiguous"] == 4
    assert "whose id and time stand more than once" in fleet.refused(text + "ambiguous = 'first'", source=frame)


def test_of_one_stamp_in_the_repeated_hour_infer_does_not_guess(fleet: Fleet) -> None:
    frame = Frame({"unique_id": "a", "ds": pd.to_datetime(["2024-10-27T01:00", "2024-10-27T02:00"]), "y": [1.0, 2.0]})
    text = "[data]\ntimezone = 'Europe/Paris'\nambiguous = '{}'"
    assert "1 in an hour that the clock shows twice" in fleet.refused(text.format("infer"), source=frame)
    fleet.ingest(text.format("second"), source=frame)
    assert fleet.actuals().index[-1] == pd.Timestamp("2024-10-27T01:00Z")


def test_a_time_that_the_clock_skipped_is_a_bad_row(fleet: Fleet) -> None:
    frame = Frame({"unique_id": "a", "ds": pd.to_datetime(["2024-03-31T01:00", "2024-03-31T02:00"]), "y": [1.0, 2.0]})
    message = fleet.refused("[data]\ntimezone = 'Europe/Paris'", source=frame)
    assert "1 at a local time that the clock skipped; the first is a at 2024-03-31T02:00:00, value 2.0" in message


@pytest.mark.parametrize(
    "tz", ["Europe/Paris", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tokyo"]
)
def test_local_times_become_the_instants_that_pandas_finds(tz: str) -> None:
    wall = pd.date_range("2022-01-01", "2025-01-01", freq="15min")
    local, series = wall.as_unit("us").asi8, np.zeros(len(wall), dtype=np.int64)
    for rule in ("first", "second"):
        expected = wall.tz_localize(tz, ambiguous=np.full(len(wall), rule == "first"), nonexistent="NaT").as_unit("us")
        found = localized(local, tz, rule, series)
        exists = ~expected.isna()
        assert (found.never == ~exists).all()
        assert (found.instants[exists] == expected.asi8[exists]).all()
        assert found.resolved.sum() == wall.tz_localize(tz, ambiguous="NaT", nonexistent="shift_forward").isna().sum()


def test_a_day_whose_midnight_was_skipped_lies_on_the_grid() -> None:
    days = pd.date_range("2024-09-05", periods=6, freq="D").tz_localize("America/Santiago", nonexistent="shift_forward")
    times = days.as_unit("us").asi8
    series, unknown = np.zeros(6, dtype=np.int64), np.array([-1])
    assert not off_grid(times, series, "1D", "America/Santiago", unknown).any()
    times[2] += 3_600_000_000
    assert off_grid(times, series, "1D", "America/Santiago", unknown).nonzero()[0].tolist() == [2]


def test_months_begin_on_the_day_that_most_of_them_begin_on() -> None:
    months = pd.date_range("2024-01-01", periods=6, freq="MS", tz="Europe/Paris").tz_convert("UTC").as_unit("us")
    series, unknown = np.zeros(6, dtype=np.int64), np.array([-1])
    assert not off_grid(months.asi8, series, "1MS", "Europe/Paris", unknown).any()
    assert off_grid(months.asi8, series, "1QS", "Europe/Paris", unknown).sum() == 4


def test_each_asset_may_have_its_own_clock_and_step(fleet: Fleet) -> None:
    (fleet.folder / "assets.csv").write_text("asset_id,timezone,freq\na,Asia/Tokyo,1h\nb,Europe/Paris,15min\n")
    naive = pd.concat([hourly("a", steps=4), hourly("b", steps=4, freq="15min")])
    naive["ds"] = naive.ds.dt.tz_localize(None)
    naive.to_parquet(fleet.folder / "data.parquet")
    fleet.ingest("[assets]\npath = 'assets.csv'\n[data]\npath = 'data.parquet'\ntimezone = 'local'")
    assert fleet.actuals("a").index[0] == pd.Timestamp("2024-05-31T15:00Z")
    b = fleet.actuals("b")
    assert b.index[0] == pd.Timestamp("2024-05-31T22:00Z")
    assert b.available_at.iloc[0] - b.index[0] == pd.Timedelta("15min")


def test_interval_ends_become_starts_and_a_delay_is_waited_for(fleet: Fleet) -> None:
    fleet.ingest("[data]\nlabel = 'end'\ndelay = '48h'", source=hourly("a", steps=2))
    stored = fleet.actuals()
    assert stored.index[0] == pd.Timestamp("2024-05-31T23:00Z")
    assert stored.available_at.iloc[0] == pd.Timestamp("2024-06-03T00:00Z")


def test_daily_values_walk_the_local_calendar(fleet: Fleet) -> None:
    days = pd.date_range("2024-10-25", periods=5, freq="D")
    text = "[fleet]\nfreq = '1D'\ntimezone = 'Europe/Paris'\n[data]\ntimezone = 'Europe/Paris'\n"
    fleet.ingest(text, source=Frame({"unique_id": "a", "ds": days, "y": 1.0 + np.arange(5)}))
    stored = fleet.actuals()
    assert list(stored.index.tz_convert("Europe/Paris").hour) == [0] * 5
    assert list(stored.available_at)[:-1] == list(stored.index)[1:]


def test_dates_and_formats_of_text_are_read_as_the_source_says(fleet: Fleet) -> None:
    (fleet.folder / "d.csv").write_text("unique_id,ds,y\na,01/02/2024 00:15,1\na,01/02/2024 00:30,2\n")
    text = "[fleet]\nfreq = '15min'\n[data]\npath = 'd.csv'\ntimezone = 'UTC'\n"
    assert "2 with a time that cannot be read; the first is a at 01/02/2024 00:15" in fleet.refused(text)
    fleet.ingest(text + "time_format = '%d/%m/%Y %H:%M'")
    assert fleet.actuals().index[0] == pd.Timestamp("2024-02-01T00:15Z")


def test_revisions_of_a_source_that_dates_them_are_all_kept(fleet: Fleet) -> None:
    frame = pd.concat([hourly("a", steps=2), hourly("a", steps=1).assign(y=5.0), hourly("a", steps=1).assign(y=6.0)])
    frame["known"] = pd.to_datetime(["2024-06-02", "2024-06-02", "2024-06-04", "2024-06-03"], utc=True)
    report = fleet.ingest("[data]\navailable_at = 'known'", source=frame)
    assert report.written["actuals"] == 4
    assert list(fleet.actuals().y) == [5.0, 2.0]
    assert fleet.rows("select count(*) as n from actuals_all")[0]["n"] == 4
    assert dict(fleet.ingest("[data]\navailable_at = 'known'", source=frame).written) == {}


# -- quality ---------------------------------------------------------------------------------------------------------


def test_quality_is_told_and_nothing_is_repaired(fleet: Fleet) -> None:
    n = 240
    values = {
        "all_nan": np.full(n, np.nan), "constant": np.full(n, 5.0), "zero": np.zeros(n), "negative": np.arange(n) - 3.0,
        "flat": np.r_[np.arange(100.0), np.full(60, 7.0), np.arange(80.0)], "fine": 100 + np.sin(np.arange(n)),
        "high": np.arange(n) + 500.0,
    }  # fmt: skip
    frame = pd.concat([hourly(name, steps=n).assign(y=y) for name, y in values.items()])
    frame = frame[~((frame.unique_id == "fine") & (frame.ds.dt.day == 3))]
    report = fleet.ingest("[data]\nmaximum = 400.0\ncompleteness = 0.95", source=frame)
    found = {(finding.asset_id, finding.check) for finding in report.findings}
    assert found >= {
        ("all_nan", "no_data"), ("constant", "constant"), ("zero", "zero"), ("negative", "negative"),
        ("flat", "flat_line"),
        ("fine", "gaps"), ("fine", "completeness"), ("high", "range"),
    }  # fmt: skip
    assert report.missing == n
    assert len(fleet.actuals("zero")) == n
    assert {row["check"] for row in report.summary()} == {check for _, check in found}


# -- register --------------------------------------------------------------------------------------------------------

REGISTER = "[assets]\npath = 'assets.csv'\nasset = 'Building ID'\ncapacity = 'kW'\n[data]\npath = 'data.parquet'"


def test_the_register_keeps_every_column(fleet: Fleet) -> None:
    hourly("b0", "b1", "b2", steps=2).to_parquet(fleet.folder / "data.parquet")
    (fleet.folder / "assets.csv").write_text(
        "Building ID,kW,region,timezone,floors,code,note\nb0,10.5,NO,Europe/Oslo,5,007,\nb1,,SE,,3,12,old\n"
    )
    fleet.ingest(REGISTER)
    rows = {row["asset_id"]: row for row in fleet.rows("select * from assets")}
    assert (rows["b0"]["capacity"], rows["b0"]["region"], rows["b0"]["timezone"]) == (10.5, "NO", "Europe/Oslo")
    assert rows["b0"]["meta"] == '{"code": "007", "floors": 5}'
    assert rows["b1"]["meta"] == '{"code": "12", "floors": 3, "note": "old"}'
    assert rows["b2"]["meta"] == "{}"
    assert dict(fleet.ingest(REGISTER).written) == {}
    (fleet.folder / "assets.csv").write_text("Building ID,kW,region\nb2,7,NO\n")
    assert dict(fleet.ingest(REGISTER).written) == {"assets": 1}
    assert len(fleet.rows("select * from assets")) == 3


def test_a_dated_register_says_what_held_when(fleet: Fleet) -> None:
    hourly("b0", steps=2).to_parquet(fleet.folder / "data.parquet")
    fleet.ingest()
    (fleet.folder / "assets.csv").write_text(
        "Building ID,kW,valid_from,valid_to\nb0,10,2020-01-01,2024-01-01\nb0,12,2024-01-01,\n"
    )
    fleet.ingest(REGISTER)
    assert [row["capacity"] for row in fleet.rows("select capacity from assets")] == [12.0]
    assert [row["capacity"] for row in fleet.rows("select capacity from assets_all order by valid_from")] == [
        None,
        10.0,
        12.0,
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("b0,1\nb0,2\n", "asset b0 stands twice"),
        ("b0,many\n", 'asset b0: kW = "many": expected a number'),
        (",1\n", "row 1 has no id"),
        ("a\x07,1\n", "holds a control character"),
    ],
)
def test_a_register_that_does_not_hold_is_one_line(fleet: Fleet, rows: str, said: str) -> None:
    hourly("b0", steps=2).to_parquet(fleet.folder / "data.parquet")
    (fleet.folder / "assets.csv").write_text("Building ID,kW\n" + rows)
    assert said in fleet.refused(REGISTER)


def test_facts_and_overrides_of_the_register_are_checked(fleet: Fleet) -> None:
    (fleet.folder / "assets.csv").write_text("Building ID,kW,timezone,state\nb0,1,Europe/Lodon,active\n")
    assert 'timezone = "Europe/Lodon": not a time zone, did you mean "Europe/London"?' in fleet.refused(REGISTER)
    (fleet.folder / "assets.csv").write_text("Building ID,kW,state\nb0,1,asleep\n")
    assert 'state = "asleep"; accepted: planned, active, retired' in fleet.refused(REGISTER)
    (fleet.folder / "assets.csv").write_text("Building ID,kW,floors\nb0,1,3\n")
    assert "no column florrs" in fleet.refused(REGISTER + "\n[overrides.'florrs=3'.train]\nwindow = '1d'")
    assert 'no column capacity = "MW"' in fleet.refused(REGISTER.replace("kW", "MW"))


# -- covariates ------------------------------------------------------------------------------------------------------


def weather(steps: int = 3, **more: Any) -> Frame:
    times = pd.date_range("2024-06-01", periods=steps, freq="h", tz="UTC")
    return Frame({"ds": times, "temp": np.arange(steps) + 0.5, "wind": np.arange(steps) * 2.0}).assign(**more)


def test_a_single_series_is_seen_by_every_asset_also_by_later_ones(fleet: Fleet) -> None:
    text = "[data]\npath = 'data.parquet'\n[[covariates]]\npath = 'weather.parquet'\ncolumns = ['temp', 'wind']\n"
    text += "delay = '2h'"
    hourly("a", steps=2).to_parquet(fleet.folder / "data.parquet")
    weather().to_parquet(fleet.folder / "weather.parquet")
    assert dict(fleet.ingest(text).written) == {"assets": 1, "actuals": 2, "covariates": 6, "series": 1, "links": 2}
    rows = fleet.rows(
        "select name, valid_time, available_at - valid_time = interval 3 hour as known, value from covariates"
    )
    assert len(rows) == 6
    assert all(row["known"] for row in rows)
    hourly("a", "b", steps=2).to_parquet(fleet.folder / "data.parquet")
    weather(steps=4).replace(0.5, 9.5).to_parquet(fleet.folder / "weather.parquet")
    assert dict(fleet.ingest(text).written) == {"assets": 1, "actuals": 2, "covariates": 3, "links": 2}
    (coldest,) = fleet.rows("select value from covariates where name = 'temp' order by valid_time limit 1")
    assert coldest["value"] == 9.5


def test_covariates_by_asset_and_by_station(fleet: Fleet) -> None:
    hourly("a", "b", steps=2).to_parquet(fleet.folder / "data.parquet")
    (fleet.folder / "assets.csv").write_text("asset_id,station\na,s1\nb,s2\n")
    pd.concat([weather(plant=p) for p in ("a", "b", "z")]).to_parquet(fleet.folder / "own.parquet")
    pd.concat([weather(station=s) for s in ("s1", "s2", "s3")]).to_parquet(fleet.folder / "station.parquet")
    text = (
        "[assets]\npath = 'assets.csv'\n[data]\npath = 'data.parquet'\n"
        "[[covariates]]\npath = 'own.parquet'\nasset = 'plant'\ncolumns = 'temp'\n"
        "[[covariates]]\npath = 'station.parquet'\nseries = '{}'\ncolumns = 'wind'\n"
    )
    fleet.ingest(text.format("station"))
    links = fleet.rows("select asset_id, series_id, name from links order by all")
    assert [tuple(row.values()) for row in links] == [
        ("a", "a", "temp"), ("a", "s1", "wind"), ("b", "b", "temp"), ("b", "s2", "wind"),
    ]  # fmt: skip
    assert "no column nearest" in fleet.refused(text.format("station") + "link = 'nearest'")


STATIONS = (
    "[assets]\npath = 'assets.csv'\n[data]\npath = 'data.parquet'\n"
    "[[covariates]]\npath = 'station.parquet'\nseries = 'station'\ncolumns = 'temp'\n"
)


def seen(fleet: Fleet, text: str = STATIONS) -> dict[str, dict[str, float]]:
    """Of each asset the first value of each covariate that a model would see."""
    config = parse(text, fleet.folder / "fleet.toml", check_recipes=False)
    snapshot = fleet.store.snapshot()
    members = population(snapshot, config, select=(), where=None).members
    batch = load(snapshot, config, members, folder=None, with_covariates=True)
    return {
        asset: {c.name: float(batch.covariates.slice(c.span).value[0]) for c in rows.covariates if batch.covariates}
        for asset, rows in batch.assets.items()
    }


def test_an_asset_that_moves_to_another_series_sees_that_one_only(fleet: Fleet) -> None:
    hourly("a", "b", steps=2).to_parquet(fleet.folder / "data.parquet")
    pd.concat([weather(station="s1").assign(temp=1.0), weather(station="s2").assign(temp=2.0)]).to_parquet(
        fleet.folder / "station.parquet"
    )
    for first, second in ((1, 2), (2, 2), (1, 2)):
        (fleet.folder / "assets.csv").write_text(f"asset_id,station\na,s{first}\nb,s{second}\n")
        fleet.ingest(STATIONS)
        assert seen(fleet) == {"a": {"temp": first}, "b": {"temp": second}}
        assert dict(fleet.ingest(STATIONS).written) == {}
    # A file that lacks a station for once takes no link away.
    weather(station="s1").assign(temp=1.0).to_parquet(fleet.folder / "station.parquet")
    assert dict(fleet.ingest(STATIONS).written) == {}


def test_links_of_a_source_that_is_configured_no_more_are_closed(fleet: Fleet) -> None:
    hourly("a", steps=2).to_parquet(fleet.folder / "data.parquet")
    weather().to_parquet(fleet.folder / "weather.parquet")
    plain = "[data]\npath = 'data.parquet'\n"
    text = plain + "[[covariates]]\npath = 'weather.parquet'\ncolumns = ['temp']\n"
    fleet.ingest(text)
    assert seen(fleet, text) == {"a": {"temp": 0.5}}
    assert seen(fleet, plain) == {"a": {}}
    fleet.ingest(plain, source=hourly("a", steps=3))
    assert seen(fleet, text) == {"a": {"temp": 0.5}}
    assert dict(fleet.ingest(plain).written) == {"links": 1}
    assert [row["valid_to"] for row in fleet.rows("select valid_to from links")] == [NOW.now()]
    assert seen(fleet, text) == {"a": {}}


def test_a_name_that_is_linked_twice_is_refused(fleet: Fleet) -> None:
    (fleet.folder / "assets.csv").write_text("asset_id,station\na,s1\n")
    hourly("a", steps=2).to_parquet(fleet.folder / "data.parquet")
    weather(station="s1").to_parquet(fleet.folder / "station.parquet")
    fleet.ingest(STATIONS)
    transaction = fleet.store.begin()
    transaction.insert("links", [{"asset_id": "a", "series_id": "s0", "name": "temp", "valid_from": EPOCH}])
    transaction.commit()
    with pytest.raises(ConfigInvalid, match="asset a: temp is linked to s0 and s1"):
        seen(fleet)


def test_capacities_are_told_from_when_they_hold(fleet: Fleet) -> None:
    text = "[assets]\npath = 'assets.csv'\n[data]\npath = 'data.parquet'\n"
    hourly("a", "b", "c", steps=2).to_parquet(fleet.folder / "data.parquet")
    (fleet.folder / "assets.csv").write_text(
        "asset_id,capacity,valid_from,valid_to\na,5,2020-01-01,\na,8,2021-01-01,2022-01-01\nb,3,,\n"
    )
    fleet.ingest(text)
    config = parse(text, fleet.folder / "fleet.toml", check_recipes=False)
    members = population(fleet.store.snapshot(), config, select=(), where=None).members
    at = [to_micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 2020, 2021, 2022)]
    assert [member.capacities for member in members] == [
        ((at[1], 5.0), (at[2], 8.0), (at[3], 5.0)), ((at[0], 3.0),), (),
    ]  # fmt: skip


def test_vintages_are_all_kept_and_the_newest_is_shown(fleet: Fleet) -> None:
    day = pd.Timestamp("2024-05-31", tz="UTC")
    frame = pd.concat([weather(issued=day), weather(issued=day + pd.Timedelta("12h")).assign(temp=7.0)])
    frame.to_parquet(fleet.folder / "nwp.parquet")
    hourly("a", steps=2).to_parquet(fleet.folder / "data.parquet")
    text = "[data]\npath = 'data.parquet'\n[[covariates]]\npath = 'nwp.parquet'\ncolumns = ['temp']\nknown = 'future'\n"
    report = fleet.ingest(text + "available_at = 'issued'")
    assert report.written["covariates"] == 6
    assert not report.notes
    assert {row["value"] for row in fleet.rows("select value from covariates")} == {7.0}
    assert dict(fleet.ingest(text + "available_at = 'issued'").written) == {}
    frame[:3].to_parquet(fleet.folder / "nwp.parquet")
    assert "perfect foresight" in fleet.ingest(text).notes[0]


# -- real data -------------------------------------------------------------------------------------------------------

DATA = Path(os.environ.get("TSFLEET_TEST_DATA", "/nonexistent"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="TSFLEET_TEST_DATA is not set to the folder of real data")


@real
def test_la_haute_borne_stands_twice_in_the_spring_hours(fleet: Fleet) -> None:
    text = f"[fleet]\nfreq = '10min'\n[data]\npath = '{DATA}/la_haute_borne_10min.parquet'\n"
    message = fleet.refused(text)
    assert "96 whose id and time stand more than once" in message
    assert "2014-03-30T" in message
    report = fleet.ingest(text + "duplicates = 'last'")
    found = checks(report)
    assert (report.assets, report.written["actuals"], found["duplicates"]) == (4, 420_480 - 48, 48)
    assert report.missing == pytest.approx(2_569, abs=48)
    assert found["gaps"] >= 8
    assert found["negative"] == pytest.approx(71_629, abs=48)


@real
def test_the_steel_plant_stamps_the_ends_of_local_intervals(fleet: Fleet) -> None:
    text = f"[fleet]\nfreq = '15min'\n[data]\npath = '{DATA}/steel_plant_15min.parquet'\nlabel = 'end'\n"
    assert "without a zone" in fleet.refused(text)
    report = fleet.ingest(text + "timezone = 'Asia/Seoul'")
    assert report.first == datetime(2017, 12, 31, 15, tzinfo=UTC)
    assert report.last == datetime(2018, 12, 31, 14, 45, tzinfo=UTC)
    assert "gaps" not in checks(report)


@real
def test_m4_counts_its_steps_and_is_told_what_to_do(fleet: Fleet) -> None:
    text = f"[data]\npath = '{DATA}/m4_hourly.parquet'\n"
    assert "column ds (time) holds int32, not times" in fleet.refused(text)
    stamp = "timestamptz '2020-01-01 00:00+00' + ds * interval 1 hour"
    query = f"select unique_id, {stamp} as ds, y from '{DATA}/m4_hourly.parquet'"
    assert fleet.ingest(f'[data]\nsql = """{query}"""').assets == 414


@real
def test_eia_keeps_its_missing_and_negative_readings(fleet: Fleet) -> None:
    report = fleet.ingest(f"[data]\npath = '{DATA}/eia_demand_2020_2024.parquet'\nlabel = 'end'\n")
    found = checks(report)
    assert (report.assets, report.rows, report.missing) == (119, 5_217_912, 48_436)
    assert (found["missing"], found["negative"]) == (48_436, 120)
    assert found["outliers"] > 0
    assert report.written["actuals"] == 5_217_912


@real
def test_cambridge_tells_of_readings_stored_as_zero(fleet: Fleet) -> None:
    report = fleet.ingest(f"[data]\npath = '{DATA}/cambridge_electricity_2018_2022.parquet'\n")
    assert report.assets == 110
    assert checks(report)["flat_line"] > 0
    zeros = [finding for finding in report.findings if finding.check == "flat_line" and finding.detail.endswith("at 0")]
    assert zeros
    assert fleet.rows("select count(*) as n from actuals where y = 0")[0]["n"] == 37_571
