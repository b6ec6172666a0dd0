"""A person's word on a forecast: what it changes, until when, and that what the model said is kept and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fleet import Fleet
from fleet.errors import AdjustmentMissing, ConfigInvalid
from store.clock import FixedClock
from tests.walks.small import copy_of, fleet_in

CONFIG = """
[fleet]
horizon = 4
seasons = [24]
quantiles = [0.1, 0.9]

[recipes.ten]
adapter = "MODELS:ten"

[train]
workers = 1
"""
MODELS = '''
import pandas as pd


def ten(y, X, task):
    """10, 20, 30, 40 with a tenth less and more."""
    mean = [10.0 * (k + 1) for k in range(len(task.target))]
    return task.frame(mean, {0.1: [0.9 * m for m in mean], 0.9: [1.1 * m for m in mean]})
'''
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
END = datetime(2024, 3, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)


def readings(hours: int) -> pd.DataFrame:
    """From the first of March on the number 12 every hour, of two assets."""
    times = pd.date_range(BEGIN, periods=hours, freq="h", unit="us")
    return pd.concat([pd.DataFrame({"unique_id": name, "ds": times, "y": 12.0}) for name in "ab"])


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two assets with a champion, and the forecast of the hours 0 to 4 of March 11."""
    with fleet_in(tmp_path_factory.mktemp("adjusting") / "fleet", CONFIG, MODELS, at=END) as made:
        made.ingest(readings(240))
        assert made.train(judge=False).ok == 2
        assert made.promote("ten").ok == 2
        assert made.forecast().ok == 2
        return made.config.folder


@pytest.fixture
def fleet(issued: Path, tmp_path: Path) -> Iterator[Fleet]:
    with copy_of(issued, tmp_path / "fleet", END) as made:
        yield made


def later(fleet: Fleet, hours: int) -> None:
    """Readings go on, and the next issue with them."""
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.set(END + hours * HOUR)
    fleet.ingest(readings(240 + hours))
    fleet.forecast()


def published(fleet: Fleet, asset: str = "a", issue: datetime = END) -> list[tuple[str, float, float, float]]:
    """Role, mean, q10 and q90 of each step of an issue."""
    asked = "select * from published where asset_id = $asset and issue_time = $issue order by valid_time"
    rows = fleet.store.sql(asked, {"asset": asset, "issue": issue}).rows()
    return [(row["role"], *(round(row[name], 9) for name in ("mean", "q10", "q90"))) for row in rows]


RAW = [("champion", 10.0, 9.0, 11.0), ("champion", 20.0, 18.0, 22.0), ("champion", 30.0, 27.0, 33.0),
       ("champion", 40.0, 36.0, 44.0)]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "second"),
    [
        ("replace", 25.0, ("manual", 25.0, 23.0, 27.0)),
        ("add", -5.0, ("manual", 15.0, 13.0, 17.0)),
        ("scale", 0.5, ("manual", 10.0, 9.0, 11.0)),
    ],
)
def test_the_quantiles_go_with_the_mean_and_only_the_steps_that_are_meant_change(
    fleet: Fleet, kind: Any, value: float, second: tuple[str, float, float, float]
) -> None:
    done = fleet.adjust(kind, value, valid_from=END + HOUR, valid_to=END + 2 * HOUR, reason="tests", select=["a"])
    assert (len(done.ids), done.steps, done.late) == (1, 1, 0)
    assert published(fleet) == [RAW[0], second, *RAW[2:]]
    assert published(fleet, "b") == RAW
    kept = fleet.store.sql(
        "select role, count(*) as n from forecasts where asset_id = 'a' group by 1 order by 1"
    ).rows()
    assert [(row["role"], row["n"]) for row in kept] == [("champion", 4), ("manual", 1)]


def test_two_words_on_one_step_follow_each_other(fleet: Fleet) -> None:
    fleet.adjust("add", 2.0, valid_from=END, valid_to=END + 2 * HOUR, reason="more", select=["a"])
    fleet.adjust("scale", 2.0, valid_from=END + HOUR, valid_to=END + 3 * HOUR, reason="twice", select=["a"])
    assert [mean for _, mean, _, _ in published(fleet)] == [12.0, 44.0, 60.0, 40.0]


