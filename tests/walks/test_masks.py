"""Readings under a mask: not learnt from once the mask is known, not scored, and counted again when it goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from tests.walks.small import fleet_in

pytestmark = pytest.mark.slow  # the whole cycle again and again

BEGIN = pd.Timestamp("2024-03-01", tz="UTC")
CONFIG = """
[fleet]
horizon = 24
seasons = [24]

[[masks]]
path = "masks.csv"
POLICY
[recipes.day]
adapter = "seasonal_naive"
season = 24

[train]
workers = 1

[backtest]
origins = 3

[promotion]
min_points = 24
"""
KEEP = '[mask_policy.outage]\ntraining = "keep"\nscoring = "keep"\n'


def readings(days: int) -> pd.DataFrame:
    """On day d, counted from 0, the reading of hour h is 100 d + h."""
    hours = np.arange(24 * days)
    y = 100.0 * (hours // 24) + hours % 24
    return pd.DataFrame({"unique_id": "a", "ds": BEGIN + pd.to_timedelta(hours, unit="h"), "y": y})


def made(folder: Path, *masks: str, policy: str = "", days: int = 10) -> Fleet:
    fleet = fleet_in(folder, CONFIG.replace("POLICY", policy))
    fleet.ingest(readings(days))
    write(folder, *masks)
    fleet.ingest()
    return fleet


def write(folder: Path, *masks: str) -> None:
    text = "\n".join(["asset_id,valid_from,valid_to,reason,available_at,actor", *masks])
    (folder / "masks.csv").write_text(text + "\n")


def error(fleet: Fleet, role: str) -> tuple[int, float]:
    """Points and the sum of absolute errors."""
    row = fleet.store.sql(f"select sum(n) as n, sum(sum_abs_e) as e from scores where role = '{role}'").rows()[0]
    return int(row["n"]), float(row["e"])


def test_a_mask_is_stored_once_and_what_changes_of_it_again(tmp_path: Path) -> None:
    mask = "a,2024-03-05T10:00Z,2024-03-05T12:00Z,outage,,kim"
    fleet = made(tmp_path, mask)
    assert fleet.ingest().written == {}
    (row,) = fleet.store.table("masks").to_pylist()
    assert (row["asset_id"], row["reason"], row["actor"]) == ("a", "outage", "kim")
    assert row["available_at"] == fleet.clock.now()
    write(tmp_path, mask.replace("12:00", "13:00"))
    assert fleet.ingest().written == {"masks": 1}
    assert fleet.ingest().written == {}
    (row,) = fleet.store.table("masks").to_pylist()
    assert row["valid_to"].hour == 13


@pytest.mark.parametrize(
    "row",
    ["a,2024-03-05T10:00Z,2024-03-05T09:00Z,outage,,", "a,,2024-03-05T09:00Z,outage,,", "a,soon,,outage,,",
     "a,2024-03-05T10:00Z,,outage,2030-01-01T00:00Z,"],
)  # fmt: skip
def test_a_mask_that_says_nothing_sensible_is_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(Exception, match="row 1") as refused:
        made(tmp_path, row)
    assert getattr(refused.value, "code", "") == "series-invalid"


def test_masked_points_are_left_out_of_a_backtest(tmp_path: Path) -> None:
    """Every error is 100; two of the 72 points are masked, and the mask came too late for any origin."""
    fleet = made(tmp_path, "a,2024-03-09T10:00Z,2024-03-09T12:00Z,outage,2024-05-01T00:00Z,")
    fleet.backtest()
    assert error(fleet, "backtest") == (70, 7_000.0)


def test_models_do_not_see_a_masked_reading_once_the_mask_is_known_and_see_it_before(tmp_path: Path) -> None:
    """Day 8 forecasts day 9; of its masked hours an earlier day's are repeated, 100 further off."""
    fleet = made(tmp_path / "known", "a,2024-03-09T10:00Z,2024-03-09T12:00Z,outage,2024-03-09T12:00Z,")
    fleet.backtest()
    assert error(fleet, "backtest") == (70, 7_200.0)
    kept = made(tmp_path / "kept", "a,2024-03-09T10:00Z,2024-03-09T12:00Z,outage,2024-03-09T12:00Z,", policy=KEEP)
    kept.backtest()
    assert error(kept, "backtest") == (72, 7_200.0)
    policy = KEEP.replace('training = "keep"', 'training = "drop"')
    half = made(tmp_path / "half", "a,2024-03-09T10:00Z,2024-03-09T12:00Z,outage,2024-03-09T12:00Z,", policy=policy)
    half.backtest()
    assert error(half, "backtest") == (72, 7_400.0)


def test_a_mask_on_what_was_judged_has_it_judged_again_and_one_elsewhere_does_not(tmp_path: Path) -> None:
    fleet = made(tmp_path)
    assert fleet.backtest().ok == 1
    far = "a,2024-03-30T10:00Z,2024-03-30T12:00Z,outage,2024-05-01T00:00Z,"
    write(tmp_path, far)
    fleet.ingest()
    assert fleet.backtest().skipped == 1
    write(tmp_path, far, "a,2024-03-09T10:00Z,2024-03-09T12:00Z,outage,2024-05-01T00:00Z,")
    fleet.ingest()
    assert fleet.backtest().ok == 1
    board = fleet.leaderboard(metrics=["mae"]).rows()
    assert [(row["n"], row["mae"]) for row in board] == [(70, 100.0)]


def test_live_scores_follow_the_masks(tmp_path: Path) -> None:
    """The forecast of day 10 is off by 100; its points come and go with their masks and the policy."""
    fleet = made(tmp_path)
    fleet.train(promote=True)
    fleet.forecast()
    fleet.ingest(readings(11))
    fleet.score()
    assert error(fleet, "champion") == (24, 2_400.0)
    begins = "a,2024-03-11T06:00Z"
    write(tmp_path, f"{begins},2024-03-11T09:00Z,outage,,")
    fleet.ingest()
    report = fleet.score()
    assert error(fleet, "champion") == (21, 2_100.0)
    assert any("3 forecast steps are not scored" in note for note in report.notes)
    assert fleet.score().skipped == 1
    write(tmp_path, f"{begins},2024-03-11T07:00Z,outage,,")  # shorter
    fleet.ingest()
    fleet.score()
    assert error(fleet, "champion") == (23, 2_300.0)
    write(tmp_path, f"{begins},,outage,,")  # it lasts
    fleet.ingest()
    fleet.score()
    assert error(fleet, "champion") == (6, 600.0)
    text = (tmp_path / "fleet.toml").read_text()
    for policy, n in ((KEEP, 24), ("", 6)):
        (tmp_path / "fleet.toml").write_text(text.replace("[train]", policy + "[train]"))
        with Fleet.open(tmp_path / "fleet.toml") as again:
            again.score()
            assert error(again, "champion") == (n, 100.0 * n)
    write(tmp_path, f"{begins},2024-03-11T06:00Z,outage,,")  # withdrawn
    fleet.ingest()
    fleet.score()
    assert error(fleet, "champion") == (24, 2_400.0)
