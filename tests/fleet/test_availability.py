"""Laws of availability: when a value counts as known, by what its source says and by when it came."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet.config import parse
from fleet.errors import ConfigInvalid, SeriesInvalid
from fleet.frames import History, Rows, instants
from fleet.ingest import IngestReport, ingest
from store import FixedClock, Store

DAY = pd.Timestamp("2024-06-01", tz="UTC")
FIRST, LATER, LAST = (datetime(2024, 6, day, 12, tzinfo=UTC) for day in (3, 5, 7))
HOUR = pd.Timedelta("1h")


class World:
    """A store, and one ingest of a frame at a time of day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder / "fleet.store", clock=FixedClock(FIRST))

    def ingest(self, at: datetime, frame: pd.DataFrame | None, text: str = "[data]\n") -> IngestReport:
        config = parse(text, self.folder / "fleet.toml", check_recipes=False)
        return ingest(self.store, config, clock=FixedClock(at), source=frame)

    def known_at(self, at: datetime) -> list[float]:
        table = self.store.snapshot().table("actuals_all")
        rows = Rows(
            instants(table["valid_time"]),
            table["y"].to_numpy(),
            instants(table["available_at"]),
            np.arange(table.num_rows),
        )
        return History(rows, "1h", "UTC").known_at(round(at.timestamp() * 1e6)).tolist()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def readings(*values: float) -> pd.DataFrame:
    times = pd.date_range(DAY, periods=len(values), freq="h")
    return pd.DataFrame({"unique_id": "a", "ds": times, "y": values})


# -- revisions of a source that does not date them -------------------------------------------------------------------


def test_a_revision_is_known_from_the_ingest_that_brought_it(world: World) -> None:
    world.ingest(FIRST, readings(1, 2, 3))
    world.ingest(LATER, readings(1, 20, 3, 4))
    world.ingest(LAST, readings(1, 200, 3, 4))
    assert world.known_at(FIRST) == [1, 2, 3, 4]
    assert world.known_at(LATER) == [1, 20, 3, 4]
    assert world.known_at(LAST) == [1, 200, 3, 4]
    assert world.store.table("actuals").to_pandas().y.to_list() == [1, 200, 3, 4]


def test_a_reading_that_was_missing_at_first_is_known_when_it_comes(world: World) -> None:
    world.ingest(FIRST, readings(1, np.nan, 3))
    world.ingest(LATER, readings(1, 2, 3))
    np.testing.assert_array_equal(world.known_at(FIRST), [1, np.nan, 3])
    assert world.known_at(LATER) == [1, 2, 3]


def test_a_revision_waits_for_the_delay_of_its_source_where_that_ends_later(world: World) -> None:
    text = "[data]\ndelay = '5d'\n"
    world.ingest(FIRST, readings(1, 2), text)
    world.ingest(LATER, readings(10, 2), text)
    stored = world.store.table("actuals").to_pandas()
    assert list(stored.available_at) == [DAY + HOUR + pd.Timedelta("5D"), DAY + 2 * HOUR + pd.Timedelta("5D")]
    assert list(stored.y) == [10, 2]


def test_an_old_error_put_right_may_count_as_always_known(world: World) -> None:
    world.ingest(FIRST, readings(1, 2e9, 3))
    world.ingest(LATER, readings(1, 2, 3), "[data]\nrevisions = 'known_then'\n")
    assert world.known_at(FIRST) == [1, 2, 3]


def test_a_revision_is_in_force_whatever_the_value_before_claimed(world: World) -> None:
    """The first file dates its values, into the future; the second one does not."""
    dated = readings(1, 2).assign(known=pd.Timestamp(LAST) + pd.Timedelta("365D"))
    world.ingest(FIRST, dated, "[data]\navailable_at = 'known'\n")
    world.ingest(LATER, readings(1, 20))
    assert world.store.table("actuals").to_pandas().y.to_list() == [1, 20]


def test_another_history_has_to_say_when_it_was_known(world: World) -> None:
    """A scale that was forgotten changes every reading; known from now on, no backtest would ever see them."""
    frame = readings(*range(300))
    world.ingest(FIRST, frame)
    with pytest.raises(SeriesInvalid, match="299 of 300 stored readings of asset a change at once"):
        world.ingest(LATER, frame, "[data]\nscale = 10.0\n")
    world.ingest(LATER, frame, "[data]\nscale = 10.0\nrevisions = 'known_then'\n")
    assert world.known_at(datetime(2024, 6, 20, tzinfo=UTC)) == [10.0 * value for value in range(300)]
    world.ingest(LAST, frame, "[data]\nrevisions = 'known_now'\n")
    assert world.known_at(LATER)[:2] == [0.0, 10.0]


def test_the_same_file_twice_makes_no_revision(world: World) -> None:
    world.ingest(FIRST, readings(1, 2, 3))
    world.ingest(LATER, readings(1, 20, 3))
    assert dict(world.ingest(LAST, readings(1, 20, 3)).written) == {}


def test_a_revised_covariate_is_known_from_the_ingest_that_brought_it(world: World) -> None:
    text = "[data]\npath = 'y.parquet'\n[[covariates]]\npath = 'x.parquet'\ncolumns = ['temp']\n"
    readings(1, 2).to_parquet(world.folder / "y.parquet")
    for at, temps in ((FIRST, [5.0, 6.0]), (LATER, [5.0, 7.0])):
        weather = pd.DataFrame({"ds": [DAY, DAY + HOUR], "temp": temps})
        weather.to_parquet(world.folder / "x.parquet")
        world.ingest(at, None, text)
    rows = world.store.table("covariates_all").to_pandas()
    assert list(zip(rows.value, rows.available_at, strict=True)) == [
        (5.0, DAY + HOUR),
        (6.0, DAY + 2 * HOUR),
        (7.0, pd.Timestamp(LATER)),
    ]


# -- what the column says, and later ---------------------------------------------------------------------------------


def test_a_publication_delay_is_added_to_what_the_column_says(world: World) -> None:
    text = "[data]\navailable_at = 'known'\npublication_delay = '90min'\n"
    world.ingest(FIRST, readings(1).assign(known=DAY + 5 * HOUR), text)
    assert list(world.store.table("actuals").to_pandas().available_at) == [DAY + 6.5 * HOUR]


def test_a_publication_delay_without_the_column_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="publication_delay is added to the times of the column available_at"):
        parse("[data]\npublication_delay = '6h'\n", Path("fleet.toml"))
    with pytest.raises(ConfigInvalid, match='did you mean "publication_delay"'):
        parse("[data]\npublicationdelay = '6h'\n", Path("fleet.toml"))
