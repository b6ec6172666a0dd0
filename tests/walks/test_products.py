"""Products all the way: each has its own issues, candidates, champion, forecasts and scores, on one asset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.errors import ConfigInvalid, NothingSelected
from store.clock import FixedClock
from tests.walks.paris import LATER, TZ, clock_readings, half_past_eleven
from tests.walks.small import fleet_in, hourly

# -- what a model is shown -----------------------------------------------------------------------------------------

SPY = '''
"""Writes down what it is shown, and forecasts how many steps lie between what it knows and the target."""
import json
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Spy:
    log: str

    def fit(self, y, X, task):
        self.note("fit", y, X, task)
        return self

    def load(self, blob):
        return self

    def save(self):
        return b"nothing"

    def predict(self, y, X, task):
        self.note("predict", y, X, task)
        return task.frame(np.zeros(task.horizon))

    def note(self, act, y, X, task):
        seen = {"act": act, "last": y.index[-1].isoformat(), "first": task.target[0].isoformat(), "n": task.horizon}
        seen["newest"] = float(np.nanmax(X["temp"])) if X is not None else None
        seen["ahead"] = int(np.isfinite(X["temp"][task.target]).sum()) if X is not None else None
        seen["weather"] = [[at.isoformat(), value] for at, value in X["temp"].items()] if X is not None else None
        with open(self.log, "a") as log:
            log.write(json.dumps(seen) + "\\n")
'''


def vintages() -> pd.DataFrame:
    """A weather forecast every six hours for the next three days; its value is when it was issued, in hours of 1970."""
    frames = []
    for issued in pd.date_range("2024-03-08", "2024-04-06", freq="6h", tz="UTC", unit="us"):
        stamps = pd.date_range(issued, periods=72, freq="h", unit="us")
        frames.append(pd.DataFrame({"ds": stamps, "issued": issued, "temp": issued.timestamp() / 3600}))
    return pd.concat(frames, ignore_index=True)


def shown(folder: Path, delay: str, clock: datetime = LATER) -> pd.DataFrame:
    """What a spy saw in backtest, training and forecast of a day-ahead product of hours; data end with 2024-03-31."""
    log = folder / "seen.jsonl"
    folder.mkdir()
    frame = clock_readings("2024-03-31").query("unique_id == 'hours'")
    frame.to_parquet(folder / "readings.parquet")
    vintages().to_parquet(folder / "weather.parquet")
    text = f"""
