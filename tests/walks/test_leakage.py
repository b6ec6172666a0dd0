"""No model sees what was not known at the issue time, in backtest, training and forecast alike.

A spy writes down all that it is given. Values say when they became known, so that one look at them is proof: a vintage
of the weather holds the hour at which it was issued, and what was planted for later is beyond `PLANTED`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from tests.walks.small import fleet_in, hourly

PLANTED = 1e6
HOUR = pd.Timedelta(hours=1)
ASSETS = ("a", "b")
BEGIN = pd.Timestamp("2024-03-01", tz="UTC")
DAYS = 20
END = BEGIN + pd.Timedelta(days=DAYS)

SPY = """
import json
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Spy:
    log: str

    def fit(self, y, X, task):
        self.note("fit", y, X, task)
        return Watching(spy=self)

    def load(self, blob):
        return Watching(spy=self)

    def note(self, act, y, X, task):
        stamps = lambda index: [int(at.timestamp()) for at in index]
        seen = {"act": act, "issue": int(task.target[0].timestamp()), "asset": task.static["asset_id"]}
        seen |= {"y": dict(zip(stamps(y.index), y.to_list())), "static": repr(dict(task.static))}
        if X is not None:
            seen |= {"X": {name: dict(zip(stamps(X.index), X[name].to_list())) for name in X}}
        with open(self.log, "a") as log:
            log.write(json.dumps(seen) + "\\n")


@dataclass(frozen=True)
class Watching:
    spy: Spy

    def save(self):
        return b"nothing"

    def predict(self, y, X, task):
        self.spy.note("predict", y, X, task)
        return task.frame(np.zeros(task.horizon))
"""

CONFIG = """
[fleet]
horizon = 12
seasons = [24]

[data]
path = "readings.parquet"
{data}

{covariates}

[recipes.spy]
adapter = "MODELS:Spy"
log = "{log}"

[train]
workers = 1

[backtest]
origins = 5
stride = "12h"
refit = {refit}

