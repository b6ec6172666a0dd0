"""Ids of any shape and series of any kind go through the whole cycle as themselves; what is refused leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.ingest import IngestReport
from store import TsfleetError
from store.clock import FixedClock
from tests.walks.small import BEGIN, fleet_in

IDS = (
    "plant",
    "Plant",
    "PLANT",
    "plant ",
    "../plant",
    "../../etc/passwd",
    "/etc/passwd",
    "plant/../plant",
    "C:\\plant",
    "it's",
    'said "no"',
    "'; drop table assets; --",
    "$asset",
    "{asset}",
    "%s",
    "plant*",
    "plant[0-9]",
    "🏭",
    "🏭🏭",
    "é",
    "工場",
    "NO",
    "nan",
    "null",
    "1",
    "1.0",
    "x" * 512,
)
DAYS = 10
HOURS = pd.date_range(BEGIN, periods=24 * (DAYS + 1), freq="h", unit="us")

CONFIG = """
[fleet]
horizon = 24
seasons = [24]

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.own]
adapter = "MODELS:Level"

[train]
workers = {workers}
fallback = ["day"]

[backtest]
origins = 2

[promotion]
min_points = 1
"""

#: The mean of all readings; it goes through processes and blobs under its asset's name.
LEVEL = """
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Level:
    def fit(self, y, X, task):
        return Fitted(task.static["asset_id"])

    def load(self, blob):
        return Fitted(blob.decode())


@dataclass(frozen=True)
class Fitted:
    name: str

    def save(self):
        return self.name.encode()

    def predict(self, y, X, task):
        assert self.name == task.static["asset_id"]
        return task.frame(np.full(task.horizon, np.nanmean(y)))
"""


def series(ids: tuple[str, ...], days: int = DAYS) -> pd.DataFrame:
    """Asset number n repeats 100 n + its hour of the day: every value says whose it is."""
    times = HOURS[: 24 * days]
    return pd.concat(
        [pd.DataFrame({"unique_id": name, "ds": times, "y": 100.0 * n + times.hour}) for n, name in enumerate(ids)],
        ignore_index=True,
    )


def later(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=1)


def cycle(fleet: Fleet, frame: pd.DataFrame, then: pd.DataFrame) -> IngestReport:
    read = fleet.ingest(frame)
    for verb in (lambda: fleet.train(promote=True), fleet.forecast):
        later(fleet)
        report = verb()
        assert (report.ok, report.clean) == (frame["unique_id"].nunique(), True), report.failures
    fleet.ingest(then)
    later(fleet)
    fleet.score()
    return read


# -- ids -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of strange names after a cycle in two processes."""
    with fleet_in(tmp_path_factory.mktemp("names") / "deep" / "fleet", CONFIG.format(workers=2), LEVEL) as fleet:
        cycle(fleet, series(IDS), series(IDS, DAYS + 1))
        yield fleet


def test_every_id_is_an_asset_of_its_own(named: Fleet) -> None:
    for table in ("assets", "actuals", "champions", "forecasts", "scores", "runs", "versions", "decisions"):
        found = named.store.sql(f"select distinct asset_id from {table}").rows()
        assert sorted(row["asset_id"] for row in found) == sorted(IDS), table


def test_each_forecast_is_made_of_the_assets_own_readings(named: Fleet) -> None:
    published = named.store.table("published").to_pandas()
    assert len(published) == 24 * len(IDS)
    for number, name in enumerate(IDS):
        mine = published[published["asset_id"] == name]
        np.testing.assert_array_equal(mine["mean"].to_numpy(), 100.0 * number + np.arange(24))


def test_each_score_is_the_assets_own(named: Fleet) -> None:
    rows = named.leaderboard(role="live", metrics=["mae"], by="asset").rows()
    assert {row["asset"]: (row["n"], row["mae"]) for row in rows} == dict.fromkeys(IDS, (24, 0.0))
    assert named.leaderboard(role="backtest", metrics=["mae"]).rows()[0]["assets"] == len(IDS)