[fleet]
timezone = "Europe/Paris"
[data]
path = "readings.parquet"
delay = "{delay}"
[[covariates]]
path = "weather.parquet"
columns = ["temp"]
known = "future"
available_at = "issued"
[products.day_ahead]
issue = "11:30"
target = "tomorrow"
[recipes.spy]
adapter = "MODELS:Spy"
log = "{log}"
[train]
workers = 1
[backtest]
origins = 5
refit = true
"""
    with fleet_in(folder, text, SPY, clock) as fleet:
        fleet.ingest()
        reports = [fleet.backtest(), fleet.train(promote=True), fleet.forecast()]
        assert all(report.clean for report in reports), [report.failures for report in reports]
        seen = pd.DataFrame([json.loads(line) for line in log.read_text().splitlines()])
    for column in ("last", "first"):
        seen[column] = pd.to_datetime(seen[column], utc=True)
    return seen


@pytest.mark.parametrize(("delay", "gap"), [("0s", 0), ("6h", 6), ("48h", 48)])
def test_nothing_after_the_issue_is_seen_and_the_gap_is_the_same_at_fit_and_predict(
    tmp_path: Path, delay: str, gap: int
) -> None:
    """At 11:30 the hour that began at 10:00 is the last one over; with a delay the one that many hours before."""
    seen = shown(tmp_path / "fleet", delay)
    last, first = seen["last"].dt.tz_convert(TZ), seen["first"].dt.tz_convert(TZ)
    assert set(first.dt.hour) == {0}
    issues = [half_past_eleven(day - pd.DateOffset(days=1)) for day in first]
    known = [(at - pd.Timedelta(hours=gap)).floor("h") - pd.Timedelta("1h") for at in issues]
    # The last issue is that of the day after the data; what lies between is not there yet.
    end = pd.Timestamp("2024-04-01", tz=TZ).tz_convert("UTC") - pd.Timedelta("1h")
    assert [at.tz_convert("UTC") for at in last] == [min(at, end) for at in known]
    # Of the weather the vintage of 06:00 in UTC is the newest at half past nine or ten, and it covers the target.
    newest = [at.floor("6h").timestamp() / 3600 for at in issues]
    assert seen["newest"].tolist() == newest
    assert seen["ahead"].tolist() == seen["n"].tolist()
    fits = seen[seen["act"] == "fit"]
    assert len(fits) == 6
    assert sorted(set(seen["n"])) == [23, 24]
    hours = (first - last).dt.total_seconds() / 3600
    usual = 14.0 + gap
    assert set(hours[seen["act"] == "fit"]) <= {usual, usual - 1, usual + 1}


def test_each_day_of_the_past_is_shown_the_weather_of_its_own_issue(tmp_path: Path) -> None:
    """What was known at half past eleven of the day before, across the change of the clock and in the gap too."""
    seen = shown(tmp_path / "fleet", "48h")
    begin = vintages()["issued"].min()
    for weather in seen["weather"]:
        days = [(pd.Timestamp(at).tz_convert(TZ).normalize(), value) for at, value in weather]
        told = [(half_past_eleven(day - pd.DateOffset(days=1)), value) for day, value in days]
        told = [(own, value) for own, value in told if own >= begin]
        assert len(told) > 24 * 7
        assert [value for _, value in told] == [own.floor("6h").timestamp() / 3600 for own, _ in told]


def test_the_model_is_trained_as_of_the_last_issue(tmp_path: Path) -> None:
    seen = shown(tmp_path / "fleet", "0s")
    fit = seen[seen["act"] == "fit"].iloc[-1]
    assert fit["first"] == pd.Timestamp("2024-04-01", tz=TZ)
    assert fit["last"] == pd.Timestamp("2024-03-31 10:00", tz=TZ)


def test_a_champion_is_stale_by_the_last_issue_and_not_by_readings_that_no_issue_has_seen(tmp_path: Path) -> None:
    """Issued on Mondays alone, the newest fit that there can be is up to a week behind the readings."""
    mondays = DUE.replace('target = "tomorrow"', 'target = "tomorrow"\nweekdays = ["mon"]').replace("horizon = 3\n", "")
    stale_after = mondays.replace("workers = 1", 'workers = 1\nstale_after = "5d"')
    with fleet_in(tmp_path / "fleet", stale_after, at=LATER) as fleet:
        readings = clock_readings("2024-06-17", days=80).query("unique_id == 'hours'")
        fleet.ingest(readings[readings["ds"] < pd.Timestamp("2024-06-16T12:00Z")])
        fleet.train(promote=True)
        assert fleet.status()["stale"] == 0
        fleet.ingest(readings)
        assert fleet.status()["stale"] == 1


# -- which issue is due --------------------------------------------------------------------------------------------


def issues(fleet: Fleet) -> list[str]:
    """Of the day-ahead product, newest last."""
    asked = "select distinct issue_time as at from published where product = 'day_ahead' order by 1"
    return [f"{row['at']:%m-%dT%H:%M}" for row in fleet.store.sql(asked).rows()]


DUE = """
[fleet]
timezone = "Europe/Paris"
horizon = 3

