"""What goes wrong with a model or a history costs its own asset, is told by cause, and leaves each asset a forecast."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.outcome import Report
from store.clock import FixedClock
from tests.walks.small import BEGIN, fleet_in, hourly

GOOD = tuple(f"good-{number}" for number in range(6))

CONFIG = """
[fleet]
horizon = 24
seasons = [24]

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.moody]
adapter = "MODELS:Moody"

[train]
workers = {workers}
timeout = "1s"
backoff = "0s"
recipes = {recipes}
fallback = ["day"]

[backtest]
origins = 2

[promotion]
min_points = 1
margin = 0.0
"""

DAYS = 14

#: Knows the truth but for the noise, so that it is the best wherever it works at all.
MOODY = '''
import dataclasses
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np


START, HOUR = 1_709_251_200_000_000, 3_600_000_000


def behave(moment, task, tried=""):
    """Do what the asset's name says, if it says it of this moment: fit, predict (of the past), live."""
    when, _, deed = task.static["asset_id"].partition(" ")
    if when != moment:
        return
    match deed:
        case "raise":
            raise ZeroDivisionError("nothing to divide by")
        case "exit":
            os._exit(7)
        case "sys.exit":
            sys.exit(7)
        case "hang":
            threading.Event().wait(600)
        case "flaky":
            if not Path(tried).exists():
                Path(tried).touch()
                raise ConnectionError("the licence server does not answer")


@dataclass(frozen=True, kw_only=True)
class Moody:
    tried: str = ""

    def fit(self, y, X, task):
        behave("fit", task, self.tried)
        return Fitted()

    def load(self, blob):
        return Fitted()


class Fitted:
    def save(self):
        return b"x"

    def predict(self, y, X, task):
        hours = (np.asarray(task.target.asi8) - START) // HOUR
        behave("live" if hours[0] >= 14 * 24 else "predict", task)
        frame = task.frame(50 + 20 * np.sin(hours * 2 * np.pi / 24))
        when, _, deed = task.static["asset_id"].partition(" ")
        match deed:
            case "nan":
                frame.iloc[3, 0] = np.nan
            case "infinite":
                frame.iloc[3, 0] = np.inf
            case "short":
                frame = frame.iloc[:-1]
            case "shifted":
                frame.index = frame.index + (task.target[1] - task.target[0])
            case "nameless":
                frame.columns = ["forecast"]
            case "no frame":
                frame = frame["mean"].to_numpy()
        return frame


@dataclass(frozen=True, kw_only=True)
class Sober:
    deed: str = ""

    def fit(self, y, X, task):
        return self

    def save(self):
        return b""

    def load(self, blob):
        return self

    def predict(self, y, X, task):
        if task.static["asset_id"] in ("live exit", "live raise"):
            behave("live", dataclasses.replace(task, static={"asset_id": f"live {self.deed}"}))
        return task.frame(np.full(task.horizon, float(os.getpid())))