def test_an_id_selects_itself(named: Fleet) -> None:
    for name in IDS:
        members = named.population(select=[name]).members
        assert name in [member.asset_id for member in members]
        assert len(members) == 1 or "*" in name or "[" in name
        assert named.store.table("champions", assets=[name]).num_rows == 1


def test_an_id_never_becomes_a_path(named: Fleet) -> None:
    folder = named.config.folder
    outside = {path.name for path in (folder.parent, folder.parent.parent) for path in path.iterdir()}
    assert outside == {"deep", "fleet"}
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert not [path for path in inside if "plant" in path or "etc" in path or "🏭" in path]


def test_what_cannot_be_an_id_is_refused_and_nothing_is_stored(named: Fleet) -> None:
    head = named.store.head()
    for bad in ("x" * 513, "é" * 257, "two\nlines", "nul\0", ""):
        frame = series(("good", bad))
        with pytest.raises(TsfleetError) as refused:
            named.ingest(frame)
        assert "\n" not in str(refused.value)
        assert named.store.head() == head


# -- series --------------------------------------------------------------------------------------------------------


def flat(name: str, value: float, days: int) -> pd.DataFrame:
    return pd.DataFrame({"unique_id": name, "ds": HOURS[: 24 * days], "y": value})


def odd(days: int) -> pd.DataFrame:
    below = series(("below",), days).assign(y=lambda frame: -1.0 - frame["y"])
    return pd.concat([flat("constant", 7.0, days), flat("zero", 0.0, days), below], ignore_index=True)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, IngestReport]]:
    with fleet_in(tmp_path_factory.mktemp("series") / "fleet", CONFIG.format(workers=1), LEVEL) as fleet:
        yield fleet, cycle(fleet, odd(DAYS), odd(DAYS + 1))


def test_constant_zero_and_negative_series_are_told(strange: tuple[Fleet, IngestReport]) -> None:
    found: dict[str, set[str]] = {}
    for finding in strange[1].findings:
        found.setdefault(finding.asset_id, set()).add(finding.check)
    assert found == {"constant": {"constant"}, "zero": {"zero"}, "below": {"negative"}}


def test_constant_zero_and_negative_series_are_trained_and_forecast(strange: tuple[Fleet, IngestReport]) -> None:
    published = strange[0].store.table("published").to_pandas().set_index("asset_id")
    assert set(published["role"]) == {"champion"}
    assert published.loc["constant", "mean"].to_list() == [7.0] * 24
    assert published.loc["zero", "mean"].to_list() == [0.0] * 24
    assert published.loc["below", "mean"].to_list() == [-1.0 - hour for hour in range(24)]


def test_what_their_metrics_cannot_say_is_counted_and_not_averaged(strange: tuple[Fleet, IngestReport]) -> None:
    """A perfect forecast everywhere: mae 0; of nothing but zeros there is no share, of no change no scale."""
    board = strange[0].leaderboard(role="live", metrics=["wape", "mae", "smape", "mase_24"]).rows()
    assert [row["mae"] for row in board] == [0.0] * len(board)
    assert sum(row["assets"] for row in board) == 3
    assert sum(row["undefined"] for row in board) == 1
    assert {row["wape"] for row in board} <= {0.0, None}
    by_asset = {
        row["asset"]: row for row in strange[0].leaderboard(role="live", metrics=["mase_24"], by="asset").rows()
    }
    assert {asset: row["mase_24"] for asset, row in by_asset.items()} == {"constant": None, "zero": None, "below": None}


def test_a_fleet_is_not_made_where_its_file_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(TsfleetError) as refused:
        fleet_in(tmp_path / "typo", CONFIG.format(workers=1).replace("horizon", "horizn"))
    assert refused.value.code == "config-invalid"
    assert "horizon" in f"{refused.value} {refused.value.hint}"
    assert not (tmp_path / "typo" / "fleet.store").exists()
