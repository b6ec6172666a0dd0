"""Both changes of the clock, all the way: grids and local hours of a delivery and of a rolling product in Paris."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from fleet import Fleet
from tests.walks.paris import FREQS, LATER, TZ, clock_readings, half_past_eleven
from tests.walks.small import fleet_in

PARIS = ZoneInfo(TZ)
#: The last local day of the data, the day of the change, and how many hours that has.
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
