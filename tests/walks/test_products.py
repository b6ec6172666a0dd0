"""Products all the way: each has its own clock, target, candidates, champion, forecasts and scores, on one asset.

Three assets in Paris, of quarters of an hour, hours and days. A reading tells what the clock shows when it begins, so
that a forecast which repeats the same local time of another day is right, and one that is an hour off is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.errors import ConfigInvalid, NothingSelected
from store.clock import FixedClock
from tests.walks.small import fleet_in, hourly

TZ = "Europe/Paris"
PARIS = ZoneInfo(TZ)
FREQS = {"quarters": "15min", "hours": "1h", "days": "1D"}
LATER = datetime(2025, 1, 1, tzinfo=UTC)
#: The last local day of the data, the one before the day after the change, and how many hours it has.
CHANGES = {"spring": ("2024-04-02", "2024-03-31", 23), "autumn": ("2024-10-29", "2024-10-27", 25)}

CONFIG = """
[fleet]
timezone = "Europe/Paris"
quantiles = [0.1, 0.9]

[products.day_ahead]
issue = "11:30"
target = "tomorrow"

[products.intraday]
horizon = "6h"
quantiles = []
recipes = ["same_time"]

[recipes.same_time]
adapter = "seasonal_naive"

[recipes.naive]
adapter = "naive"

[recipes.mean]
adapter = "mean"

[recipes.gbm]
adapter = "lightgbm"
rounds = 5

[recipes.ridge]
adapter = "sklearn"

[recipes.holt_winters]
adapter = "statsmodels"
model = "holt_winters"
params = { use_brute = false, trend = "none" }

[recipes.theta]
adapter = "statsmodels"
model = "theta"

[recipes.autoreg]
adapter = "statsmodels"
model = "autoreg"

[train]
workers = 1

[backtest]
origins = 4

[overrides."asset=quarters".fleet]
freq = "15min"