[products.day_ahead]
issue = "11:30"
target = "tomorrow"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[train]
workers = 1
fallback = ["day"]
"""


def test_an_issue_is_due_when_its_time_has_come_and_stays_due_until_it_is_made(tmp_path: Path) -> None:
    """The readings reach 10:00 on June 10 in Paris; the wall clock goes on."""
    with fleet_in(tmp_path / "fleet", DUE, at=datetime(2024, 6, 10, 8, 5, tzinfo=UTC)) as fleet:
        assert isinstance(fleet.clock, FixedClock)
        readings = clock_readings("2024-06-12").query("unique_id == 'hours'")
        fleet.ingest(readings[readings["ds"] < pd.Timestamp("2024-06-10T08:00Z")])
        fleet.forecast(product="day_ahead")
        assert issues(fleet) == ["06-09T09:30"]
        fleet.clock.set(datetime(2024, 6, 10, 9, 31, tzinfo=UTC))
        fleet.forecast(product="day_ahead")
        assert issues(fleet) == ["06-09T09:30", "06-10T09:30"]
        fleet.clock.set(datetime(2024, 6, 10, 20, 0, tzinfo=UTC))
        assert fleet.forecast(product="day_ahead").skipped == 3 - 2


def test_a_named_time_means_the_last_issue_by_then(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", DUE, at=LATER) as fleet:
        fleet.ingest(clock_readings("2024-06-12").query("unique_id == 'hours'"))
        fleet.forecast(issue_time=datetime(2024, 6, 11, 9, 29, tzinfo=UTC))
        fleet.forecast(issue_time=datetime(2024, 6, 11, 9, 30, tzinfo=UTC))
        fleet.forecast(issue_time=datetime(2024, 6, 11, 15, 0, tzinfo=UTC))
        assert issues(fleet) == ["06-10T09:30", "06-11T09:30"]
        rolling = "select distinct issue_time as at from published where product = 'default' order by 1"
        assert [f"{row['at']:%H:%M}" for row in fleet.store.sql(rolling).rows()] == ["09:29", "09:30", "15:00"]


def test_what_is_known_of_a_time_is_told_for_each_product(tmp_path: Path) -> None:
    """`forecast_as_of` holds the newest of each product; two products never hide each other."""
    with fleet_in(tmp_path / "fleet", DUE, at=LATER) as fleet:
        fleet.ingest(clock_readings("2024-06-12").query("unique_id == 'hours'"))
        for hour in (10, 11):
            fleet.forecast(issue_time=datetime(2024, 6, 11, hour, 0, tzinfo=UTC))
        fleet.forecast(issue_time=datetime(2024, 6, 10, 10, 0, tzinfo=UTC), product="day_ahead")
        asked = (
            "select product, max(issue_time) as issue, count(*) as n from forecast_as_of('2024-06-11T12:00Z') "
            "where valid_time >= '2024-06-11T11:00Z' and valid_time < '2024-06-11T13:00Z' group by 1 order by 1"
        )
        found = [(row["product"], f"{row['issue']:%dT%H:%M}", row["n"]) for row in fleet.store.sql(asked).rows()]
        assert found == [("day_ahead", "10T09:30", 2), ("default", "11T11:00", 2)]


# -- every product decides for itself ------------------------------------------------------------------------------

APART = """
[fleet]
horizon = 1
seasons = [24]

[products.day_ahead]
issue = "18:00"
target = "tomorrow"
min_points = 24

[recipes.last]
adapter = "naive"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[train]
workers = 1
fallback = ["day"]

[backtest]
origins = 5

[promotion]
min_points = 5
margin = 0.0
"""


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Fleet]:
    """A daily rhythm whose level rises at noon: the last reading is best for an hour, another day's for tomorrow."""
    times = pd.date_range("2024-03-01", periods=24 * 20, freq="h", tz="UTC", unit="us")
    steps = np.arange(len(times))
    y = 50 + 40 * np.sin(steps * 2 * np.pi / 24) + (steps + 12) // 24 * 15.0
    with fleet_in(tmp_path / "fleet", APART, at=LATER) as fleet:
        fleet.ingest(pd.DataFrame({"unique_id": "a", "ds": times, "y": y}))
        fleet.train(promote=True)
        yield fleet


