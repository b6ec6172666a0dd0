"""Every example fleet runs, from data files to forecasts, on small made-up data of the form that it describes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.cli.exits import Exit
from jobs.cli.main import run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def buildings(folder: Path) -> None:
    times = pd.date_range("2024-01-08", periods=24 * 70, freq="h", tz="UTC")
    temperature = 8 + 6 * np.sin(np.arange(len(times)) * 2 * np.pi / 24)
    (folder / "meters").mkdir()
    for name in ("b1", "B1", "annexe"):
        kwh = 50 - temperature + np.random.default_rng(len(name)).normal(0, 1, len(times))
        pd.DataFrame({"meter": name, "at": times, "kwh": kwh}).to_parquet(
            folder / "meters" / f"{name}-{ord(name[0])}.parquet"
        )
    later = pd.date_range(times[0], periods=len(times) + 24, freq="h")
    weather = pd.DataFrame({"at": later, "temp": 8 + 6 * np.sin(np.arange(len(later)) * 2 * np.pi / 24)})
    weather.to_parquet(folder / "weather.parquet")
    (folder / "assets.csv").write_text("asset_id,kind,region\nb1,large,north\nB1,small,north\nannexe,small,south\n")


def wind(folder: Path) -> None:
    times = pd.date_range("2024-01-01 01:00", periods=24 * 60, freq="h", tz="UTC")
    (folder / "scada").mkdir()
    (folder / "nwp").mkdir()
    for number, farm in enumerate(("col du vent", "plaine")):
        speed = 8 + 4 * np.sin(np.arange(len(times) + 168) / 30 + number)
        power = pd.DataFrame({"farm": farm, "stamp": times, "power_kw": 120.0 * speed[: len(times)] ** 2})
        power.iloc[100:148, 2] = np.nan
        power.to_parquet(folder / "scada" / f"{number}.parquet")
        issues = []
        for day in range(63):  # the weather goes on while the meters are two days late
            issued = times[0] + pd.Timedelta(days=day, hours=-1)
            at = pd.date_range(issued, periods=72, freq="h")
            issues.append(
                pd.DataFrame({"farm": farm, "issued": issued, "stamp": at, "wind_speed": speed[day * 24 :][:72]})
            )
        pd.concat(issues).to_parquet(folder / "nwp" / f"{number}.parquet")
    (folder / "farms.csv").write_text("farm,kind,capacity\ncol du vent,wind,20\nplaine,wind,20\n")


def parcels(folder: Path) -> None:
    days = pd.date_range("2024-01-01", periods=200, freq="D")
    rows = [
        pd.DataFrame({"depot": depot, "day": days.strftime("%Y-%m-%d"), "parcels": 100 * size + 10 * days.day_of_week})
        for size, depot in enumerate(("Köln", "Kiel"), start=1)
    ]
    pd.concat([*rows, rows[0].tail(1)]).to_csv(folder / "parcels.csv", index=False)


@pytest.mark.parametrize(
    ("make", "assets"), [(buildings, 3), (wind, 2), (parcels, 2)], ids=lambda value: getattr(value, "__name__", "")
)
def test_an_example_fleet_runs_from_files_to_forecasts(
    make: Callable[[Path], None],
    assets: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / make.__name__
    shutil.copytree(CONFIGS / make.__name__, folder)
    make(folder)
    monkeypatch.chdir(folder)

    def typed(*words: str) -> object:
        capsys.readouterr()
        code = run([*words, "--json"])
        out = capsys.readouterr()
        assert code == Exit.OK, f"tsfleet {' '.join(words)}: {out.err}{out.out}"
        return json.loads(out.out)

    typed("ingest")
    trained = typed("train", "--workers", "1")
    assert isinstance(trained, dict)
    assert trained["ok"] == assets
    typed("forecast", "--workers", "1")
    champions = typed("sql", "select count(distinct asset_id) as n from forecasts where role = 'champion'")
    assert champions == [{"n": assets}]
    board = typed("leaderboard")
    assert isinstance(board, list)
    assert len(board) == 3
