"""The demo's data: small, attributed, cut where they say, and never laid over somebody's folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from jobs.demo import DATA, ISSUE_TIME, deliver, lay_out
from jobs.errors import UsageInvalid


def test_the_data_stay_below_a_megabyte_and_a_half() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 1_500_000


def test_history_ends_where_the_held_back_day_begins() -> None:
    for kind, series in (("electricity", 101), ("weather", 1)):
        history = pq.read_table(DATA / kind / "history.parquet").to_pandas()
        held_back = pq.read_table(DATA / kind / "2019-11-15.parquet").to_pandas()
        assert history.ds.max() + pd.Timedelta("1h") == held_back.ds.min() == pd.Timestamp(ISSUE_TIME)
        assert len(held_back) == 24 * series
        assert not pd.concat([history, held_back]).duplicated(["unique_id", "ds"]).any()


def test_readings_are_the_archives_at_its_one_decimal() -> None:
    y = pq.read_table(DATA / "electricity" / "history.parquet")["y"].to_pandas()
    assert ((y * 10).round() / 10 == y).all()


def test_source_and_licence_stand_beside_the_data() -> None:
    text = (DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for word in ("Langtry", "Choudhary", "MIT License", "10.5281/zenodo.10955332", "Met Office"):
        assert word in text


def test_four_recipes_of_three_libraries_beside_the_naive_one() -> None:
    recipes = tomllib.loads((DATA / "fleet.toml").read_text(encoding="utf-8"))["recipes"]
    adapters = [
        recipe["adapter"] for recipe in recipes.values() if recipe["adapter"] not in ("naive", "seasonal_naive", "mean")
    ]
    assert len(adapters) >= 4
    assert len(set(adapters)) >= 3


def test_laying_out_again_touches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    lay_out(folder)
    (folder / "fleet.toml").write_text("mine", encoding="utf-8")
    lay_out(folder)
    deliver(folder)
    deliver(folder)
    assert (folder / "fleet.toml").read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in (folder / "electricity").iterdir()) == ["2019-11-15.parquet", "history.parquet"]


def test_somebodys_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageInvalid):
        lay_out(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_the_script_makes_the_files_again(tmp_path: Path, test_data: Path) -> None:
    from jobs.demo import make_data

    make_data.main(test_data, tmp_path)
    for name in ("electricity/history.parquet", "electricity/2019-11-15.parquet", "weather/history.parquet"):
        assert pq.read_table(tmp_path / name).equals(pq.read_table(DATA / name))
    assert (tmp_path / "buildings.csv").read_bytes() == (DATA / "buildings.csv").read_bytes()