def test_a_word_holds_for_later_issues_until_it_expires(fleet: Fleet) -> None:
    window = {"valid_from": END, "valid_to": END + 100 * HOUR, "select": ["a"]}
    fleet.adjust("add", 1.0, reason="a day", expires_at=END + 2 * HOUR, **window)
    later(fleet, 1)
    assert published(fleet, issue=END + HOUR)[0] == ("manual", 11.0, 10.0, 12.0)
    later(fleet, 2)
    assert published(fleet, issue=END + 2 * HOUR) == RAW
    assert published(fleet)[0][0] == "manual"  # what was said before stays said
    assert [row["state"] for row in fleet.adjustments(all=True)] == ["expired"]
    assert fleet.adjustments() == []


def test_a_word_that_is_taken_back_changes_nothing_any_more_and_a_reissue_does_not_bring_it_back(fleet: Fleet) -> None:
    done = fleet.adjust("replace", 0.0, valid_from=END, valid_to=END + 100 * HOUR, reason="out", select=["a"])
    assert [mean for _, mean, _, _ in published(fleet)] == [0.0] * 4
    fleet.revoke(done.ids)
    assert [row[1:] for row in published(fleet)] == [row[1:] for row in RAW]
    fleet.forecast(issue_time=END, reissue=True)
    assert [row[1:] for row in published(fleet)] == [row[1:] for row in RAW]
    later(fleet, 1)
    assert published(fleet, issue=END + HOUR) == RAW
    assert [row["state"] for row in fleet.adjustments(all=True)] == ["revoked"]


def test_a_reissue_says_it_again(fleet: Fleet) -> None:
    fleet.adjust("add", 1.0, valid_from=END, valid_to=END + HOUR, reason="more", select=["a"])
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(minutes=5)
    fleet.forecast(issue_time=END, reissue=True)
    assert published(fleet) == [("manual", 11.0, 10.0, 12.0), *RAW[1:]]


def test_what_was_said_is_known_from_when_it_was_said(fleet: Fleet) -> None:
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(minutes=30)
    fleet.adjust("replace", 7.0, valid_from=END, valid_to=END + HOUR, reason="heard", select=["a"])
    for minutes, mean in ((29, 10.0), (30, 7.0)):
        asked = "select mean from forecast_as_of($t) where asset_id = 'a' order by valid_time"
        assert fleet.store.sql(asked, {"t": END + timedelta(minutes=minutes)}).rows()[0]["mean"] == mean


def test_raw_and_adjusted_are_both_scored_and_shown(fleet: Fleet) -> None:
    """The truth is 12: of the first two steps the model is off by 2 and 8, the person by 0 and 3."""
    fleet.adjust("add", 2.0, valid_from=END, valid_to=END + HOUR, reason="more", select=["a"])
    fleet.adjust("replace", 15.0, valid_from=END + HOUR, valid_to=END + 2 * HOUR, reason="less", select=["a"])
    assert isinstance(fleet.clock, FixedClock)
    fleet.clock.advance(hours=2)
    fleet.ingest(readings(242))
    fleet.score()
    board = {row["recipe"]: row for row in fleet.leaderboard(role="live", metrics=["mae", "pinball_q10"]).rows()}
    assert board.keys() == {"ten", "ten+manual"}
    assert board["ten"]["n"] == 4
    assert board["ten"]["mae"] == pytest.approx(5.0)
    assert board["ten+manual"]["n"] == 2
    assert board["ten+manual"]["mae"] == pytest.approx(1.5)
    # q10 is 11 and 13 there: 0.1 * (12 - 11), 0.9 * (13 - 12)
    assert board["ten+manual"]["pinball_q10"] == pytest.approx(np.mean([0.1, 0.9]))
    worth = [(row["points"], row["mae_raw"], row["mae_adjusted"]) for row in fleet.adjustments(all=True)]
    assert worth == [(1, 2.0, 0.0), (1, 8.0, 3.0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "times"},
        {"value": float("nan")},
        {"kind": "scale", "value": -1.0},
        {"valid_to": END},
        {"valid_from": END.replace(tzinfo=None)},
        {"reason": " "},
    ],
)
def test_a_word_that_means_nothing_is_refused_and_nothing_is_stored(fleet: Fleet, wrong: Mapping[str, Any]) -> None:
    given = {"kind": "add", "value": 1.0, "valid_from": END, "valid_to": END + HOUR, "reason": "tests", **wrong}
    with pytest.raises(ConfigInvalid):
        fleet.adjust(given.pop("kind"), given.pop("value"), **given)
    assert fleet.adjustments(all=True) == []
    with pytest.raises(AdjustmentMissing):
        fleet.revoke("none")