[overrides."asset=days".fleet]
freq = "1D"
"""


def clock_readings(stop_before: str, days: int = 22) -> pd.DataFrame:
    """Readings that tell the hour and minute at which they begin, those of days the day of the week."""
    stop = pd.Timestamp(stop_before, tz=TZ) + pd.DateOffset(days=1)
    frames = []
    for name, freq in FREQS.items():
        begin = stop - pd.DateOffset(days=5 * days if freq == "1D" else days)
        if freq == "1D":
            local = pd.date_range(begin, stop, freq=freq, inclusive="left")
        else:
            local = pd.date_range(begin.tz_convert("UTC"), stop.tz_convert("UTC"), freq=freq, inclusive="left")
            local = local.tz_convert(TZ)
        y = local.day_of_week if freq == "1D" else local.hour * 100 + local.minute
        stamps = local.tz_convert("UTC").as_unit("us")
        frames.append(pd.DataFrame({"unique_id": name, "ds": stamps, "y": np.asarray(y, dtype=np.float64)}))
    return pd.concat(frames, ignore_index=True)


def half_past_eleven(day: pd.Timestamp) -> pd.Timestamp:
    """When the product of a local day is issued."""
    return pd.Timestamp(f"{day:%Y-%m-%d} 11:30", tz=TZ).tz_convert("UTC")


@pytest.fixture(scope="module", params=sorted(CHANGES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, str]]:
    with fleet_in(tmp_path_factory.mktemp("paris") / "fleet", CONFIG, at=LATER) as fleet:
        fleet.ingest(clock_readings(CHANGES[request.param][0]))
        report = fleet.train(promote=True)
        assert (report.ok, report.assets, report.products) == (5, 3, ("day_ahead", "intraday")), report.failures
        yield fleet, request.param


def judged(fleet: Fleet, product: str) -> Mapping[tuple[str, str, pd.Timestamp], pd.DataFrame]:
    """By asset, recipe and issue the rows of a backtest, in order of time."""
    asked = "select * from forecasts where role = 'backtest' and product = $product order by valid_time"
    frame = fleet.store.sql(asked, {"product": product}).df()
    return dict(iter(frame.groupby(["asset_id", "recipe", "issue_time"])))


# -- both changes of the clock -------------------------------------------------------------------------------------


def test_every_adapter_answers_on_the_grid_of_the_delivery_day(trained: tuple[Fleet, str]) -> None:
    """Four days, one of 23 or 25 hours among them; issued at 11:30 of the day before."""
    fleet, season = trained
    last, _, _ = CHANGES[season]
    found = judged(fleet, "day_ahead")
    recipes = set(fleet.config.recipes)
    assert len(recipes) == 8
    for asset, freq in FREQS.items():
        for day in pd.date_range(end=last, periods=4, freq="D"):
            begin = day.tz_localize(TZ)
            issue = half_past_eleven(begin - pd.DateOffset(days=1))
            stop = begin + pd.DateOffset(days=1)
            step = "D" if freq == "1D" else freq
            expected = pd.date_range(begin.tz_convert("UTC"), stop.tz_convert("UTC"), freq=step, inclusive="left")
            expected = expected[:1] if freq == "1D" else expected
            for recipe in recipes:
                rows = found[asset, recipe, issue]
                assert rows["valid_time"].tolist() == expected.tolist(), (asset, recipe)
                assert rows["step"].tolist() == list(range(1, len(expected) + 1))
    assert len(found) == 3 * 4 * len(recipes)


def test_the_changed_day_has_its_own_number_of_steps(trained: tuple[Fleet, str]) -> None:
    fleet, season = trained
    _, changed, hours = CHANGES[season]
    sizes = {
        asset: {len(rows) for (one, _, issue), rows in judged(fleet, "day_ahead").items() if one == asset and
                (issue.tz_convert(TZ) + pd.DateOffset(days=1)).date() == pd.Timestamp(changed).date()}
        for asset in FREQS
    }  # fmt: skip
    assert sizes == {"quarters": {4 * hours}, "hours": {hours}, "days": {1}}


def test_the_seasonal_naive_keeps_the_local_hour_over_the_change(trained: tuple[Fleet, str]) -> None:
    """What repeats an hour that the day before skipped gets the first instant after the gap, which showed 03:00."""
    fleet, season = trained
    _, changed, _ = CHANGES[season]
    skipped = 0
    for product in ("day_ahead", "intraday"):
        for (asset, recipe, _), rows in judged(fleet, product).items():
            if recipe != "same_time":
                continue
            local = [at.to_pydatetime().astimezone(PARIS) for at in rows["valid_time"]]
            shown = [float(at.weekday() if asset == "days" else at.hour * 100 + at.minute) for at in local]
            for at, expected, mean in zip(local, shown, rows["mean"], strict=True):
                after_gap = season == "spring" and at.hour == 2 and f"{at - timedelta(days=1):%Y-%m-%d}" == changed
                skipped += after_gap
                assert mean == (300.0 if after_gap and asset != "days" else expected), (asset, product, at)
    assert skipped == (5 if season == "spring" else 0)


def test_a_rolling_product_begins_where_the_data_end_and_reaches_as_far_for_every_step_it_holds(
    trained: tuple[Fleet, str],
) -> None:
    fleet, _ = trained
    sizes = {
        asset: {len(rows) for (one, _, _), rows in judged(fleet, "intraday").items() if one == asset} for asset in FREQS
    }
    assert sizes == {"quarters": {24}, "hours": {6}, "days": set()}
    for (_, _, issue), rows in judged(fleet, "intraday").items():
        assert rows["valid_time"].iloc[0] == issue
        assert "q10" not in rows or rows["q10"].isna().all()


def test_issuing_all_products_at_once_and_again_changes_nothing(trained: tuple[Fleet, str]) -> None:
    fleet, season = trained
    last = pd.Timestamp(CHANGES[season][0], tz=TZ)
    report = fleet.forecast()
    assert (report.ok, report.failed, report.fell_back) == (5, 0, 0), report.failures
    rows = fleet.store.sql(
        "select asset_id, product, issue_time, count(*) as n, min(valid_time) as first, min(step) as step "
        "from published group by all"
    ).rows()
    end = (last + pd.DateOffset(days=1)).tz_convert("UTC")
    due = half_past_eleven(last + pd.DateOffset(days=1))
    assert {(row["asset_id"], row["product"]): (row["issue_time"], row["first"], row["n"]) for row in rows} == {
        ("quarters", "day_ahead"): (due, (last + pd.DateOffset(days=2)).tz_convert("UTC"), 96),
        ("hours", "day_ahead"): (due, (last + pd.DateOffset(days=2)).tz_convert("UTC"), 24),
        ("days", "day_ahead"): (due, (last + pd.DateOffset(days=2)).tz_convert("UTC"), 1),
        ("quarters", "intraday"): (end, end, 24),
        ("hours", "intraday"): (end, end, 6),
    }
    head = fleet.store.head()
    again = fleet.forecast()
    assert (again.skipped, again.rows) == (5, {})
    assert fleet.train(promote=True).rows == {}
    assert fleet.store.head() == head


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
        self.note("fit", y, task)
        return self

    def load(self, blob):
        return self

    def save(self):
        return b"nothing"

    def predict(self, y, X, task):
        self.note("predict", y, task)
        return task.frame(np.zeros(task.horizon))

    def note(self, act, y, task):
        seen = {"act": act, "last": y.index[-1].isoformat(), "first": task.target[0].isoformat(), "n": task.horizon}
        with open(self.log, "a") as log:
            log.write(json.dumps(seen) + "\\n")
'''


def shown(folder: Path, delay: str, clock: datetime = LATER) -> pd.DataFrame:
    """What a spy saw in backtest, training and forecast of a day-ahead product of hours; data end with 2024-03-31."""
    log = folder / "seen.jsonl"
    folder.mkdir()
    frame = clock_readings("2024-03-31").query("unique_id == 'hours'")
    frame.to_parquet(folder / "readings.parquet")
    text = f"""
[fleet]
timezone = "Europe/Paris"
[data]
path = "readings.parquet"
delay = "{delay}"
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
    fits = seen[seen["act"] == "fit"]
    assert len(fits) == 6
    assert sorted(set(seen["n"])) == [23, 24]
    hours = (first - last).dt.total_seconds() / 3600
    usual = 14.0 + gap
    assert set(hours[seen["act"] == "fit"]) <= {usual, usual - 1, usual + 1}


def test_the_model_is_trained_as_of_the_last_issue(tmp_path: Path) -> None:
    seen = shown(tmp_path / "fleet", "0s")
    fit = seen[seen["act"] == "fit"].iloc[-1]
    assert fit["first"] == pd.Timestamp("2024-04-01", tz=TZ)
    assert fit["last"] == pd.Timestamp("2024-03-31 10:00", tz=TZ)


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
    apart.score()
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