[promotion]
min_points = 1
"""


@dataclass(frozen=True)
class Sight:
    """What the spy was shown once, with times as instants."""

    act: str
    issue: pd.Timestamp
    asset: str
    y: pd.Series
    X: pd.DataFrame | None
    static: str


def watched(
    folder: Path,
    readings: pd.DataFrame,
    *,
    data: str = "",
    covariates: str = "",
    files: dict[str, pd.DataFrame] | None = None,
    refit: bool = True,
) -> tuple[Fleet, list[Sight]]:
    """A fleet after ingest, backtest, training and forecast, and everything that its spy saw."""
    folder.mkdir()
    log = folder / "seen.jsonl"
    for name, frame in {"readings.parquet": readings, **(files or {})}.items():
        frame.to_parquet(folder / name)
    config = CONFIG.format(data=data, covariates=covariates, log=log, refit=str(refit).lower())
    fleet = fleet_in(folder, config, SPY)
    fleet.ingest()
    reports = [fleet.backtest(), fleet.train(promote=True), fleet.forecast()]
    assert all(report.clean for report in reports), reports
    return fleet, [sight(json.loads(line)) for line in log.read_text().splitlines()]


def sight(seen: dict) -> Sight:
    columns = {name: series(values) for name, values in seen["X"].items()} if "X" in seen else None
    issue = pd.Timestamp(seen["issue"], unit="s", tz="UTC")
    X = None if columns is None else pd.DataFrame(columns)
    return Sight(act=seen["act"], issue=issue, asset=seen["asset"], y=series(seen["y"]), X=X, static=seen["static"])


def series(values: dict[str, float]) -> pd.Series:
    return pd.Series(list(values.values()), index=pd.to_datetime([int(at) for at in values], unit="s", utc=True))


def closing(fleet: Fleet) -> Iterator[Fleet]:
    with fleet:
        yield fleet


@pytest.fixture(scope="module")
def delayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sight]]:
    folder = tmp_path_factory.mktemp("delay") / "fleet"
    fleet, sights = watched(folder, hourly(ASSETS, DAYS, begin=BEGIN), data='delay = "48h"')
    with fleet:
        yield sights


def issues_of(sights: list[Sight], act: str) -> list[pd.Timestamp]:
    return [one.issue for one in sights if one.act == act and one.asset == "a"]


# -- actuals -------------------------------------------------------------------------------------------------------


def test_a_spy_is_asked_at_every_origin_at_training_and_at_the_forecast(delayed: list[Sight]) -> None:
    origins = [END - number * 12 * HOUR for number in (5, 4, 3, 2, 1)]
    assert issues_of(delayed, "fit") == [*origins, END]
    assert issues_of(delayed, "predict") == [*origins, END]


def test_a_delay_hides_the_last_days_and_nothing_else(delayed: list[Sight]) -> None:
    """At `t` the reading of the hour that ended 48 hours before is the last that is known."""
    readings = hourly(ASSETS, DAYS, begin=BEGIN).set_index(["unique_id", "ds"])["y"]
    for seen in delayed:
        assert seen.y.index[-1] == seen.issue - 49 * HOUR
        expected = readings[seen.asset].loc[: seen.issue - 49 * HOUR]
        np.testing.assert_array_equal(seen.y.to_numpy(), expected.to_numpy())


def revised() -> pd.DataFrame:
    """Readings that are known when their hour is over, of asset `a` some of them corrected later.

    Hour 50 two hours after, hour 60 three days before the end; hour 70 a year after the end, hour 71 not before.
    """
    frame = hourly(ASSETS, DAYS, begin=BEGIN)
    frame["known"] = frame["ds"] + HOUR
    corrections = pd.DataFrame(
        {
            "unique_id": "a",
            "ds": BEGIN + HOUR * np.array([50, 60, 70]),
            "y": [555.0, 666.0, PLANTED],
            "known": [BEGIN + 53 * HOUR, END - 36 * HOUR, END + pd.Timedelta(days=365)],
        }
    )
    late = (frame["unique_id"] == "a") & (frame["ds"] == BEGIN + 71 * HOUR)
    frame.loc[late, ["y", "known"]] = [PLANTED, END + HOUR]
    return pd.concat([frame, corrections], ignore_index=True)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, list[Sight]]]:
    folder = tmp_path_factory.mktemp("revised") / "fleet"
    fleet, sights = watched(folder, revised(), data='available_at = "known"')
    with fleet:
        yield fleet, sights


def test_what_becomes_known_later_is_never_seen(corrected: tuple[Fleet, list[Sight]]) -> None:
    fleet, sights = corrected
    assert fleet.store.sql("select max(y) as y from actuals_all").rows()[0]["y"] == PLANTED
    assert len(sights) == 2 * 2 * 6
    for seen in sights:
        assert seen.y.max() < PLANTED
        assert seen.y.index[-1] == seen.issue - HOUR
        assert str(PLANTED) not in seen.static


def test_a_correction_is_seen_from_the_moment_on_at_which_it_is_known(corrected: tuple[Fleet, list[Sight]]) -> None:
    first = hourly(ASSETS, DAYS, begin=BEGIN).set_index(["unique_id", "ds"])["y"]["a"]
    shown = set()
    for seen in [one for one in corrected[1] if one.asset == "a"]:
        hours = {hour: seen.y[BEGIN + hour * HOUR] for hour in (50, 60, 70, 71)}
        known = seen.issue >= END - 36 * HOUR
        assert hours[50] == 555.0
        assert hours[60] == (666.0 if known else first[BEGIN + 60 * HOUR])
        assert hours[70] == first[BEGIN + 70 * HOUR]
        assert np.isnan(hours[71])
        shown.add(known)
    assert shown == {True, False}


def test_what_an_asset_is_told_of_its_peers_was_known_too(tmp_path: Path) -> None:
    """The newcomer has rows and no reading; the others of its last day are beyond what its peers had before."""
    readings = hourly((*ASSETS, "newcomer"), DAYS, begin=BEGIN)
    readings.loc[readings["unique_id"] == "newcomer", "y"] = np.nan
    readings.loc[readings["unique_id"].isin(ASSETS) & (readings["ds"] >= END - 24 * HOUR), "y"] = PLANTED
    config = CONFIG.format(data="", covariates="", log=tmp_path / "log", refit="true")
    with fleet_in(tmp_path / "fleet", config, SPY) as fleet:
        fleet.ingest(readings)
        fleet.train(promote=True)
        for issue in (END - 24 * HOUR, END):
            fleet.forecast(issue_time=issue.to_pydatetime())
        told = {}
        for row in fleet.store.table("published", assets=["newcomer"]).to_pylist():
            told[pd.Timestamp(row["issue_time"])] = row["mean"]
    peers = readings[readings["unique_id"] != "newcomer"]
    before = peers[peers["ds"] < END - 24 * HOUR].groupby("unique_id")["y"].mean().median()
    assert told == {
        END - 24 * HOUR: pytest.approx(before),
        END: pytest.approx(peers.groupby("unique_id")["y"].mean().median()),
    }
    for line in (tmp_path / "log").read_text().splitlines():
        assert "peer_mean" not in json.loads(line)["static"]


# -- covariates ----------------------------------------------------------------------------------------------------


def hours_since_begin(times: pd.DatetimeIndex) -> np.ndarray:
    return (times - BEGIN) / HOUR


def vintages() -> pd.DataFrame:
    """Weather issued every 7 hours for the next 60; a value is the hour at which it was issued."""
    parts = []
    for issued in pd.date_range(BEGIN - 60 * HOUR, END + 60 * HOUR, freq="7h"):
        at = pd.date_range(issued.ceil("h"), periods=60, freq="h")
        parts.append(pd.DataFrame({"ds": at, "issued": issued, "wind": (issued - BEGIN) / HOUR}))
    return pd.concat(parts, ignore_index=True)


VINTAGES = """
[[covariates]]
path = "weather.parquet"
time = "ds"
columns = ["wind"]
known = "future"
available_at = "issued"
"""


@pytest.mark.parametrize("published", [0, 5])
def test_covariates_are_those_of_the_last_vintage_before_the_issue(tmp_path: Path, published: int) -> None:
    """The target is shown what was known at the issue; each 12 hours before it what was known at the issue of then.

    A run of the weather is there so many hours after its start.
    """
    fleet, sights = watched(
        tmp_path / "fleet",
        hourly(ASSETS, DAYS, begin=BEGIN),
        covariates=VINTAGES + f'publication_delay = "{published}h"\n',
        files={"weather.parquet": vintages()},
    )
    with fleet:
        assert len(sights) == 2 * 2 * 6
        starts = pd.date_range(BEGIN - 60 * HOUR, END + 60 * HOUR, freq="7h")
        for seen in sights:
            assert seen.X is not None
            assert seen.X.index[0] == seen.y.index[0]
            assert seen.X.index[-1] == seen.issue + 11 * HOUR
            own = [seen.issue - -((at - seen.issue) // (12 * HOUR)) * 12 * HOUR for at in seen.X.index]
            assert set(own[-12:]) == {seen.issue}
            last = starts[starts.searchsorted(pd.DatetimeIndex(own) - published * HOUR, side="right") - 1]
            np.testing.assert_array_equal(seen.X["wind"].to_numpy(), hours_since_begin(last))
        assert_flags(fleet, flagged=False)
        assert_lineage(fleet, starts + published * HOUR)


def assert_lineage(fleet: Fleet, known: pd.DatetimeIndex) -> None:
    """Every run tells when the newest value became known that its last issue was shown; one of each issue."""
    runs = fleet.store.runs()
    assert set(runs["kind"]) == {"backtest", "train", "forecast"}
    for kind, tags in zip(runs["kind"], runs["tags"].map(json.loads), strict=True):
        issue = END - 12 * HOUR if kind == "backtest" else END
        told = pd.Timestamp(tags["vintages"]["wind"])
        assert told == known[known <= issue][-1]
        if kind == "forecast":
            assert pd.Timestamp(tags["issue_time"]) == END
            assert tags["version_id"] in fleet.store.table("versions")["version_id"].to_pylist()


def test_a_forecast_without_its_weather_falls_back_and_says_why(tmp_path: Path) -> None:
    """The weather ends half a day after the data of the training, and the next issue is a day after them."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    weather = vintages()
    weather[weather["ds"] < END + 12 * HOUR].to_parquet(folder / "weather.parquet")
    hourly(ASSETS, DAYS, begin=BEGIN).to_parquet(folder / "readings.parquet")
    config = CONFIG.format(data="", covariates=VINTAGES, log="", refit="false").replace('log = ""\n', "")
    config = config.replace("MODELS:Spy", "sklearn")
    with fleet_in(folder, config) as fleet:
        fleet.ingest()
        assert fleet.train(promote=True).clean
        fleet.ingest(hourly(ASSETS, DAYS + 1, begin=BEGIN))
        report = fleet.forecast()
        assert (report.ok, report.fell_back, report.failed) == (0, 2, 0)
        outcomes = fleet.store.sql("select distinct status, cause, error_code from outcomes where job = 'py:forecast'")
        assert outcomes.rows() == [
            {"status": "fell_back", "cause": "missing_covariate", "error_code": "missing-covariate"}
        ]
        assert set(fleet.store.table("published")["quality"].to_pylist()) == {"fallback"}


