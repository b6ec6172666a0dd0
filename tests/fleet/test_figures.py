"""Figures against numbers worked out by hand: what is drawn, what is said beside it, what is left as a gap."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from fleet import Fleet, figures
from fleet.errors import AssetUnknown, ConfigInvalid, ForecastMissing, MetricUnknown
from fleet.figures import look
from fleet.figures.clock import Clock
from fleet.figures.ranking import distribution
from fleet.questions import Curve, Known, Profile, Reliability
from fleet.zones import DAY, SECOND
from tests.architecture.test_import_weight import loaded_by
from tests.fleet.small_world import ASSETS, DAYS, END, HOSTILE, MISSING, TZ, world_in
from tests.walks.small import fleet_in

HOUR = 3_600 * SECOND


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with world_in(tmp_path_factory.mktemp("even")) as made:
        yield made


@pytest.fixture(scope="module")
def gappy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with world_in(tmp_path_factory.mktemp("gappy"), gaps=True) as made:
        yield made


def trace(figure: go.Figure, name: str) -> Any:
    """The one trace of a name."""
    (found,) = [one for one in figure.data if one.name == name and one.x is not None][:1]
    return found


def texts(figure: go.Figure) -> str:
    """Everything that the figure writes somewhere."""
    return figure.to_json()


# ------------------------------------------------------------------------------------------------------ errors


def test_the_error_by_local_hour_is_that_of_the_utc_hour_five_later(fleet: Fleet) -> None:
    hours = trace(fleet.plots.errors("mae", recipes=["day"]), "day")
    mean_scale = np.mean(list(ASSETS.values()))
    expected = [mean_scale * ((hour + 5) % 24 + 1) / 10 for hour in range(24)]
    assert np.array_equal(hours.x, np.arange(24))
    assert hours.y == pytest.approx(expected)
    assert list(hours.customdata) == [3 * 3] * 24  # three assets, three origins


def test_the_error_by_lead_counts_hours_from_the_issue(fleet: Fleet) -> None:
    leads = [
        one for one in fleet.plots.errors("mae", recipes=["week"]).data if one.xaxis == "x2" and one.name == "week"
    ]
    assert np.array_equal(leads[0].x, np.arange(24))
    assert leads[0].y == pytest.approx([7 * 2 * (hour + 1) / 10 for hour in range(24)])


@pytest.mark.parametrize(
    "metric", ["mae", "bias", "rmse", "wape", "smape", "mase_24", "coverage_80", "mean_pinball", "crps"]
)
def test_the_mean_over_the_hours_agrees_with_the_leaderboard(fleet: Fleet, metric: str) -> None:
    """On one asset with as many points in every hour, what is linear over points is the mean of its hours."""
    hours = trace(fleet["b"].plots.errors(metric, recipes=["spread"]), "spread").y
    board = fleet.leaderboard(metrics=[metric], select=["b"])
    (row,) = [row for row in board.rows() if row["recipe"] == "spread"]
    if metric == "rmse":
        hours = np.sqrt(np.mean(np.square(hours)))
    if metric == "wape":  # a quotient of sums: the hours count as much as the readings in them are large
        days, size = np.arange(DAYS - 3, DAYS), np.arange(1, 25) / 10
        assert hours == pytest.approx(
            [np.sum(1.0 * np.roll(size, -5)[h]) * 3 / (days.sum() * np.roll(size, -5)[h]) for h in range(24)]
        )
        return
    assert np.mean(hours) == pytest.approx(row[metric])


def test_recipes_are_compared_on_the_points_that_all_have(gappy: Fleet) -> None:
    """A reading that is missing yesterday leaves `day` an older one; all recipes still have the same points."""
    figure = gappy.plots.errors("mae")
    counts = {one.name: one.customdata.sum() for one in figure.data if one.xaxis == "x"}
    judged = 3 * 3 * 24 - len([hour for hour in MISSING if hour >= 24 * (DAYS - 3)])
    assert counts == {"day": judged, "spread": judged, "week": judged}


def test_live_errors_say_that_they_are_not_paired(fleet: Fleet) -> None:
    said = fleet.plots.errors("mae", role="live").layout.title.subtitle.text
    assert "not paired" in said
    assert "live" in said


def test_a_skill_has_no_profile_and_an_unknown_recipe_is_named(fleet: Fleet) -> None:
    with pytest.raises(MetricUnknown):
        fleet.plots.errors("skill_day")
    with pytest.raises(ConfigInvalid, match='did you mean "week"'):
        fleet.plots.errors(recipes=["weak"])


# ------------------------------------------------------------------------------------------------------ calibration


def test_calibration_is_the_share_of_actuals_below_each_quantile(fleet: Fleet) -> None:
    """The actual is scale x (h + 1) / 10 above yesterday: below q90 = yesterday + 1 while that is at most 1."""
    found = trace(fleet.plots.calibration(), "spread")
    below = {scale: np.mean([scale * (hour + 1) / 10 <= 1 for hour in range(24)]) for scale in (1.0, 2.0, 3.0)}
    assert found.y == pytest.approx([0.0, 0.0, np.mean(list(below.values()))])
    assert list(found.customdata) == [0.1, 0.5, 0.9]
    assert {one.name for one in fleet.plots.calibration().data} == {"as promised", "spread"}


def test_of_one_asset_only_its_own_points_count(fleet: Fleet) -> None:
    assert trace(fleet["a"].plots.calibration(), "spread").y[-1] == pytest.approx(10 / 24)


# ------------------------------------------------------------------------------------------------------ leaderboard


def test_leaderboard_bars_are_its_rows_and_the_spread_is_over_assets(fleet: Fleet) -> None:
    board = fleet.leaderboard()
    figure = board.plot()
    assert figure.data[0].x == pytest.approx([row["mae"] for row in board.rows()])
    assert [text.split("<")[0] for text in figure.data[0].y] == [row["recipe"] for row in board.rows()]
    of_assets = [1.25 * scale for scale in ASSETS.values()]  # the mean of (h + 1) / 10 is 1.25
    low, high = np.percentile(of_assets, [10, 90])
    assert trace(figure, "middle 80 % of the assets").x[:2] == pytest.approx((low, high))
    assert trace(figure, "median asset").x[0] == pytest.approx(np.median(of_assets))
    assert figure.layout.xaxis.title.text == "mae, MW"
    assert "mean over 3 assets" in figure.layout.title.subtitle.text


def test_leads_come_in_their_order_in_table_and_figure(fleet: Fleet) -> None:
    board = fleet.leaderboard(by="lead")
    rows = [row["lead"] for row in board.rows() if row["recipe"] == "day"]
    assert rows == ["0-1h", "1-6h", "6-24h"]
    figure = board.plot()
    assert list(figure.layout.xaxis.ticktext) == rows
    assert trace(figure, "day").y == pytest.approx(
        [2 * np.mean(np.arange(a, b) + 1) / 10 for a, b in ((0, 1), (1, 6), (6, 24))]
    )


def test_groups_stand_worst_first_and_the_others_are_counted(fleet: Fleet) -> None:
    figure = fleet.leaderboard(by="asset").plot()
    assert list(figure.layout.yaxis.ticktext) == [look.literal(name) for name in (HOSTILE, "b", "a")]
    assert trace(figure, "day").x == pytest.approx([3.75, 2.5, 1.25])


def test_an_unknown_column_of_a_leaderboard_is_named(fleet: Fleet) -> None:
    with pytest.raises(MetricUnknown):
        fleet.leaderboard().plot("mape")


def test_a_recipe_that_saw_the_future_is_marked() -> None:
    seen = figures.Entry(recipe="oracle", group="", value=1.0, spread=np.ones(3), assets=3, flag="perfect foresight")
    honest = figures.Entry(recipe="day", group="", value=2.0, spread=np.ones(3), assets=3)
    figure = figures.ranking([seen, honest], title="t", label="mae", said=[], notes=[])
    assert list(figure.data[0].y) == ["oracle<br><i>perfect foresight</i>", "day"]
    assert list(figure.data[0].marker.pattern.shape) == ["/", ""]


def test_no_figure_draws_more_than_fifty_curves_and_it_says_so() -> None:
    many = [figures.Entry(recipe=f"r{k}", group="", value=float(k), spread=np.zeros(0), assets=1) for k in range(60)]
    figure = figures.ranking(many, title="t", label="mae", said=[], notes=[])
    assert len(figure.data[0].y) == 50
    assert "10 recipes are left out" in texts(figure)
    spreads = {f"r{k}": np.arange(5.0) for k in range(60)}
    assert "10 recipes are left out" in texts(distribution(spreads, {}, title="t", label="mae", said=[]))
    none: dict[str, np.ndarray] = {}
    keys = {name: np.ones(24) for name in spreads}
    profile = Profile(
        metric="mae", by="hour", role="backtest", keys=np.arange(24), values=keys, low=none, high=none, points=keys,
        assets=dict.fromkeys(spreads, 1),
    )  # fmt: skip
    assert len(figures.errors(profile, profile, title="t", label="mae", said=[]).data) == 100  # in two panels
    reliable = Reliability(
        role="backtest", levels=np.array([0.5]), observed={name: np.array([0.5]) for name in spreads}, low=none,
        high=none, points=dict.fromkeys(spreads, 1), assets=dict.fromkeys(spreads, 1),
    )  # fmt: skip
    assert len(figures.calibration(reliable, title="t", said=[]).data) == 51  # and the diagonal


def test_a_distribution_says_who_is_beyond_its_axis() -> None:
    values = np.concatenate([np.linspace(0, 1, 100), [500.0]])
    names = [f"a{k}" for k in range(100)] + ["far <away>"]
    figure = distribution({"day": values}, {"day": names}, title="t", label="mae", said=[])
    assert figure.layout.xaxis.range[1] < 2
    assert look.literal("far <away>") in texts(figure)
    assert "day 1 (" in texts(figure)
    shares = trace(figure, "day").y if trace(figure, "day").type == "scatter" else figure.data[-1].y
    assert max(shares) == pytest.approx(100 / 101)  # the curve does not claim the one that is not shown


# ------------------------------------------------------------------------------------------------------ fan


def test_a_fan_shows_what_was_forecast_and_what_came(fleet: Fleet) -> None:
    figure = fleet["a"].plot()
    assert trace(figure, "forecast, day").y == pytest.approx([15 * (hour + 1) / 10 for hour in range(24)])
    assert trace(figure, "actual, later").y[1:] == pytest.approx([16 * (hour + 1) / 10 for hour in range(24)])
    assert "champion day" in figure.layout.title.subtitle.text
    assert "MAE 1.25 MW on 24 steps" in figure.layout.title.subtitle.text
    assert figure.layout.yaxis.title.text == "MW"
    assert len(trace(figure, "actual").x) == 7 * 24  # a week unless told


def test_times_are_the_assets_own_and_the_axis_says_so(fleet: Fleet) -> None:
    figure = fleet["a"].plot()
    assert pd.Timestamp(trace(figure, "forecast, day").x[0]) == END.tz_convert(TZ).tz_localize(None)
    assert figure.layout.xaxis.title.text == f"local time, {TZ}"
    assert "issued 16 Jan 2024 19:00" in figure.layout.title.text


def test_a_backtest_is_shown_with_its_intervals(fleet: Fleet) -> None:
    figure = fleet["a"].plot(role="backtest", recipe="spread")
    interval, mean = trace(figure, "80 % interval"), trace(figure, "forecast, spread")
    assert interval.fill == "toself"
    assert interval.y[:24] == pytest.approx(mean.y + 1)
    assert interval.y[24:48] == pytest.approx(mean.y[::-1] - 1)
    assert "backtest spread" in figure.layout.title.subtitle.text


def test_an_issue_is_found_by_its_time_and_a_wrong_one_names_the_nearest(fleet: Fleet) -> None:
    figure = fleet["a"].plot("2024-01-15T00:00Z", recipe="week")
    assert trace(figure, "forecast, week").y[0] == pytest.approx(7 * 0.1)
    with pytest.raises(ForecastMissing, match="nearest was issued 2024-01-15T00:00Z"):
        fleet["a"].plot("2024-01-15T01:00Z", recipe="week")
    with pytest.raises(ConfigInvalid):
        fleet["a"].plot("2024-01-15T00:00")
    with pytest.raises(ConfigInvalid):
        fleet["a"].plot(history="many")


def test_a_fallback_says_that_it_is_one_and_why(fleet: Fleet) -> None:
    said = fleet["b"].plot().layout.title.subtitle.text
    assert "fallback week" in said
    assert "exception" in said


def test_missing_readings_stay_gaps_and_are_counted(gappy: Fleet) -> None:
    figure = gappy["a"].plot()
    actual = trace(figure, "actual")
    assert not actual.connectgaps
    assert np.isnan(actual.y).sum() == 3  # one break for each stretch that is missing
    alone = actual.y[np.asarray(actual.marker.size) > 0]
    assert alone == pytest.approx([13 * 1.2])  # hour 11 of day 13, between two that are missing
    assert "5 steps without a reading" in texts(figure)


def test_a_forecast_with_a_missing_step_has_no_band_there() -> None:
    times = np.arange(4) * HOUR
    mean = np.array([1.0, np.nan, 3.0, 4.0])
    curve = Curve(
        asset_id="a",
        recipe="r",
        role="champion",
        issue=0,
        times=times,
        mean=mean,
        quantiles={0.1: mean - 1, 0.9: mean + 1},
    )
    scene = figures.Scene(
        asset_id="a", unit="", tz="UTC", first=0, stop=4 * HOUR, known=Known(times=times, y=mean), curve=curve
    )
    band = trace(figures.fan(scene), "80 % interval")
    parts = np.split(np.array(band.y, dtype=float), np.flatnonzero([value is None for value in band.y]))
    assert [sorted(set(part[~np.isnan(part)])) for part in parts[:2]] == [[0.0, 2.0], [2.0, 3.0, 4.0, 5.0]]


def test_the_worst_the_median_and_the_best_stand_below_each_other(fleet: Fleet) -> None:
    figure = fleet.plots.extremes()
    titles = [note.text for note in figure.layout.annotations]
    assert [re.search("<b>(.*?)</b>", text)[1] for text in titles] == ["worst", "median", "best"]  # type: ignore[index]
    assert look.literal(HOSTILE) in titles[0]
    assert "mae 3.75 MW" in titles[0]


# ------------------------------------------------------------------------------------------------------ clocks


def test_a_clock_that_repeats_an_hour_neither_folds_the_axis_nor_lies_at_its_marks() -> None:
    """In New York 2024-11-03 has 25 hours: midnights are 24 and 25 hours apart, positions run on evenly."""
    midnight = int(pd.Timestamp("2024-11-02", tz=TZ).value // 1000)
    clock = Clock(tz=TZ, first=midnight, last=midnight + 3 * DAY, anchor=midnight)
    hours = clock.at(midnight + np.arange(72) * HOUR)
    assert set(np.diff(hours).astype(int)) == {3_600_000}
    axis = clock.axis()
    shown = dict(zip(axis["ticktext"], axis["tickvals"], strict=True))
    begin, second, third = (pd.Timestamp(shown[f"00:00<br>{day:02d} Nov 2024"]) for day in (2, 3, 4))
    assert (second - begin, third - second) == (pd.Timedelta(hours=24), pd.Timedelta(hours=25))
    assert clock.shown(midnight + np.array([25, 26]) * HOUR) == ["03 Nov 2024 01:00", "03 Nov 2024 01:00"]


def test_a_window_without_a_change_keeps_marks_that_zoom() -> None:
    assert "tickvals" not in Clock(tz=TZ, first=0, last=DAY, anchor=0).axis()


def test_over_months_the_clock_itself_is_the_position() -> None:
    """Daily steps of the local calendar stand at midnight on both sides of a change."""
    days = pd.date_range("2024-01-01", periods=200, freq="D", tz=TZ)
    instants = days.as_unit("us").asi8
    clock = Clock(tz=TZ, first=int(instants[0]), last=int(instants[-1]), anchor=int(instants[0]))
    assert np.array_equal(clock.at(instants), days.tz_localize(None).to_numpy().astype("M8[ms]"))
    assert "tickvals" not in clock.axis()


def test_where_the_clock_changes_each_point_says_what_it_shows() -> None:
    midnight = int(pd.Timestamp("2024-11-03", tz=TZ).value // 1000)
    times = midnight + np.arange(25) * HOUR
    known = Known(times=times, y=np.arange(25.0))
    scene = figures.Scene(asset_id="a", unit="", tz=TZ, first=midnight, stop=midnight + DAY, known=known, curve=None)
    actual = trace(figures.fan(scene), "actual")
    assert [text[-5:] for text in actual.customdata[:4]] == ["00:00", "01:00", "01:00", "02:00"]
    assert actual.hovertemplate.startswith("%{customdata}")


def test_a_window_is_a_week_or_sixty_steps(tmp_path: Path) -> None:
    config = '[fleet]\nname = "monthly"\nfreq = "1MS"\nhorizon = 3\n[recipes.last]\nadapter = "naive"\n'
    with fleet_in(tmp_path, config) as fleet:
        months = pd.date_range("2015-01-01", periods=100, freq="MS", tz="UTC")
        fleet.ingest(pd.DataFrame({"unique_id": "m", "ds": months, "y": np.arange(100.0)}))
        fleet.train(promote=True)
        fleet.forecast()
        figure = fleet["m"].plot()
        assert 58 <= len(trace(figure, "actual").x) <= 62
        assert len(trace(figure, "forecast, last").x) == 3
        assert np.isfinite(trace(figure, "actual").y).all()  # months of 28 to 31 days leave no gap
        assert fleet["m"]._repr_html_().count("<svg") == 1


# ------------------------------------------------------------------------------------------------------ names, pages


def test_a_hostile_name_is_text_in_every_figure(fleet: Fleet) -> None:
    made = [
        fleet[HOSTILE].plot(),
        fleet[HOSTILE].plots.errors(),
        fleet[HOSTILE].plots.calibration(),
        fleet.plots.extremes(),
        fleet.leaderboard(by="asset").plot(),
        fleet.leaderboard().plot_distribution(),
        fleet.leaderboard(by="kind").plot(),
    ]
    for figure in made:
        assert "<img" not in texts(figure)
        assert "\\u003cimg" not in texts(figure)
    assert "&#60;img src=x onerror=alert(1)&#62;" in made[0].layout.title.text
    assert list(made[-1].layout.yaxis.ticktext) == ["k&#60;1&#62;"]


@pytest.mark.parametrize("text", ["<b>x</b>", "$x^2$", "%{y}", "a & b", "&lt;"])
def test_a_name_holds_no_markup_formula_or_template(text: str) -> None:
    made = look.literal(text)
    assert not re.search("[<>$%{}]", made)
    assert re.sub("&#(\\d+);", lambda entity: chr(int(entity[1])), made) == text


def test_names_that_look_alike_when_cut_stay_apart() -> None:
    long = ["x" * 100 + "1", "x" * 100 + "2"]
    assert len(set(look.distinct(long).values())) == 2


def test_a_page_needs_nothing_but_itself(fleet: Fleet) -> None:
    page = figures.page(fleet["a"].plot(), "a <b>")
    assert "<title>a &lt;b&gt;</title>" in page
    assert len(page) > 1_000_000  # Plotly itself stands in it
    assert re.findall("<(?:script|link|img)[^>]*(?:src|href)=", page.replace(_plotly(), "")) == []


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    """Plotly alone would double the time that the first command of the day takes."""
    assert loaded_by("from fleet import Fleet") & {"plotly", "IPython"} == set()


def test_grounds_are_transparent_so_that_dark_pages_stay_dark(fleet: Fleet) -> None:
    for figure in (fleet["a"].plot(), fleet.leaderboard().plot(), fleet.plots.calibration()):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


# ------------------------------------------------------------------------------------------------------ nothing there


def test_an_empty_store_gives_figures_that_say_so(tmp_path: Path) -> None:
    with fleet_in(tmp_path, '[fleet]\nname = "empty"\nhorizon = 24\n[recipes.day]\nadapter = "naive"\n') as empty:
        made = {
            "nothing is judged yet": [empty.leaderboard().plot(), empty.plots.extremes()],
            "no asset has a value": [empty.leaderboard().plot_distribution()],
            "no forecast has an actual yet": [empty.plots.errors()],
            "no forecast with quantiles has an actual yet": [empty.plots.calibration()],
        }
        for said, drawn in made.items():
            for figure in drawn:
                assert said in texts(figure)
        with pytest.raises(AssetUnknown, match="the store holds none"):
            empty["a"]


def test_an_asset_without_a_forecast_shows_its_readings(tmp_path: Path) -> None:
    with fleet_in(tmp_path, '[fleet]\nname = "young"\nhorizon = 24\n[recipes.day]\nadapter = "naive"\n') as young:
        young.ingest(
            pd.DataFrame(
                {"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=48, freq="h", tz="UTC"), "y": 1.0}
            )
        )
        figure = young["a"].plot()
        assert "no forecast yet" in figure.layout.title.text
        assert len(trace(figure, "actual").x) == 48


def test_a_figure_is_small_enough_to_send(fleet: Fleet) -> None:
    assert len(texts(fleet["a"].plot())) < 40_000


def test_an_aware_moment_is_needed_to_name_an_issue(fleet: Fleet) -> None:
    figure = fleet["a"].plot(datetime(2024, 1, 15, tzinfo=UTC), recipe="week")
    assert "14 Jan 2024 19:00" in figure.layout.title.text