def champions(fleet: Fleet) -> dict[str, str]:
    return {row["product"]: row["recipe"] for row in fleet.store.sql("select product, recipe from champions").rows()}


def test_two_products_of_an_asset_have_different_champions(apart: Fleet) -> None:
    assert champions(apart) == {"default": "last", "day_ahead": "day"}
    decided = apart.store.sql("select product, challenger, n, verdict from decisions order by product").rows()
    assert [(row["product"], row["n"]) for row in decided] == [("day_ahead", 120), ("default", 5)]
    boards = {name: apart.leaderboard(product=name).rows() for name in ("default", "day_ahead")}
    assert {name: (board[0]["recipe"], board[0]["n"]) for name, board in boards.items()} == {
        "default": ("last", 5),
        "day_ahead": ("day", 120),
    }
    assert apart.leaderboard().rows() == boards["default"]
    assert apart.worst(product="day_ahead")[0]["recipe"] == "day"
    assert apart["a"].champion == "last"
    assert apart["a"].of("day_ahead").champion == "day"
    figures = [plots.errors(metric="mae").to_json() for plots in (apart.plots, apart.plots.of("day_ahead"))]
    assert figures[0] != figures[1]


def test_leads_count_from_the_issue_also_where_the_target_begins_later(apart: Fleet) -> None:
    """Issued at 18:00 for the whole of tomorrow: 6 hours ahead at least, 29 at most."""
    rows = apart.leaderboard(product="day_ahead", by="lead").rows()
    assert {(row["lead"], row["n"]) for row in rows if row["recipe"] == "day"} == {("6-24h", 90), ("1-2d", 30)}


def test_a_promotion_by_hand_is_of_one_product_and_says_which(apart: Fleet) -> None:
    apart.train(recipes=["last", "day"], judge=False)
    with pytest.raises(ConfigInvalid, match="several products: default, day_ahead"):
        apart.promote("day")
    apart.promote("day", product="default", reason="known better")
    assert champions(apart) == {"default": "day", "day_ahead": "day"}
    with pytest.raises(ConfigInvalid, match="several products"):
        apart.rollback()
    apart.rollback(product="default")
    assert champions(apart) == {"default": "last", "day_ahead": "day"}


def test_a_version_is_rolled_back_to_for_its_own_product(apart: Fleet) -> None:
    asked = "select version_id as id from champions where product = 'default'"
    first = apart.store.sql(asked).rows()[0]["id"]
    apart.train(recipes=["day"], judge=False)
    apart.promote("day", product="default")
    assert apart.rollback(to=first).ok == 1
    assert champions(apart) == {"default": "last", "day_ahead": "day"}


def test_a_verb_of_one_product_leaves_the_others_alone(apart: Fleet) -> None:
    report = apart.forecast(product="day_ahead")
    assert (report.products, report.ok) == (("day_ahead",), 1)
    assert {row["product"] for row in apart.store.sql("select distinct product from published").rows()} == {"day_ahead"}
    outcomes = apart.store.sql("select distinct job, product from outcomes where job = 'py:forecast'").rows()
    assert [row["product"] for row in outcomes] == ["day_ahead"]
    with pytest.raises(ConfigInvalid, match='did you mean "day_ahead"'):
        apart.forecast(product="dayahead")


def test_a_score_is_kept_for_each_product(apart: Fleet) -> None:
    apart.forecast()
    times = pd.date_range("2024-03-21", periods=48, freq="h", tz="UTC", unit="us")
    apart.ingest(pd.DataFrame({"unique_id": "a", "ds": times, "y": 1.0}))
    assert apart.score().products == ("default", "day_ahead")
    rows = apart.store.sql(
        "select product, sum(n) as n from scores where role = 'champion' group by 1 order by 1"
    ).rows()
    assert [(row["product"], row["n"]) for row in rows] == [("day_ahead", 24), ("default", 1)]


