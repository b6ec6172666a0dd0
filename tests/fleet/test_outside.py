"""Laws of outside forecasts: known from their issue on, judged beside all others, and put in charge like them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.config import parse
from fleet.errors import ConfigInvalid, SeriesInvalid
from tests.walks.small import fleet_in, hourly

HOUR = pd.Timedelta(hours=1)
BEGIN = pd.Timestamp("2024-03-01", tz="UTC")
DAYS = 20
END = BEGIN + pd.Timedelta(days=DAYS)
ASSETS = ("a", "b")
CONFIG = """
[fleet]
horizon = 24
seasons = [24]
quantiles = [0.1, 0.9]

[data]
path = "readings.parquet"

[[forecasts]]
name = "meteo"
path = "vendor.parquet"
{section}

[recipes.daily_naive]
adapter = "seasonal_naive"
season = 24

[train]
workers = 1

[backtest]
origins = 4

[promotion]
min_points = 24
"""


def vendor(error: float = 0.01, *, begin: pd.Timestamp = BEGIN, end: pd.Timestamp = END) -> pd.DataFrame:
    """Issued every 12 hours for the next 48; the error grows by `error` each hour of lead, alike for all assets."""
    truth = hourly(ASSETS, DAYS + 3, begin=BEGIN)
    parts = []
    for issue in pd.date_range(begin, end, freq="12h"):
        rows = truth[(truth.ds >= issue) & (truth.ds < issue + 48 * HOUR)].copy()
        rows["issue_time"] = issue
        rows["mean"] = rows.y + error * ((rows.ds - issue) / HOUR + 1)
        rows["q10"], rows["q90"] = rows["mean"] - 1, rows["mean"] + 1
        parts.append(rows.drop(columns="y"))
    return pd.concat(parts, ignore_index=True)


def made(folder: Path, forecasts: pd.DataFrame, section: str = "") -> Fleet:
    folder.mkdir(exist_ok=True)
    hourly(ASSETS, DAYS, begin=BEGIN).to_parquet(folder / "readings.parquet")
    forecasts.to_parquet(folder / "vendor.parquet")
    return fleet_in(folder, CONFIG.format(section=section))


def test_forecasts_are_stored_as_they_came_and_once(tmp_path: Path) -> None:
    frame = vendor()
    with made(tmp_path / "fleet", frame) as fleet:
        report = fleet.ingest()
        assert report.written["forecasts"] == len(frame)
        rows = fleet.store.table("forecasts").to_pandas()
        assert set(rows.recipe) == {"external:meteo"}
        assert set(rows.role) == {"external"}
        assert set(rows["product"]) == {"default"}
        first = rows[(rows.asset_id == "a") & (rows.issue_time == BEGIN)].sort_values("valid_time")
        assert first.step.to_list() == list(range(1, 49))
        mine = frame[(frame.unique_id == "a") & (frame.issue_time == BEGIN)]
        np.testing.assert_array_equal(first[["mean", "q10", "q90"]], mine[["mean", "q10", "q90"]])
        assert dict(fleet.ingest().written) == {}
        frame.loc[0, "mean"] = 99.0
        frame.to_parquet(tmp_path / "fleet" / "vendor.parquet")
        assert dict(fleet.ingest().written) == {"forecasts": 1}
        again = fleet.store.sql("select count(*) as n, max(mean) as m from forecasts where mean = 99").rows()
        assert again == [{"n": 1, "m": 99.0}]


@pytest.mark.parametrize("published", [0, 3])
def test_at_each_issue_the_newest_known_forecast_competes(tmp_path: Path, published: int) -> None:
    """Origins are at midnight: with a delay of three hours the run of the noon before is the newest one."""
    with made(tmp_path / "fleet", vendor(), f"publication_delay = '{published}h'") as fleet:
        fleet.ingest()
        report = fleet.backtest()
        assert report.clean
        judged = fleet.store.sql("select * from forecasts where role = 'backtest' and recipe = 'external:meteo'").df()
        assert len(judged) == len(ASSETS) * 4 * 24
        truth = hourly(ASSETS, DAYS, begin=BEGIN).set_index(["unique_id", "ds"])["y"]
        lead = (judged.valid_time - judged.issue_time) / HOUR + (12 if published else 0) + 1
        expected = truth.loc[list(zip(judged.asset_id, judged.valid_time, strict=True))].to_numpy() + 0.01 * lead
        np.testing.assert_allclose(judged["mean"], expected)
        np.testing.assert_allclose(judged.q90, expected + 1)
        board = {row["recipe"]: row for row in fleet.leaderboard(metrics=["mae", "mean_pinball"]).rows()}
        assert board["external:meteo"]["mae"] == pytest.approx(0.01 * lead.mean())
        assert board["external:meteo"]["n"] == board["daily_naive"]["n"] == len(judged)
        assert not board["external:meteo"]["perfect_foresight"]
        assert board["external:meteo"]["mean_pinball"] is not None


def test_an_outside_champion_issues_its_newest_forecast_and_tells_which(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", vendor()) as fleet:
        fleet.ingest()
        assert fleet.train(promote=True).clean
        champions = fleet.store.table("champions").to_pylist()
        assert {row["recipe"] for row in champions} == {"external:meteo"}
        assert fleet.forecast().ok == 2
        published = fleet.store.table("published").to_pandas()
        last = vendor()[lambda rows: (rows.issue_time == END) & (rows.ds < END + 24 * HOUR)]
        np.testing.assert_array_equal(published["mean"], last["mean"])
        assert set(published.role) == {"champion"}
        (tags,) = set(fleet.store.sql("select tags from runs where kind = 'forecast'").df()["tags"].str[:80])
        assert f'"external:meteo:mean": "{END.isoformat()}"' in tags


def test_without_a_forecast_for_all_steps_the_asset_falls_back(tmp_path: Path) -> None:
    """The last run known reaches only half of the next day."""
    with made(tmp_path / "fleet", vendor(end=END - 36 * HOUR)) as fleet:
        fleet.ingest()
        fleet.backtest()
        fleet.train(recipes=["external:meteo"], judge=False)
        fleet.promote("external:meteo")
        report = fleet.forecast()
        assert (report.ok, report.fell_back) == (0, 2)
        causes = fleet.store.sql("select distinct cause from outcomes where job = 'py:forecast'").rows()
        assert causes == [{"cause": "missing_covariate"}]


def test_live_it_is_scored_by_its_own_issues_when_the_actuals_come(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", vendor(begin=END - 12 * HOUR)) as fleet:
        fleet.ingest()
        fleet.ingest(hourly(ASSETS, DAYS + 2, begin=BEGIN))
        fleet.score()
        scores = fleet.store.table("scores").to_pandas()
        assert set(scores.role) == {"external"}
        assert scores.n.sum() == 2 * 2 * 48 - 2 * 0
        (board,) = fleet.leaderboard(role="live", metrics=["mae"]).rows()
        assert board["mae"] == pytest.approx(0.01 * np.arange(1, 49).mean())


def test_what_was_issued_of_them_speaks_for_its_day_and_counts_once(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", vendor()) as fleet:
        fleet.ingest()
        fleet.train(promote=True)
        assert fleet.forecast().ok == 2
        fleet.ingest(hourly(ASSETS, DAYS + 1, begin=BEGIN))
        fleet.score()
        (board,) = fleet.leaderboard(role="live", metrics=["mae"], since=END.date()).rows()
        assert board["n"] == 2 * 24


@pytest.mark.parametrize(("section", "product"), [("", "ahead"), ("product = 'near'", "near")])
def test_they_are_of_the_product_of_their_section(tmp_path: Path, section: str, product: str) -> None:
    """Where it names none, of the first one of the fleet."""
    text = CONFIG.replace("horizon = 24\n", "") + "[products.ahead]\nissue = '12:00'\ntarget = 'tomorrow'\n"
    text += "[products.near]\nhorizon = 12\n"
    hourly(ASSETS, DAYS, begin=BEGIN).to_parquet(tmp_path / "readings.parquet")
    vendor().to_parquet(tmp_path / "vendor.parquet")
    with fleet_in(tmp_path, text.format(section=section)) as fleet:
        fleet.ingest()
        assert fleet.backtest().clean
        judged = fleet.store.sql("select distinct product, recipe from forecasts where role = 'backtest'").rows()
        assert {row["product"] for row in judged if row["recipe"] == "external:meteo"} == {product}
        assert {row["product"] for row in judged if row["recipe"] == "daily_naive"} == {"ahead", "near"}


def test_a_model_sees_them_only_where_it_asks(tmp_path: Path) -> None:
    plain = CONFIG.format(section="") + "[recipes.ridge]\nadapter = 'sklearn'\nlags = [24]\n"
    for text, seen in ((plain, False), (plain + "covariates = ['external:meteo']\n", True)):
        folder = tmp_path / str(seen)
        folder.mkdir()
        hourly(ASSETS, DAYS, begin=BEGIN).to_parquet(folder / "readings.parquet")
        vendor().to_parquet(folder / "vendor.parquet")
        with fleet_in(folder, text) as fleet:
            fleet.ingest()
            fleet.backtest(recipes=["ridge"])
            (error,) = [row["mae"] for row in fleet.leaderboard(metrics=["mae"]).rows() if row["recipe"] == "ridge"]
            assert (error < 0.5) == seen


# -- a file by hand --------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_the_section_of_its_name_says(tmp_path: Path) -> None:
    section = "asset = 'plant'\ntime = 'target'\navailable_at = 'run'\nmean = 'p50'\nquantiles = { q10 = 'p10' }"
    names = {"unique_id": "plant", "ds": "target", "issue_time": "run", "mean": "p50", "q10": "p10", "q90": "p90"}
    with made(tmp_path / "fleet", vendor().rename(columns=names), section) as fleet:
        fleet.ingest(hourly(ASSETS, DAYS, begin=BEGIN))
        report = fleet.ingest(forecasts=tmp_path / "fleet" / "vendor.parquet")
        assert set(report.written) == {"forecasts"}
        columns = fleet.store.table("forecasts").column_names
        assert "q10" in columns
        assert "q90" not in columns


def test_a_file_of_a_stranger_is_stored_under_its_own_name_and_the_user_told(tmp_path: Path) -> None:
    with made(tmp_path / "fleet", vendor()) as fleet:
        fleet.ingest(hourly(("a",), DAYS, begin=BEGIN))
        path = tmp_path / "other.csv"
        frame = vendor()
        frame.loc[frame.unique_id == "a", "mean"] = frame.loc[frame.unique_id == "a", "mean"].where(frame.ds < END)
        frame.to_csv(path, index=False)
        report = fleet.ingest(forecasts=path, called="other")
        assert fleet.store.sql("select distinct recipe, asset_id from forecasts").rows() == [
            {"recipe": "external:other", "asset_id": "a"}
        ]
        notes = " / ".join(report.notes)
        assert "1 assets are not of this fleet and were left out, as b" in notes
        assert "rows without a value were left out" in notes
        assert 'name it in fleet.toml: [[forecasts]] name = "other"' in notes


def test_forecasts_that_break_a_rule_leave_the_store_as_it_was(tmp_path: Path) -> None:
    frame = vendor()
    frame.loc[5, "issue_time"] = pd.NaT
    with made(tmp_path / "fleet", frame) as fleet, pytest.raises(SeriesInvalid, match="without a time at which they"):
        fleet.ingest()
    with made(tmp_path / "more", pd.concat([vendor(), vendor()[:1]])) as fleet, pytest.raises(SeriesInvalid) as caught:
        fleet.ingest()
    assert "2 whose id and time stand more than once" in caught.value.message


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "name: Field required"),
        ("name = 'a:b'", "accepted: a name without comma and colon"),
        ("name = 'x'\nissue = 'run'", "unknown key"),
        ("name = 'x'\nproduct = 'intraday'", 'no product "intraday"'),
    ],
)
def test_a_section_that_does_not_hold_is_one_line(keys: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse(f"[[forecasts]]\n{keys}\n", Path("fleet.toml"))
    assert caught.value.message.startswith("fleet.toml: [[forecasts]]")
    if keys:
        assert said in caught.value.message
