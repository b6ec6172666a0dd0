"""Laws of the map: what an asset sees of several stations is their weighted mean, at the instants that each counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet.config import parse
from fleet.errors import ConfigInvalid, SeriesInvalid
from fleet.frames import covariate_frame
from fleet.ingest import IngestReport, ingest
from fleet.population import load, population
from store import FixedClock, Store

NOW = FixedClock(datetime(2024, 8, 1, tzinfo=UTC))
DAY = pd.Timestamp("2024-06-01", tz="UTC")
TEXT = """
[data]
path = 'data.parquet'
[[covariates]]
path = 'weather.parquet'
series = 'station'
columns = ['temp', 'wind']
known = 'future'
available_at = 'issued'
map = 'map.csv'
"""


class World:
    """Two assets, four days, three stations: s1 says 10, 20, 30, 40, s2 a hundred times that, s3 nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder / "fleet.store", clock=NOW)
        days = pd.date_range(DAY, periods=4, freq="D")
        readings = [pd.DataFrame({"unique_id": a, "ds": days, "y": 1.0}) for a in ("a", "b")]
        pd.concat(readings).to_parquet(folder / "data.parquet")
        values = np.array([10.0, 20.0, 30.0, 40.0])
        weather = [
            pd.DataFrame({"station": name, "ds": days, "temp": values * scale, "wind": -values, "issued": DAY})
            for name, scale in (("s1", 1.0), ("s2", 100.0), ("s3", np.nan))
        ]
        pd.concat(weather).to_parquet(folder / "weather.parquet")

    def ingest(self, rows: str, text: str = TEXT) -> IngestReport:
        (self.folder / "map.csv").write_text(rows)
        return ingest(self.store, parse("[fleet]\nfreq = '1D'\n" + text, self.folder / "fleet.toml"), clock=NOW)

    def seen(self, asset: str = "a", name: str = "temp") -> list[float]:
        """What a model of the asset is shown on the four days."""
        config = parse("[fleet]\nfreq = '1D'\n" + TEXT, self.folder / "fleet.toml")
        snapshot = self.store.snapshot()
        members = population(snapshot, config, select=(), where=None).members
        batch = load(snapshot, config, members, folder=None, with_covariates=True, now=NOW.now())
        if batch.covariates is None:
            return []
        index = pd.date_range(DAY, periods=4, freq="D", unit="us")
        issue = round(NOW.now().timestamp() * 1e6)
        frame = covariate_frame(batch.covariates, batch.assets[asset].covariates, index, issue)
        return [] if frame is None else frame[name].to_list()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def test_several_stations_are_their_weighted_mean(world: World) -> None:
    world.ingest("asset,series,weight\na,s1,3\na,s2,1\nb,s1,\n")
    assert world.seen() == [257.5, 515.0, 772.5, 1030.0]
    assert world.seen(name="wind") == [-10.0, -20.0, -30.0, -40.0]
    assert world.seen("b") == [10.0, 20.0, 30.0, 40.0]


def test_a_link_counts_at_the_instants_that_the_map_names(world: World) -> None:
    world.ingest("asset,series,weight,valid_from,valid_to\na,s1,1,,2024-06-03\na,s2,1,2024-06-02,2024-06-04\n")
    np.testing.assert_array_equal(world.seen(), [10.0, 1010.0, 3000.0, np.nan])


def test_a_mean_is_known_where_all_of_its_parts_are(world: World) -> None:
    world.ingest("asset,series,valid_to\na,s1,\na,s3,2024-06-03\n")
    np.testing.assert_array_equal(world.seen(), [np.nan, np.nan, 30.0, 40.0])


def test_a_map_that_changes_changes_the_links_and_one_that_does_not_writes_nothing(world: World) -> None:
    assert world.ingest("asset,series,weight\na,s1,3\na,s2,1\n").written["links"] == 4
    assert dict(world.ingest("asset,series,weight\na,s1,3\na,s2,1\n").written) == {}
    assert dict(world.ingest("asset,series,weight\na,s1,1\na,s2,1\n").written) == {"links": 2}
    assert world.seen() == [505.0, 1010.0, 1515.0, 2020.0]
    assert dict(world.ingest("asset,series,weight\na,s2,1\n").written) == {"links": 2}
    assert world.seen() == [1000.0, 2000.0, 3000.0, 4000.0]
    world.ingest("asset,series,weight\na,s1,3\na,s2,1\n")
    assert world.seen() == [257.5, 515.0, 772.5, 1030.0]


def test_links_without_a_map_have_no_column_of_weights(world: World) -> None:
    world.ingest("", TEXT.replace("map = 'map.csv'", "link = 'region'").replace("[data]", REGISTER))
    assert "weight" not in world.store.table("links").column_names
    assert world.seen() == [10.0, 20.0, 30.0, 40.0]
    world.ingest("asset,series\na,s2\n")
    assert world.seen() == [1000.0, 2000.0, 3000.0, 4000.0]
    assert world.seen("b") == []


REGISTER = "[assets]\nsql = \"select 'a' as asset_id, 's1' as region union all select 'b', 's1'\"\n[data]"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("asset,station\na,s1\n", 'no column series = "series"'),
        ("asset,series,weight\na,s1,0\n", 'row 1: weight = "0": expected a number above 0'),
        ("asset,series,weight\na,s1,much\n", 'row 1: weight = "much"'),
        ("asset,series,valid_from\na,s1,soon\n", '"soon": expected a date such as 2024-06-10'),
        ("asset,series,valid_from,valid_to\na,s1,2024-06-03,2024-06-02\n", "valid_to 2024-06-02 is not after"),
        ("asset,series\na,s1\na,s1\n", "asset a and series s1 stand twice"),
        ("asset,series\na,\n", "row 1 lacks its asset or its series"),
        ("asset,series\na,s11\n", "1 series are not in the source, as s11"),
    ],
)
def test_a_map_that_does_not_hold_is_one_line(world: World, rows: str, said: str) -> None:
    before = world.store.head()
    with pytest.raises(SeriesInvalid) as caught:
        world.ingest(rows)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert world.store.head() == before


def test_a_map_needs_the_column_of_the_series() -> None:
    with pytest.raises(ConfigInvalid, match="map says which series an asset sees"):
        parse("[[covariates]]\npath = 'w'\ncolumns = 'temp'\nmap = 'map.csv'\n", Path("fleet.toml"))