def test_a_failure_of_one_product_is_due_again_for_that_product_alone(tmp_path: Path) -> None:
    model = """
class Mine:
    def fit(self, y, X, task):
        if task.horizon == 24:
            raise ValueError("no whole days")
        return self

    def predict(self, y, X, task):
        return task.frame(y.to_numpy()[-1:].repeat(task.horizon))

    def save(self):
        return b"mine"

    def load(self, blob):
        return self
"""
    text = APART.replace('[recipes.last]\nadapter = "naive"', '[recipes.last]\nadapter = "MODELS:Mine"')
    with fleet_in(tmp_path / "fleet", text, model, LATER) as fleet:
        fleet.ingest(hourly(["a"], 20))
        report = fleet.backtest()
        assert [(failure.recipe, failure.count) for failure in report.failures] == [("last", 1)]
        assert isinstance(fleet.clock, FixedClock)
        fleet.clock.advance(hours=1)
        again = fleet.backtest(failed=True)
        assert (again.products, again.failed) == (("day_ahead",), 1)
        found = fleet.status()["products"]
        assert [(one["product"], one["assets"]) for one in found] == [("default", 1), ("day_ahead", 1)]


# -- who has which product -----------------------------------------------------------------------------------------


def test_an_asset_has_the_products_that_suit_its_step_and_its_overrides(tmp_path: Path) -> None:
    text = """
[fleet]
freq = "1h"
[products.day_ahead]
issue = "11:30"
target = "tomorrow"
[products.long]
horizon = "60d"
[recipes.day]
adapter = "naive"
[train]
workers = 1
[backtest]
origins = 3
stride = "24h"
[overrides."asset=weeks".fleet]
freq = "1W"
[overrides."asset=months".fleet]
freq = "1MS"
[overrides."asset=b".fleet]
products = ["long"]
[overrides."asset=c".products.day_ahead]
issue = "10:00"
"""
    frames = [hourly(["a", "b", "c"], 200)]
    for name, freq in (("weeks", "W-MON"), ("months", "MS")):
        times = pd.date_range("2019-01-01", "2024-09-01", freq=freq, tz="UTC", unit="us")
        frames.append(pd.DataFrame({"unique_id": name, "ds": times, "y": np.arange(len(times)) * 1.0}))
    with fleet_in(tmp_path / "fleet", text, at=LATER) as fleet:
        fleet.ingest(pd.concat(frames, ignore_index=True))
        report = fleet.train(promote=True)
        assert report.clean, report.failures
        rows = fleet.store.sql("select asset_id, product from champions order by all").rows()
        assert [(row["asset_id"], row["product"]) for row in rows] == [
            ("a", "day_ahead"), ("a", "long"), ("b", "long"), ("c", "day_ahead"), ("c", "long"),
            ("months", "long"), ("weeks", "long"),
        ]  # fmt: skip
        sizes = "select asset_id, product, count(*) // count(distinct issue_time) as n from forecasts group by all"
        found = {(row["asset_id"], row["product"]): row["n"] for row in fleet.store.sql(sizes).rows()}
        assert found["weeks", "long"] == 9
        assert found["months", "long"] == 2
        assert found["a", "long"] == 1440
        clocks = (
            "select distinct asset_id, strftime(issue_time, '%H:%M') as at from forecasts where product = 'day_ahead'"
        )
        assert {(row["asset_id"], row["at"]) for row in fleet.store.sql(clocks).rows()} == {
            ("a", "11:30"),
            ("c", "10:00"),
        }
        with pytest.raises(NothingSelected, match="day_ahead: issued for none"):
            fleet.train(product="day_ahead", select=["b"])


def test_a_file_without_products_has_the_one_it_always_had(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", "[recipes.day]\nadapter = 'naive'\n[train]\nworkers = 1\n", at=LATER) as fleet:
        fleet.ingest(hourly(["a"], 20))
        report = fleet.train(promote=True)
        assert fleet.config.product_names == report.products == ("default",)
        assert champions(fleet) == {"default": "day"}
