"""Cuts the demo's data from the published set, so that anyone can see how it was made.

    python -m jobs.demo.make_data FOLDER

FOLDER holds ``cambridge_electricity_2018_2022.parquet``, ``cambridge_weather_2018_2022.parquet`` (columns
``unique_id, ds`` and values, UTC) and ``cambridge_floor_areas.csv``. Every building metered in 2019 is kept, none is
chosen for looking good; the last day goes into a file of its own, because it is the day that has not happened yet
when the demo issues its forecast.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "data"
START, HELD_BACK, STOP_BEFORE = (pd.Timestamp(day, tz="UTC") for day in ("2019-06-01", "2019-11-15", "2019-11-16"))
SIZES = {"small": 1_000.0, "medium": 5_000.0, "large": float("inf")}  # below so many m2 of floor: this cut's own bands


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes one small Parquet file: the meters give one decimal, so a dictionary of doubles is exact and small."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    index = table.schema.get_field_index("ds")
    table = table.set_column(index, "ds", table["ds"].cast(pa.timestamp("us", tz="UTC")))
    values = [name for name in table.column_names if name != "ds"]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=values,
        column_encoding={"ds": "DELTA_BINARY_PACKED"},
        row_group_size=1 << 20,
    )
    print(f"{path}: {table.num_rows} rows, {path.stat().st_size / 1000:.0f} kB")


def cut(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Keeps the demo's months, rounds to what the instrument gave and writes history and held-back day."""
    kept = frame[(frame.ds >= START) & (frame.ds < STOP_BEFORE)].sort_values(["unique_id", "ds"]).reset_index(drop=True)
    numbers = kept.select_dtypes("number").columns
    kept[numbers] = kept[numbers].astype("float64").round(1)
    folder.mkdir(parents=True, exist_ok=True)
    write(kept[kept.ds < HELD_BACK], folder / "history.parquet")
    write(kept[kept.ds >= HELD_BACK], folder / f"{HELD_BACK:%Y-%m-%d}.parquet")
    return kept


def main(source: Path, made: Path = HERE) -> None:
    """Writes every data file of the demo from the published set in ``source``."""
    electricity = cut(pd.read_parquet(source / "cambridge_electricity_2018_2022.parquet"), made / "electricity")
    weather = pd.read_parquet(source / "cambridge_weather_2018_2022.parquet").drop(columns="unique_id")
    cut(weather.assign(unique_id="bedford"), made / "weather")
    areas = pd.read_csv(source / "cambridge_floor_areas.csv")
    register = pd.DataFrame(
        {"asset_id": areas["Building ID"], "floor_area_m2": areas["GIA (m2)"], "floors": areas["Number of floors"]}
    )
    register = register[register.asset_id.isin(electricity.unique_id.unique())].sort_values("asset_id")
    sizes = pd.cut(register.floor_area_m2, [0.0, *SIZES.values()], labels=list(SIZES), right=False)
    register.insert(1, "kind", sizes.astype("str"))
    register.insert(2, "unit", "kWh")
    register.to_csv(made / "buildings.csv", index=False)
    print(f"buildings.csv: {len(register)} of {electricity.unique_id.nunique()} buildings")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
