"""A feed that breaks before the gate, and a forecast that dies half way: everybody has a forecast, once, on time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import feed, halfway

pytestmark = pytest.mark.slow  # real trees, thousands of assets, a process that is killed


@pytest.mark.parametrize(("day", "steps"), [("2024-03-30", 92), ("2024-06-10", 96), ("2024-10-26", 100)])
def test_who_lives_on_a_feed_that_broke_has_a_fallback_on_time_and_what_was_sent_stays(
    tmp_path: Path, day: str, steps: int
) -> None:
    found = feed.walked(tmp_path, day, 6)
    assert (found["ingest_at_11_20"], found["ingest_at_12_05"]) == ("failed", "ok")
    assert "noon.parquet" in str(found["said"])
    assert (found["on_time"], found["champions"], found["fallbacks"], found["failed"]) == (6, 2, 4, 0)
    assert found["causes"] == {"missing_covariate": 4}
    assert (found["files"], found["rows_sent"], found["columns"], found["empty_values"]) == (1, 6, steps, 0)
    assert (found["late_assets"], found["late_rows_kept"]) == (4, 4 * steps)
    assert (found["changed_after_gate"], found["files_after"]) == (0, 1)


def test_a_forecast_that_is_killed_half_way_and_run_again_is_that_of_an_unbroken_run(tmp_path: Path) -> None:
    found = halfway.walked(tmp_path, 4_000)  # so many that several commits follow the one at which it is killed
    assert 48_000 <= found["rows_when_killed"] < 96_000
    assert (found["rows_published"], found["rows_stored"]) == (96_000, 96_000)
    assert (found["doubled"], found["lost"], found["other_than_unbroken"]) == (0, 0, 0)