def test_without_vintages_a_future_covariate_is_perfect_foresight_and_says_so(tmp_path: Path) -> None:
    at = pd.date_range(BEGIN, END + 24 * HOUR, freq="h")
    weather = pd.DataFrame({"ds": at, "wind": hours_since_begin(at)})
    covariates = VINTAGES.replace('available_at = "issued"\n', "")
    fleet, sights = watched(
        tmp_path / "fleet", hourly(ASSETS, DAYS, begin=BEGIN), covariates=covariates, files={"weather.parquet": weather}
    )
    with fleet:
        for seen in sights:
            assert seen.X is not None
            np.testing.assert_array_equal(seen.X["wind"].to_numpy(), hours_since_begin(seen.X.index))
        day_after = hourly(ASSETS, DAYS + 1, begin=BEGIN)
        fleet.ingest(day_after)
        fleet.score()
        assert_flags(fleet, flagged=True)


def test_a_past_covariate_ends_where_the_present_begins(tmp_path: Path) -> None:
    """With a delay of 3 hours: at `t` the value of the hour that ended 3 hours before is the last one."""
    at = pd.date_range(BEGIN, END + 24 * HOUR, freq="h")
    weather = pd.DataFrame({"ds": at, "wind": hours_since_begin(at)})
    covariates = VINTAGES.replace('known = "future"\navailable_at = "issued"', 'known = "past"\ndelay = "3h"')
    fleet, sights = watched(
        tmp_path / "fleet", hourly(ASSETS, DAYS, begin=BEGIN), covariates=covariates, files={"weather.parquet": weather}
    )
    with fleet:
        for seen in sights:
            assert seen.X is not None
            known = seen.X["wind"].dropna()
            assert known.index[-1] == seen.issue - 4 * HOUR
            assert len(known) == len(seen.y) - 3
        assert_flags(fleet, flagged=False)


