"""The main job on a small fleet: judge, decide, train, forecast, score; against pandas, against itself, against a twin.

Fourteen assets of thirty days in Paris; the day that is held back is the one on which the clocks go forward.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.outcome import Report
from store.clock import FixedClock
from tests.walks.small import NOW, counts, fleet_in, hourly, without_ids

TZ = "Europe/Paris"
BEGIN = pd.Timestamp("2024-03-01", tz=TZ)
END = BEGIN + pd.Timedelta(days=30)
ASSETS = tuple(f"plant-{number:02d}" for number in range(14))

CONFIG = """
[fleet]
name = "cycle"
timezone = "Europe/Paris"
horizon = 24
seasons = [24, 168]
quantiles = [0.1, 0.5, 0.9]
seed = 11

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.week]
adapter = "seasonal_naive"
season = 168

[recipes.level]
adapter = "MODELS:Level"
window = 48

[train]
workers = 1
fallback = ["day"]

[backtest]
origins = 4

[promotion]
min_points = 24
"""

LEVEL = '''
"""A user's own model: the level of the last days, spread by what was seen, shaken by the seed."""
import json
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Level:
    window: int = 24

    def fit(self, y, X, task):
        known = y.to_numpy()[np.isfinite(y.to_numpy())][-self.window :]
        return Learnt(self.window, float(known.std()), float(np.random.default_rng(task.seed).normal()))

    def load(self, blob):
        return Learnt(**json.loads(blob))


@dataclass(frozen=True)
class Learnt:
    window: int
    spread: float
    shake: float

    def save(self):
        return json.dumps(asdict(self)).encode()

    def predict(self, y, X, task):
        known = y.to_numpy()[np.isfinite(y.to_numpy())][-self.window :]
        mean = np.full(task.horizon, known.mean() + 0.1 * self.shake)
        return task.frame(mean, {q: mean + (q - 0.5) * 2 * self.spread for q in task.quantiles})
