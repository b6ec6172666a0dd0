"""The fleet beside its own past: figures by hand, the same from the same store, whatever else is in it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import ConfigInvalid
from fleet.review import changes
from jobs.work.compare import run
from tests.jobs.watched import NOW, Watched

HOSTILE = "<img src=x onerror=alert(1)>"
EIGHT = {f"p{k}": {"kind": "wind"} for k in range(7)} | {HOSTILE: {"kind": "sun"}}


@pytest.fixture
def world(tmp_path: Path) -> Watched:
    """p0 twice as bad as it was, p1 half as bad, p2 as noisy as before, p3 without scores of old, p4 silent."""
    made = Watched(tmp_path, "", EIGHT)
    made.readings({"p4": NOW - timedelta(days=3)})
    past = [0.9, 1.1] * 14
    made.scores(
        {
            "p0": past + [2.0] * 7,
            "p1": past + [0.5] * 7,
            "p2": [0.2, 1.8] * 14 + [1.5] * 7,
            "p3": [9.0] * 7,
            **{name: past + [1.0] * 7 for name in ("p4", "p5", "p6", HOSTILE)},
        },
        covered=18,
    )
    return made


def test_each_asset_is_beside_its_own_past(world: Watched) -> None:
    rows = {row["asset_id"]: row for row in world.fleet.compare(at=NOW).arrow().to_pylist()}
    assert {name: rows[name]["verdict"] for name in EIGHT} == {
        "p0": "worse", "p1": "better", "p2": "steady", "p3": "unknown",
        "p4": "steady", "p5": "steady", "p6": "steady", HOSTILE: "steady",
    }  # fmt: skip
    assert (rows["p0"]["mae_now"], rows["p0"]["mae_before"]) == pytest.approx((2.0, 1.0))
    assert rows["p0"]["change"] == pytest.approx(1.0)
    # 28 days of 0.9 and 1.1 vary by 0.01 * 28 / 27; the mean of seven differs from that of 28 by so much:
    assert rows["p0"]["noise"] == pytest.approx(1.0 / np.sqrt(0.01 * 28 / 27 * (1 / 7 + 1 / 28)))
    assert rows["p3"]["mae_before"] is None
    assert (rows["p0"]["points"], rows["p0"]["points_before"]) == (7 * 24, 28 * 24)


def test_metrics_of_the_fleet_are_over_the_assets_of_both_windows(world: Watched) -> None:
    """p3 has no past and changes nothing: 2.0, 0.5, 1.5 and four times 1.0 beside seven times 1.0."""
    mae = world.fleet.compare(at=NOW).metrics[0]
    assert (mae["metric"], mae["assets"], mae["larger"]) == ("mae", 7, 2)
    assert (mae["mean_now"], mae["mean_before"]) == pytest.approx((8.0 / 7, 1.0))
    assert (mae["median_now"], mae["median_before"]) == pytest.approx((1.0, 1.0))


def test_an_asset_stands_apart_only_among_enough_peers(world: Watched) -> None:
    """Of the seven of a kind p3 is far off; the only one of its kind has nobody to be beside."""
    found = world.fleet.compare(at=NOW)
    assert next(row["asset_id"] for row in found.rows("apart")) == "p3"
    rows = {row["asset_id"]: row for row in found.arrow().to_pylist()}
    assert rows[HOSTILE]["peers_wape"] is None
    assert rows["p3"]["peers_wape"] == pytest.approx(0.1)


def test_intervals_are_counted_over_all_points(world: Watched) -> None:
    (row,) = world.fleet.compare(at=NOW).coverage
    assert row["interval"] == pytest.approx(0.8)
    assert row["now"] == pytest.approx(18 / 24)
    assert (row["assets"], row["off"]) == (8, 0)


def test_a_silent_asset_and_an_old_champion_are_told(world: Watched) -> None:
    found = world.fleet.compare(at=NOW)
    assert [(row["asset_id"], row["silent_h"]) for row in found.rows("silent")] == [("p4", 72.0)]
    assert found.counts["stale"] == 0  # nobody knows what these champions learnt, which is told as such
    assert {row["learnt_d"] for row in found.arrow().to_pylist()} == {None}


def test_readings_whose_level_left_what_it_was_have_drifted(tmp_path: Path) -> None:
    """Readings alternate between 10 and 20, so their spread is 10; then one asset reads 20 and 40."""
    world = Watched(tmp_path, "", {"a": {}, "b": {}})
    world.readings()
    week = [NOW - timedelta(hours=k) for k in range(1, 7 * 24 + 1)]
    rows = [{"asset_id": "b", "valid_time": t, "y": 20.0 * (1 + k % 2), "available_at": t} for k, t in enumerate(week)]
    world.write("actuals", rows)
    found = world.fleet.compare(at=NOW)
    (row,) = found.rows("drifted")
    assert row["asset_id"] == "b"
    assert row["level_shift"] == pytest.approx((30 - 15) / 10)
    assert row["spread_change"] == pytest.approx(1.0)


def test_what_becomes_known_later_changes_no_report_of_before(world: Watched) -> None:
    """Days from the slot on are not looked at, nor readings that were not known then."""
    before = world.fleet.compare(at=NOW)
    world.scores({"p0": [99.0] * 3}, end=NOW.date() + timedelta(days=3))
    late = {"valid_time": NOW - timedelta(hours=1), "y": 1e6, "available_at": NOW + timedelta(hours=1)}
    world.write("actuals", [{"asset_id": "p5", **late}])
    after = world.fleet.compare(at=NOW)
    # A reading that takes the place of another one leaves a hole in what is asked of today's rows.
    same = [name for name in before.table.column_names if name not in ("level_shift", "spread_change", "drift")]
    assert after.table.select(same).equals(before.table.select(same))


def test_a_report_is_the_same_from_the_same_store(world: Watched) -> None:
    first, second = world.fleet.compare(at=NOW), world.fleet.compare(at=NOW)
    assert first.body() == second.body()
    assert first.table.equals(second.table)
    assert json.loads(json.dumps(first.body(), allow_nan=False)) == first.body()


def test_a_fleet_without_scores_has_a_report_that_says_so(tmp_path: Path) -> None:
    world = Watched(tmp_path, "")
    found = world.fleet.compare(at=NOW)
    assert found.counts["unknown"] == 3
    assert "nothing was scored" in found.html()


def test_a_wish_that_cannot_be_is_refused(world: Watched) -> None:
    for wish in ({"recent": 0}, {"effect": 0.0}, {"at": datetime(2024, 6, 1)}):  # noqa: DTZ001  that is the mistake
        with pytest.raises(ConfigInvalid):
            world.fleet.compare(**wish)  # type: ignore[arg-type]  # one of each kind


def test_a_notebook_sees_one_line_and_a_small_card_without_markup_of_names(world: Watched) -> None:
    found = world.fleet.compare(at=NOW)
    assert "\n" not in repr(found)
    assert "1 worse, 1 better" in repr(found)
    card = found._repr_html_()
    assert len(card.encode()) <= 30_000
    assert "<img" not in card
    assert len(found.df()) == 8


def test_the_job_writes_a_report_and_a_page_that_needs_no_network(world: Watched) -> None:
    done = run(world.work(kind="compare"))
    assert (done.status, done.assets) == ("ok", 8)
    (row,) = world.rows("select * from reports")
    assert (row["report_id"], row["kind"], row["slot"]) == ("compare/20240610T000000Z/0/default", "compare", NOW)
    assert json.loads(row["body"])["counts"]["worse"] == 1
    page = world.fleet.config.store_path.parent / "reports" / "compare-20240610T000000Z.html"
    text = page.read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "<img" not in body
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=", text)
    assert [path.name for path in page.parent.iterdir()] == [page.name]


def test_the_job_done_again_is_one_report_and_a_new_slot_another(world: Watched) -> None:
    for at in (NOW, NOW, NOW + timedelta(days=1)):
        run(world.work(at, kind="compare", file="out/fleet.html", days=3))
    assert len(world.rows("select * from reports")) == 2
    assert (world.fleet.config.folder / "out" / "fleet.html").is_file()


def test_an_option_typed_wrongly_is_named_with_what_is_right(world: Watched) -> None:
    with pytest.raises(ConfigInvalid, match=r"\[jobs\.compare\.options\] histroy.*did you mean .history.") as caught:
        run(world.work(kind="compare", histroy=3))
    assert "fleet.toml" in str(caught.value)


def test_the_distance_of_days_that_do_not_differ_is_beyond_any_bound() -> None:
    flat = np.ones((1, 5))
    assert changes.distance(np.full((1, 2), 2.0), flat).tolist() == [np.inf]
    assert changes.distance(np.ones((1, 2)), flat).tolist() == [0.0]
    assert np.isnan(changes.distance(np.ones((1, 2)), np.full((1, 5), np.nan))).all()