def assert_flags(fleet: Fleet, *, flagged: bool) -> None:
    """The flag of scores, of the board and of the runs."""
    scores = fleet.store.table("scores")
    assert scores.num_rows > 0
    assert set(scores["perfect_foresight"].to_pylist()) == {flagged}
    for role in {"backtest", *(["live"] if "champion" in scores["role"].to_pylist() else [])}:
        assert [row["perfect_foresight"] for row in fleet.leaderboard(role=role).rows()] == [flagged]
    assert set(fleet.store.runs()["tags"].fillna("").str.contains("perfect_foresight")) == {flagged}
    if flagged:
        assert "champion" in scores["role"].to_pylist()


def test_a_fallback_that_sees_the_future_says_so_too(tmp_path: Path) -> None:
    at = pd.date_range(BEGIN, END + 48 * HOUR, freq="h")
    weather = pd.DataFrame({"ds": at, "wind": hours_since_begin(at)})
    folder = tmp_path / "fleet"
    folder.mkdir()
    weather.to_parquet(folder / "weather.parquet")
    hourly(ASSETS, DAYS, begin=BEGIN).to_parquet(folder / "readings.parquet")
    seer = "def seer(y, X, task):\n    return X['wind'].to_numpy()[-task.horizon :]\n"
    config = CONFIG.format(data="", covariates=VINTAGES.replace('available_at = "issued"\n', ""), log="", refit="false")
    config = config.replace("MODELS:Spy", "MODELS:seer").replace('log = ""\n', "")
    config = config.replace("[train]\n", '[train]\nfallback = ["spy"]\n')
    with fleet_in(folder, config, seer) as fleet:
        fleet.ingest()
        fleet.train(promote=False)
        report = fleet.forecast()
        assert (report.fell_back, report.failed) == (2, 0)
        fleet.ingest(hourly(ASSETS, DAYS + 1, begin=BEGIN))
        fleet.score()
        scores = fleet.store.table("scores", where={"role": "fallback"})
        assert set(scores["recipe"].to_pylist()) == {"spy"}
        assert set(scores["perfect_foresight"].to_pylist()) == {True}