'''

DETERMINISTIC = ("forecasts", "scores", "scales", "runs", "metrics", "versions", "champions", "decisions")


def data(days: int) -> pd.DataFrame:
    return hourly(ASSETS, days, begin=BEGIN)


def next_day() -> pd.DataFrame:
    """What arrives a day later: the whole window again, as a daily export would have it."""
    frame = data(32)
    return frame[(frame["ds"] >= END - pd.Timedelta(days=3)) & (frame["ds"] < END + pd.Timedelta(hours=24))]


def everything() -> pd.DataFrame:
    """All actuals of a cycle."""
    return pd.concat([data(30), next_day()]).drop_duplicates(["unique_id", "ds"])


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def cycle(fleet: Fleet, *, actuals: pd.DataFrame | None = None, workers: int | None = None) -> dict[str, Report]:
    """Thirty days in, a forecast out, the next day in, scores out."""
    fleet.ingest(data(30))
    reports = {}
    verbs: dict[str, Callable[[], Report]] = {
        "backtest": lambda: fleet.backtest(workers=workers),
        "train": lambda: fleet.train(promote=True, workers=workers),
        "forecast": lambda: fleet.forecast(workers=workers),
        "score": fleet.score,
    }
    for name, verb in verbs.items():
        if name == "score":
            fleet.ingest(next_day() if actuals is None else actuals)
        later(fleet)
        reports[name] = verb()
    return reports


@dataclass(frozen=True)
class Done:
    fleet: Fleet
    reports: dict[str, Report]

    def frame(self, table: str) -> pd.DataFrame:
        return self.fleet.store.table(table).to_pandas()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """A fleet after one cycle; tests that use it leave it as it is."""
    with fleet_in(tmp_path_factory.mktemp("cycle"), CONFIG, LEVEL) as fleet:
        yield Done(fleet, cycle(fleet))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with fleet_in(tmp_path / "own", CONFIG, LEVEL) as made:
        yield made


# -- what a cycle leaves behind ------------------------------------------------------------------------------------


def test_every_asset_is_judged_trained_and_forecast(done: Done) -> None:
    assert {name: (report.ok, report.clean) for name, report in done.reports.items()} == dict.fromkeys(
        ("backtest", "train", "forecast", "score"), (len(ASSETS), True)
    )
    rows = counts(done.fleet.store)
    assert rows["runs"] == len(ASSETS) * (3 + 1)
    assert rows["versions"] == rows["champions"] == rows["decisions"] == len(ASSETS)
    assert rows["forecasts"] == len(ASSETS) * 24 * (3 * 4 + 1)
    assert rows["outcomes"] == len(ASSETS) * 4


def test_backtests_stand_on_the_last_days_that_have_actuals_at_the_same_local_time(done: Done) -> None:
    frame = done.frame("forecasts").query("role == 'backtest'")
    issues = sorted(frame["issue_time"].dt.tz_convert(TZ).unique())
    assert issues == [END - pd.Timedelta(days=number) for number in (4, 3, 2, 1)]
    assert (frame["valid_time"] == frame["issue_time"] + pd.to_timedelta(frame["step"] - 1, unit="h")).all()


def test_a_rule_says_in_the_backtest_what_it_would_have_said_in_life(done: Done) -> None:
    """`day` at a step is the actual of 24 hours before; no clock changes inside the origins' days."""
    frame = done.frame("forecasts").query("role == 'backtest' and recipe == 'day'")
    actuals = data(30).set_index(["unique_id", "ds"])["y"]
    before = frame["valid_time"] - pd.Timedelta(hours=24)
    expected = actuals.loc[list(zip(frame["asset_id"], before, strict=True))].to_numpy()
    np.testing.assert_array_equal(frame["mean"].to_numpy(), expected)


def test_the_champion_is_the_recipe_with_the_lowest_error(done: Done) -> None:
    judged = errors(done.frame("forecasts").query("role == 'backtest'"), data(30))
    best = judged.groupby(["asset_id", "recipe"])["size"].mean().unstack().idxmin(axis=1)
    champions = done.frame("champions").set_index("asset_id")["recipe"]
    assert champions.to_dict() == best.to_dict()
    assert set(best) == {"day", "week", "level"}, "a fleet on which one recipe wins everywhere shows nothing"


def test_decisions_say_by_how_much(done: Done) -> None:
    judged = errors(done.frame("forecasts").query("role == 'backtest'"), data(30))
    mae = judged.groupby(["asset_id", "recipe"])["size"].mean()
    for row in done.fleet.store.table("decisions").to_pylist():
        assert (row["verdict"], row["champion"], row["metric"], row["n"]) == ("promoted", None, "mae", 4 * 24)
        assert row["challenger_value"] == pytest.approx(mae[row["asset_id"], row["challenger"]], rel=1e-9)


def test_issued_forecasts_name_the_version_that_made_them(done: Done) -> None:
    issued = done.frame("forecasts").query("role != 'backtest'")
    assert len(issued) == len(ASSETS) * 24
    assert set(issued["role"]) == {"champion"}
    assert (issued["issue_time"] == END).all()
    versions = done.frame("versions").set_index("version_id")
    for column in ("asset_id", "recipe", "recipe_hash", "run_id"):
        assert (issued[column].to_numpy() == versions.loc[issued["version_id"], column].to_numpy()).all()


def test_quantiles_come_from_the_model_or_from_its_errors_and_say_so(done: Done) -> None:
    frame = done.frame("forecasts")
    own, there = frame["recipe"] == "level", frame[["q10", "q50", "q90"]].notna()
    assert (there.all(axis=1) == there.any(axis=1)).all()
    assert there.loc[own].all(axis=None)
    assert (there["q10"] & ~own == frame["quality"].str.contains("conformal")).all()
    of_others = frame[~own & (frame["role"] == "backtest")].sort_values("issue_time")
    # Four origins a day apart: only the last has the errors of three before it.
    days = of_others.groupby(["asset_id", "recipe", "issue_time"])["q10"].count().groupby(["asset_id", "recipe"])
    assert {tuple(counts > 0) for _, counts in days} == {(False, False, False, True)}


# -- scores against pandas -----------------------------------------------------------------------------------------


def errors(forecasts: pd.DataFrame, actuals: pd.DataFrame) -> pd.DataFrame:
    """Every forecast beside its actual."""
    frame = forecasts.merge(
        actuals.rename(columns={"unique_id": "asset_id", "ds": "valid_time"}), on=["asset_id", "valid_time"]
    )
    frame["e"] = frame["mean"] - frame["y"]
    frame["size"] = frame["e"].abs()
    return frame


CELL = ["asset_id", "recipe", "version_id", "role", "day", "lead_bucket"]


def recomputed(forecasts: pd.DataFrame, actuals: pd.DataFrame) -> pd.DataFrame:
    """The cells by pandas, one definition after the other."""
    frame = errors(forecasts, actuals)
    frame["day"] = frame["valid_time"].dt.tz_convert(TZ).dt.date
    hours = (frame["valid_time"] - frame["issue_time"]) / pd.Timedelta(hours=1)
    labels = ["0-1h", "1-6h", "6-24h", "1-2d", "2-7d", "7d+"]
    frame["lead_bucket"] = pd.cut(hours, [-1, 1, 6, 24, 48, 168, 1e9], right=False, labels=labels).astype(str)
    y, mean = frame["y"], frame["mean"]
    frame["n"] = 1.0
    frame["sum_e"], frame["sum_abs_e"], frame["sum_sq_e"], frame["sum_abs_y"] = (
        frame["e"],
        frame["size"],
        frame["e"] ** 2,
        y.abs(),
    )
    frame["sum_smape"] = 2 * frame["size"] / (y.abs() + mean.abs())
    for level in (10, 50, 90):
        short = y - frame[f"q{level}"]
        frame[f"pinball_sum_q{level}"] = np.maximum(level / 100 * short, (level / 100 - 1) * short)
    inside = (y >= frame["q10"]) & (y <= frame["q90"])
    frame["covered_80"] = inside.astype(float).where(frame["q10"].notna())
    frame["width_sum_80"] = frame["q90"] - frame["q10"]
    outside = (frame["q10"] - y).clip(lower=0) + (y - frame["q90"]).clip(lower=0)
    frame["winkler_sum_80"] = frame["width_sum_80"] + 2 / 0.2 * outside
    sums = [name for name in frame if name == "n" or "sum_" in name or name.startswith("covered")]
    return frame.groupby(CELL)[sums].sum(min_count=1).sort_index()


def same_cells(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    found = found.set_index(CELL)[expected.columns].astype(float).sort_index()
    pd.testing.assert_frame_equal(found, expected.astype(float), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("role", ["backtest", "champion"])
def test_scores_are_what_pandas_makes_of_forecasts_and_actuals(done: Done, role: str) -> None:
    forecasts, scores = (frame[frame["role"] == role] for frame in (done.frame("forecasts"), done.frame("scores")))
    expected = recomputed(forecasts, everything())
    assert expected["n"].sum() == len(forecasts) > 0
    same_cells(scores, expected)


@pytest.mark.parametrize("role", ["backtest", "live"])
def test_the_leaderboard_is_what_pandas_makes_of_them(done: Done, role: str) -> None:
    frame = errors(done.frame("forecasts"), everything())
    frame = frame[(frame["role"] == "backtest") == (role == "backtest")]
    by_asset = frame.groupby(["recipe", "asset_id"])["size"].mean()
    scale = done.frame("scales").query("season == 24")
    origin = END - pd.Timedelta(days=4 if role == "backtest" else 0)
    scale = scale[scale["origin"] == origin].set_index("asset_id")["scale_abs"]
    mase = by_asset / scale.reindex(by_asset.index, level="asset_id")
    board = done.fleet.leaderboard(role=role, metrics=["mae", "mase_24"]).rows()
    assert [row["recipe"] for row in board] == by_asset.groupby("recipe").mean().sort_values().index.to_list()
    for row in board:
        assert row["mae"] == pytest.approx(by_asset[row["recipe"]].mean(), rel=1e-9)
        assert row["mase_24"] == pytest.approx(mase[row["recipe"]].mean(), rel=1e-9)
        assert row["n"] == (frame["recipe"] == row["recipe"]).sum()
        assert row["undefined"] == 0


def test_the_scale_is_the_seasonal_step_of_all_history_before_the_first_origin(done: Done) -> None:
    scales = done.frame("scales").set_index(["asset_id", "origin", "season"])
    for asset in ASSETS[:3]:
        for origin in (END - pd.Timedelta(days=4), END):
            y = data(30).query("unique_id == @asset and ds < @origin")["y"]
            step = y.diff(24).dropna()
            row = scales.loc[(asset, origin.tz_convert("UTC"), 24)]
            assert row["scale_abs"] == pytest.approx(step.abs().mean(), rel=1e-12)
            assert row["scale_sq"] == pytest.approx((step**2).mean(), rel=1e-12)


def contents(fleet: Fleet, table: str) -> list[str]:
    """Every row of a table; a table is sorted by some of its columns, so equal ones may stand in any order."""
    return sorted(map(repr, fleet.store.table(table).to_pylist()))


# -- again ---------------------------------------------------------------------------------------------------------


def test_repeated_verbs_change_nothing(fleet: Fleet) -> None:
    cycle(fleet)
    # What has just arrived makes a new backtest and a new training due; after those nothing is.
    for verb in (lambda: fleet.train(promote=True), fleet.forecast):
        later(fleet)
        verb()
    before, head = {name: contents(fleet, name) for name in DETERMINISTIC}, fleet.store.head()
    repeats: tuple[Callable[[], Report], ...] = (
        fleet.backtest,
        lambda: fleet.train(promote=True),
        fleet.train,
        fleet.forecast,
        fleet.score,
    )
    for verb in repeats:
        later(fleet)
        report = verb()
        assert (report.skipped, report.ok, report.rows) == (len(ASSETS), 0, {})
    fleet.ingest(next_day())
    assert fleet.store.head() == head
    for name, found in before.items():
        assert contents(fleet, name) == found, name


def test_forecasts_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    rows = {}
    for workers in (1, 2):
        with fleet_in(tmp_path / f"with-{workers}", CONFIG, LEVEL) as fleet:
            reports = cycle(fleet, workers=workers)
            assert all(report.clean for report in reports.values())
            rows[workers] = {name: without_ids(fleet.store, name) for name in DETERMINISTIC}
    assert all(len(found) > 0 for found in rows[1].values())
    assert {name: len(found) for name, found in rows[1].items()} == {
        name: len(found) for name, found in rows[2].items()
    }
    for name in DETERMINISTIC:
        assert rows[1][name] == rows[2][name], name


# -- revisions -----------------------------------------------------------------------------------------------------


def test_a_revised_actual_recomputes_its_cells_and_no_others(fleet: Fleet, tmp_path: Path) -> None:
    cycle(fleet)
    cells = "select asset_id, day, lead_bucket, _v from scores__v where role = 'champion' order by all"
    before = fleet.store.sql(cells).df()
    revised = next_day()
    at = (revised["unique_id"] == ASSETS[3]) & (revised["ds"] == END + pd.Timedelta(hours=7))
    revised.loc[at, "y"] += 5.0
    fleet.ingest(revised)
    later(fleet)
    report = fleet.score()
    assert (report.ok, report.skipped) == (1, len(ASSETS) - 1)
    after = fleet.store.sql(cells).df()
    touched = after[after["_v"] != before["_v"]]
    assert set(zip(touched["asset_id"], touched["day"].astype(str), strict=True)) == {(ASSETS[3], "2024-03-31")}
    assert len(touched) == 3
    with fleet_in(tmp_path / "scratch", CONFIG, LEVEL) as scratch:
        cycle(scratch, actuals=revised)
        for name in ("scores", "forecasts"):
            assert without_ids(fleet.store, name) == without_ids(scratch.store, name)


def test_an_actual_that_is_taken_back_leaves_its_cell(fleet: Fleet) -> None:
    """Of the cell `0-1h` its only point is taken back, of `1-6h` one of five."""
    cycle(fleet)
    revised = next_day()
    gone = (revised["unique_id"] == ASSETS[3]) & revised["ds"].isin([END, END + pd.Timedelta(hours=2)])
    revised.loc[gone, "y"] = np.nan
    fleet.ingest(revised)
    later(fleet)
    fleet.score()
    rows = fleet.store.sql(
        "select lead_bucket, n from scores where role = 'champion' and asset_id = $asset order by lead_bucket",
        {"asset": ASSETS[3]},
    ).rows()
    assert [row["n"] for row in rows if row["lead_bucket"] == "1-6h"] == [4]
    assert sum(row["n"] for row in rows) == 22
    live = fleet.leaderboard(role="live", by="lead", select=[ASSETS[3]], metrics=["mae"]).rows()
    assert {row["lead"]: row["n"] for row in live if row["mae"] is not None} == {"1-6h": 4, "6-24h": 18}


# -- issued again --------------------------------------------------------------------------------------------------


def test_a_reissue_keeps_both_and_publishes_the_newer(fleet: Fleet) -> None:
    cycle(fleet)
    first = fleet.store.table("published")
    head = fleet.store.head()
    later(fleet)
    report = fleet.forecast(issue_time=END.to_pydatetime())
    assert (report.skipped, fleet.store.head()) == (len(ASSETS), head)
    later(fleet)
    fleet.forecast(issue_time=END.to_pydatetime(), reissue=True)
    published = fleet.store.table("published")
    assert published.num_rows == first.num_rows == len(ASSETS) * 24
    assert set(published["created_at"].to_pylist()) == {fleet.clock.now()}
    assert fleet.store.at(head).table("published").equals(first), "the first issue is history"
    # The same versions at the same issue time say the same.
    assert published["mean"].equals(first["mean"])


def test_another_version_at_the_same_issue_time_stands_beside_the_first(fleet: Fleet) -> None:
    cycle(fleet)
    end = END + pd.Timedelta(days=1)
    later(fleet)
    fleet.forecast(issue_time=end.to_pydatetime())
    first = fleet.store.table("forecasts", where={"role": "champion"}, since=end.to_pydatetime())
    later(fleet)
    fleet.train(recipes=["day"], judge=False, force=True)
    later(fleet)
    fleet.promote("day")
    later(fleet)
    fleet.forecast(issue_time=end.to_pydatetime(), reissue=True)
    again = fleet.store.table("forecasts", where={"role": "champion"}, since=end.to_pydatetime())
    assert again.num_rows == 2 * first.num_rows
    published = fleet.store.table("published", since=end.to_pydatetime()).to_pandas()
    assert len(published) == len(ASSETS) * 24
    assert not published.duplicated(["asset_id", "product", "issue_time", "valid_time"]).any()
    assert set(published["recipe"]) == {"day"}
    assert set(published["version_id"]) == set(fleet.store.table("champions")["version_id"].to_pylist())


def test_an_issue_in_the_past_uses_no_version_that_saw_what_came_later(fleet: Fleet) -> None:
    cycle(fleet)
    before = fleet.store.table("champions")
    later(fleet)
    fleet.train(promote=True)
    later(fleet)
    assert not fleet.store.table("champions")["version_id"].equals(before["version_id"]), "trained on another day"
    report = fleet.forecast(issue_time=END.to_pydatetime(), reissue=True)
    rows = fleet.store.sql(
        "select count(*) as late from forecasts f join runs r using (run_id) "
        "where f.role <> 'backtest' and r.train_end >= f.issue_time"
    ).rows()
    assert rows[0]["late"] == 0
    early = BEGIN + pd.Timedelta(days=20)
    report = fleet.forecast(issue_time=early.to_pydatetime())
    assert report.fell_back == len(ASSETS)
    assert {group.cause for group in report.failures} == {"exception"}


# -- definitions that change ---------------------------------------------------------------------------------------


def test_a_definition_that_comes_back_is_judged_again(tmp_path: Path) -> None:
    """The board shows what the file says now: two origins, then three, then two again."""
    shown = []
    for number, origins in enumerate((2, 3, 2, 2)):
        config = CONFIG.replace("origins = 4", f"origins = {origins}")
        at = NOW + timedelta(hours=number)
        with fleet_in(tmp_path / "fleet", config, LEVEL, at=at) as fleet:
            if not shown:
                fleet.ingest(data(30))
            report = fleet.backtest(recipes=["day", "week"])
            shown.append((report.ok, {row["n"] for row in fleet.leaderboard().rows() if row["assets"]}))
    n = len(ASSETS)
    assert shown == [(n, {2 * 24 * n}), (n, {3 * 24 * n}), (n, {2 * 24 * n}), (0, {2 * 24 * n})]


def test_forecasts_carry_the_definition_of_their_version(tmp_path: Path) -> None:
    """A word more in the module's file makes another definition; versions trained before keep theirs."""
    with fleet_in(tmp_path / "fleet", CONFIG, LEVEL + "# by hash") as fleet:
        fleet.ingest(data(30))
        fleet.train(promote=True)
        module = next((tmp_path / "fleet").glob("models_*.py"))
        module.write_text(module.read_text() + "\n# another comment\n")
        fleet.forecast()
        wrong = fleet.store.sql(
            "select f.recipe from forecasts f join versions v using (version_id)"
            " where f.role = 'champion' and f.recipe_hash <> v.recipe_hash"
        ).rows()
        assert wrong == []
        assert "level" in fleet.store.table("published")["recipe"].to_pylist()


def test_a_champion_whose_module_is_gone_falls_back_alone(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG, LEVEL + "# soon gone") as fleet:
        fleet.ingest(data(30))
        fleet.train(promote=True)
        champions = {row["asset_id"]: row["recipe"] for row in fleet.store.table("champions").to_pylist()}
    module = next((tmp_path / "fleet").glob("models_*.py"))
    module.unlink()
    rest = CONFIG.replace('[recipes.level]\nadapter = "MODELS:Level"\nwindow = 48\n', "")
    with fleet_in(tmp_path / "fleet", rest) as fleet:
        report = fleet.forecast()
        orphans = [asset for asset, recipe in champions.items() if recipe == "level"]
        assert (report.fell_back, report.ok, report.failed) == (len(orphans), len(ASSETS) - len(orphans), 0)
        assert [(group.cause, group.count) for group in report.failures] == [("exception", len(orphans))]
        assert "was taken away since this version was trained" in report.failures[0].error
        # In life the board shows who stood in, although nobody named it a candidate.
        fleet.ingest(next_day())
        later(fleet)
        fleet.score()
        board = {row["recipe"]: row["assets"] for row in fleet.leaderboard(role="live").rows()}
        assert board["day"] == len(orphans) + sum(recipe == "day" for recipe in champions.values())


def test_the_board_of_live_forecasts_shows_the_last_resort(tmp_path: Path) -> None:
    with fleet_in(tmp_path / "fleet", CONFIG.replace('fallback = ["day"]', "fallback = []"), LEVEL) as fleet:
        fleet.ingest(data(30))
        assert fleet.forecast().fell_back == len(ASSETS)
        fleet.ingest(next_day())
        later(fleet)
        fleet.score()
        assert [(row["recipe"], row["assets"]) for row in fleet.leaderboard(role="live").rows()] == [
            ("last_resort", len(ASSETS))
        ]
        assert len(fleet.worst(3, role="live")) == 3


# -- interrupted ---------------------------------------------------------------------------------------------------


def test_an_interrupted_training_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Ctrl-C after the first chunk; what follows does the rest, once."""
    with fleet_in(tmp_path / "twin", CONFIG, LEVEL) as twin:
        cycle(twin, workers=1)
        expected = {name: without_ids(twin.store, name) for name in DETERMINISTIC}
    with fleet_in(tmp_path / "stopped", CONFIG, LEVEL) as fleet:
        fleet.ingest(data(30))
        stopped = fleet.backtest(
            workers=2, progress=lambda progress: os.kill(os.getpid(), signal.SIGINT) if progress.ok == 1 else None
        )
        assert stopped.interrupted
        assert 0 < stopped.ok < len(ASSETS)
        later(fleet)
        rest = fleet.backtest(workers=1)
        assert (rest.ok, rest.skipped) == (len(ASSETS) - stopped.ok, stopped.ok)
        cycle(fleet, workers=1)
        assert {name: without_ids(fleet.store, name) for name in DETERMINISTIC} == expected


# -- a champion is not displaced unheard ---------------------------------------------------------------------------


def test_training_one_recipe_weighs_it_against_the_champion(fleet: Fleet) -> None:
    """`week` is judged last and named alone; where the champion is better it must stay."""
    fleet.ingest(data(30))
    fleet.train(recipes=["day", "level"], promote=True)
    before = dict(fleet.store.sql("select asset_id, recipe from champions").df().to_numpy().tolist())
    later(fleet)
    fleet.train(recipes=["week"], promote=True)
    after = dict(fleet.store.sql("select asset_id, recipe from champions").df().to_numpy().tolist())
    judged = errors(fleet.store.table("forecasts").to_pandas().query("role == 'backtest'"), data(30))
    mae = judged.groupby(["asset_id", "recipe"])["size"].mean()
    for asset in ASSETS:
        held = mae[asset, before[asset]]
        assert after[asset] == ("week" if 1 - mae[asset, "week"] / held > 0.02 else before[asset])
    assert set(before.values()) == {"day", "level"}
    assert set(after.values()) == {"day", "level", "week"}


@pytest.mark.slow
def test_boosting_in_two_processes_says_what_it_says_in_one(tmp_path: Path) -> None:
    boosting = CONFIG.replace(
        "[train]\n", '[recipes.gbm]\nadapter = "lightgbm"\nlags = [24, 25, 168]\nrounds = 20\n\n[train]\n'
    )
    rows = {}
    for workers in (1, 2):
        with fleet_in(tmp_path / f"with-{workers}", boosting, LEVEL) as fleet:
            cycle(fleet, workers=workers)
            rows[workers] = {name: without_ids(fleet.store, name) for name in DETERMINISTIC}
    assert any("'gbm'" in row for row in rows[1]["forecasts"])
    assert rows[1] == rows[2]