'''


def sines(assets: tuple[str, ...]) -> pd.DataFrame:
    """What the moody model knows, shaken so that yesterday is a bad guide."""
    times = pd.date_range(BEGIN, periods=24 * DAYS, freq="h", unit="us")
    frames = []
    for number, name in enumerate(assets):
        noise = np.random.default_rng(number).normal(0, 1, len(times))
        y = 50 + 20 * np.sin(np.arange(len(times)) * 2 * np.pi / 24) + noise
        frames.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y}))
    return pd.concat(frames, ignore_index=True)


def made(folder: Path, *, workers: int = 1, recipes: str = '["moody", "day"]') -> Fleet:
    return fleet_in(folder, CONFIG.format(workers=workers, recipes=recipes), MOODY)


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def outcomes(fleet: Fleet, job: str) -> dict[str, tuple[str, str | None]]:
    """Asset to (status, cause) in the last run of a job."""
    rows = fleet.store.sql(
        "select asset_id, arg_max(status, slot) as status, arg_max([cause], slot)[1] as cause"
        " from outcomes where job = $job group by asset_id",
        {"job": job},
    ).rows()
    return {row["asset_id"]: (row["status"], row["cause"]) for row in rows}


def issued(fleet: Fleet) -> dict[str, tuple[str, str, str, int]]:
    """Asset to (recipe, role, quality, steps) of what is published."""
    rows = fleet.store.sql(
        "select asset_id, recipe, role, quality, count(*) as steps from published where isfinite(mean) group by all"
    ).rows()
    return {row["asset_id"]: (row["recipe"], row["role"], row["quality"], row["steps"]) for row in rows}


def groups(report: Report) -> Mapping[tuple[str, str | None], int]:
    return {(group.cause, group.recipe): group.count for group in report.failures}


FROM_CHAMPION = ("moody", "champion", "ok", 24)
FROM_FALLBACK = ("day", "fallback", "fallback", 24)
FROM_PEERS = ("last_resort", "fallback", "fallback", 24)

# -- models --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, dict[str, Report]]]:
    """A fleet with one asset of each kind of failure that a process survives, after training and forecast."""
    with made(tmp_path_factory.mktemp("inline") / "fleet") as fleet:
        yield fleet, trained_and_forecast(fleet, tuple(SURVIVED))


SURVIVED = {
    "fit raise": "exception",
    "fit sys.exit": "exception",
    "predict raise": "exception",
    "predict nan": "bad_output",
    "predict infinite": "bad_output",
    "predict short": "bad_output",
    "predict shifted": "bad_output",
    "predict nameless": "bad_output",
    "predict no frame": "bad_output",
}


def trained_and_forecast(fleet: Fleet, bad: tuple[str, ...]) -> dict[str, Report]:
    fleet.ingest(sines((*GOOD, *bad)))
    reports = {}
    for name, verb in (
        ("backtest", fleet.backtest),
        ("train", lambda: fleet.train(promote=True)),
        ("forecast", fleet.forecast),
    ):
        later(fleet)
        reports[name] = verb()
    return reports


def test_a_failing_recipe_is_the_outcome_of_its_asset_with_its_cause(
    in_process: tuple[Fleet, dict[str, Report]],
) -> None:
    fleet, _ = in_process
    expected = {asset: ("failed", cause) for asset, cause in SURVIVED.items()} | dict.fromkeys(GOOD, ("ok", None))
    assert outcomes(fleet, "py:backtest") == expected


def test_what_failed_is_told_grouped_by_cause(in_process: tuple[Fleet, dict[str, Report]]) -> None:
    report = in_process[1]["backtest"]
    assert (report.failed, report.ok, report.clean) == (len(SURVIVED), len(GOOD), False)
    assert groups(report) == {("bad_output", "moody"): 6, ("exception", "moody"): 3}
    first = report.failures[0]
    assert first.asset_id in SURVIVED
    assert first.error


def test_the_run_of_a_failure_says_why(in_process: tuple[Fleet, dict[str, Report]]) -> None:
    runs = in_process[0].store.runs("kind = 'backtest' and status = 'failed'").groupby("asset_id").first()
    assert sorted(runs.index) == sorted(SURVIVED)
    assert runs.loc["fit raise", "error"] == "ZeroDivisionError: nothing to divide by"
    assert runs.loc["fit sys.exit", "error"] == "SystemExit: 7"
    assert "23 rows" in runs.loc["predict short", "error"]
    assert "mean is nan" in runs.loc["predict nan", "error"]


def test_the_other_recipe_of_the_asset_takes_its_place(in_process: tuple[Fleet, dict[str, Report]]) -> None:
    fleet, reports = in_process
    champions = {row["asset_id"]: row["recipe"] for row in fleet.store.table("champions").to_pylist()}
    assert champions == dict.fromkeys(GOOD, "moody") | dict.fromkeys(SURVIVED, "day")
    assert (reports["forecast"].ok, reports["forecast"].clean) == (len(GOOD) + len(SURVIVED), True)
    assert issued(fleet) == dict.fromkeys(GOOD, FROM_CHAMPION) | dict.fromkeys(SURVIVED, ("day", "champion", "ok", 24))


def test_a_failing_recipe_is_missing_on_the_board_and_not_flattered(
    in_process: tuple[Fleet, dict[str, Report]],
) -> None:
    board = {row["recipe"]: row for row in in_process[0].leaderboard(metrics=["mae"]).rows()}
    assert (board["moody"]["missing"], board["day"]["missing"]) == (len(SURVIVED), 0)
    assert board["moody"]["assets"] == board["day"]["assets"] == len(GOOD)


@pytest.mark.parametrize("asset", ["fit raise", "predict nan"])
def test_where_the_only_recipe_fails_the_fallback_stands_in(tmp_path: Path, asset: str) -> None:
    with made(tmp_path / "fleet", recipes='["moody"]') as fleet:
        reports = trained_and_forecast(fleet, (asset,))
        cause = SURVIVED[asset]
        for job in ("train", "forecast"):
            assert outcomes(fleet, f"py:{job}") == dict.fromkeys(GOOD, ("ok", None)) | {asset: ("fell_back", cause)}
            assert (reports[job].fell_back, reports[job].ok) == (1, len(GOOD))
        assert issued(fleet) == dict.fromkeys(GOOD, FROM_CHAMPION) | {asset: FROM_FALLBACK}


# -- processes -----------------------------------------------------------------------------------------------------

FATAL = {"fit exit": "crashed", "predict hang": "timeout"}


def test_a_recipe_that_kills_or_blocks_its_process_costs_itself(tmp_path: Path) -> None:
    """The other recipe of the same asset is judged, wins and issues; the other assets notice nothing."""
    with made(tmp_path / "fleet", workers=2) as fleet:
        fleet.ingest(sines((*GOOD, *FATAL)))
        report = fleet.backtest()
        assert outcomes(fleet, "py:backtest") == dict.fromkeys(GOOD, ("ok", None)) | {
            asset: ("failed", cause) for asset, cause in FATAL.items()
        }
        assert groups(report) == {("crashed", "moody"): 1, ("timeout", "moody"): 1}
        runs = fleet.store.runs().groupby(["asset_id", "recipe"])["status"].agg(list)
        assert {key: runs[key] for key in runs.index} == {
            (asset, recipe): ["failed" if asset in FATAL and recipe == "moody" else "ok"]
            for asset in (*GOOD, *FATAL)
            for recipe in ("moody", "day")
        }
        assert set(fleet.store.runs("status = 'failed'")["error_code"]) == {"crashed", "timeout"}
        later(fleet)
        fleet.train(recipes=["day"], promote=True, select=[*FATAL])
        fleet.forecast(select=[*FATAL])
        assert issued(fleet) == dict.fromkeys(FATAL, ("day", "champion", "ok", 24))


@pytest.mark.parametrize(
    ("deed", "workers", "cause"), [("raise", 1, "exception"), ("exit", 2, "crashed"), ("hang", 2, "timeout")]
)
def test_a_champion_that_fails_only_in_life_is_replaced_for_that_issue(
    tmp_path: Path, deed: str, workers: int, cause: str
) -> None:
    bad = f"live {deed}"
    with made(tmp_path / "fleet", workers=workers) as fleet:
        fleet.ingest(sines((*GOOD, bad)))
        assert fleet.train(promote=True, workers=1).clean
        report = fleet.forecast()
        assert (report.ok, report.fell_back, report.failed) == (len(GOOD), 1, 0)
        assert outcomes(fleet, "py:forecast") == dict.fromkeys(GOOD, ("ok", None)) | {bad: ("fell_back", cause)}
        assert issued(fleet) == dict.fromkeys(GOOD, FROM_CHAMPION) | {bad: FROM_FALLBACK}


def with_sober(folder: Path, deed: str) -> Fleet:
    """A fleet whose first fallback is another model of the team's, which has to run in a worker too."""
    config = CONFIG.format(workers=2, recipes='["moody"]').replace('fallback = ["day"]', 'fallback = ["sober", "day"]')
    sober = f'[recipes.sober]\nadapter = "MODELS:Sober"\ndeed = "{deed}"\n'
    return fleet_in(folder, config + sober, MOODY)


@pytest.mark.parametrize(("deed", "cause"), [("exit", "crashed"), ("raise", "exception")])
def test_a_fallback_that_needs_a_worker_gets_its_turn_in_one(tmp_path: Path, deed: str, cause: str) -> None:
    bad = f"live {deed}"
    with with_sober(tmp_path / "fleet", "nothing") as fleet:
        fleet.ingest(sines((*GOOD, bad)))
        assert fleet.train(promote=True, workers=1).clean
        fleet.forecast()
        assert outcomes(fleet, "py:forecast")[bad] == ("fell_back", cause)
        assert issued(fleet)[bad] == ("sober", "fallback", "fallback", 24)
        made_by = fleet.store.sql("select distinct mean from published where asset_id = $bad", {"bad": bad}).rows()
        assert made_by[0]["mean"] not in (os.getpid(), None)


@pytest.mark.slow
@pytest.mark.parametrize(("deed", "cause"), [("exit", "crashed"), ("raise", "exception")])
def test_a_fallback_that_dies_too_leaves_the_next_one_and_the_first_cause(
    tmp_path: Path, deed: str, cause: str
) -> None:
    bad = f"live {deed}"
    with with_sober(tmp_path / "fleet", "exit") as fleet:
        fleet.ingest(sines((*GOOD, bad)))
        assert fleet.train(promote=True, workers=1).clean
        report = fleet.forecast()
        assert outcomes(fleet, "py:forecast") == dict.fromkeys(GOOD, ("ok", None)) | {bad: ("fell_back", cause)}
        assert issued(fleet) == dict.fromkeys(GOOD, FROM_CHAMPION) | {bad: FROM_FALLBACK}
        assert report.fell_back == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_can_pass_is_tried_again_and_leaves_no_failed_run(tmp_path: Path, workers: int) -> None:
    config = CONFIG.format(workers=workers, recipes='["moody", "day"]')
    adapter = 'adapter = "MODELS:Moody"'
    with fleet_in(
        tmp_path / "fleet", config.replace(adapter, f"{adapter}\ntried = '{tmp_path}/tried'"), MOODY
    ) as fleet:
        fleet.ingest(sines((*GOOD, "fit flaky")))
        assert fleet.backtest().clean
        assert (tmp_path / "tried").exists()
        assert set(fleet.store.runs()["status"]) == {"ok"}
        assert len(fleet.store.runs()) == 2 * (len(GOOD) + 1)


# -- histories -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_histories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, dict[str, Report]]]:
    """Good assets beside one of every history that is too little; judged, trained, forecast."""
    good = sines(GOOD)
    end = good["ds"].max()
    parts = [good]
    for name, hours in (("one reading", 1), ("half a day", 12), ("a day and a half", 36)):
        part = sines((name,))
        parts.append(part[part["ds"] > end - timedelta(hours=hours)])
    unread = sines(("all missing",))
    unread["y"] = np.nan
    stale = sines(("missing at the end",))
    stale.loc[stale["ds"] > end - timedelta(hours=100), "y"] = np.nan
    folder = tmp_path_factory.mktemp("odd") / "fleet"
    folder.mkdir()
    (folder / "assets.csv").write_text("asset_id\nplanned\n")
    pd.concat([*parts, unread, stale]).to_parquet(folder / "readings.parquet")
    config = '[data]\npath = "readings.parquet"\n[assets]\npath = "assets.csv"\n'
    with fleet_in(folder, CONFIG.format(workers=1, recipes='["moody", "day"]') + config, MOODY) as fleet:
        fleet.ingest()
        reports = {}
        for name, verb in (
            ("backtest", fleet.backtest),
            ("train", lambda: fleet.train(promote=True)),
            ("forecast", fleet.forecast),
        ):
            later(fleet)
            reports[name] = verb()
        yield fleet, reports


def test_a_history_that_is_too_little_is_an_outcome_with_its_cause(
    odd_histories: tuple[Fleet, dict[str, Report]],
) -> None:
    found = outcomes(odd_histories[0], "py:train")
    assert {asset: found[asset] for asset in GOOD} == dict.fromkeys(GOOD, ("ok", None))
    assert {asset: outcome for asset, outcome in found.items() if asset not in GOOD} == {
        "one reading": ("fell_back", "too_short"),
        "half a day": ("fell_back", "too_short"),
        "a day and a half": ("fell_back", "too_short"),
        "all missing": ("fell_back", "no_data"),
        "missing at the end": ("ok", None),
        "planned": ("fell_back", "no_data"),
    }


def test_every_asset_has_a_forecast_that_says_where_it_is_from(odd_histories: tuple[Fleet, dict[str, Report]]) -> None:
    fleet, reports = odd_histories
    found = issued(fleet)
    assert reports["forecast"].failed == 0
    assert {asset: found[asset] for asset in GOOD} == dict.fromkeys(GOOD, FROM_CHAMPION)
    assert {asset: found[asset] for asset in found if asset not in GOOD} == {
        "one reading": FROM_PEERS,
        "half a day": FROM_PEERS,
        "a day and a half": FROM_FALLBACK,
        "all missing": FROM_PEERS,
        "missing at the end": FROM_CHAMPION,
        "planned": FROM_PEERS,
    }


def test_the_last_resort_is_the_own_level_or_that_of_the_peers(odd_histories: tuple[Fleet, dict[str, Report]]) -> None:
    fleet, _ = odd_histories
    levels = dict(
        fleet.store.sql("select asset_id, avg(mean) as level from published group by asset_id").df().to_numpy().tolist()
    )
    own = dict(
        fleet.store.sql("select asset_id, avg(y) as level from actuals where isfinite(y) group by asset_id")
        .df()
        .to_numpy()
        .tolist()
    )
    assert levels["half a day"] == pytest.approx(own["half a day"])
    assert levels["one reading"] == pytest.approx(own["one reading"])
    peers = np.median([*own.values()])
    assert levels["planned"] == pytest.approx(peers)
    assert levels["all missing"] == pytest.approx(peers)


def test_what_an_asset_lacks_is_told_in_the_report_of_its_forecast(
    odd_histories: tuple[Fleet, dict[str, Report]],
) -> None:
    report = odd_histories[1]["forecast"]
    assert (report.ok, report.fell_back, report.failed) == (len(GOOD) + 1, 5, 0)
    causes = {asset: cause for asset, (_, cause) in outcomes(odd_histories[0], "py:forecast").items() if cause}
    assert causes == {
        "one reading": "too_short",
        "half a day": "too_short",
        "a day and a half": "too_short",
        "all missing": "no_data",
        "planned": "no_data",
    }
    by_cause: dict[str, int] = {}
    for group in report.failures:
        by_cause[group.cause] = by_cause.get(group.cause, 0) + group.count
    assert by_cause == {"too_short": 3, "no_data": 2}


def test_a_fleet_without_any_forecastable_asset_still_answers(tmp_path: Path) -> None:
    frame = hourly(("only",), 2)
    frame["y"] = np.nan
    with made(tmp_path / "fleet") as fleet:
        fleet.ingest(frame)
        assert fleet.train(promote=True).fell_back == 1
        report = fleet.forecast()
        assert (report.failed, report.failures[0].cause) == (1, "no_data")
        assert fleet.leaderboard().rows() == []
        assert fleet.store.table("forecasts").num_rows == 0


# -- again ---------------------------------------------------------------------------------------------------------


def test_what_failed_is_tried_again_and_what_went_well_is_not(in_process: tuple[Fleet, dict[str, Report]]) -> None:
    fleet, _ = in_process
    before = len(fleet.store.runs("kind = 'backtest' and status = 'ok'"))
    later(fleet)
    report = fleet.backtest()
    assert (report.failed, report.skipped, report.ok) == (len(SURVIVED), len(GOOD), 0)
    assert len(fleet.store.runs("kind = 'backtest' and status = 'ok'")) == before
