"""The main job as a stranger meets it: the real command, in an empty folder, on the data that ship."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import pytest

pytestmark = pytest.mark.slow

Ran: TypeAlias = tuple[Path, subprocess.CompletedProcess[str]]
RECIPES = ("weekly_naive", "theta", "autoreg", "ridge", "gbm")
TABLES = ("actuals", "covariates", "runs", "versions", "champions", "forecasts", "scores", "decisions")


def tsfleet(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def answer(folder: Path, question: str) -> list[dict[str, Any]]:
    done = tsfleet(folder, "sql", question, "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demo, run once in an empty folder."""
    empty = tmp_path_factory.mktemp("empty")
    done = tsfleet(empty, "demo")
    assert done.returncode == 0, done.stderr + done.stdout
    return empty / "tsfleet-demo", done


def test_it_prints_leaderboard_worst_and_what_to_type_next(demo: Ran) -> None:
    _, done = demo
    for recipe in RECIPES:
        assert recipe in done.stdout
    assert "Furthest off" in done.stdout
    assert "perfect foresight" in done.stderr
    assert "tsfleet leaderboard --by lead" in done.stderr


def test_every_building_is_judged_by_every_recipe_and_has_a_champion(
    demo: Ran,
) -> None:
    folder, _ = demo
    judged = "select recipe, count(distinct asset_id) as n from scores where role = 'backtest' group by all"
    assert {row["recipe"]: row["n"] for row in answer(folder, judged)} == dict.fromkeys(RECIPES, 101)
    assert answer(folder, "select count(*) as n, count(version_id) as fitted from champions") == [
        {"n": 101, "fitted": 101}
    ]
    assert answer(folder, "select count(*) as n from outcomes where status = 'failed'") == [{"n": 0}]


def test_the_day_held_back_is_forecast_before_it_is_known_and_then_scored(
    demo: Ran,
) -> None:
    folder, _ = demo
    question = "select issue_time, count(*) as n, count(distinct asset_id) as assets from forecasts"
    issued = answer(folder, f"{question} where role = 'champion' group by all")
    assert issued == [{"issue_time": "2019-11-15T00:00:00Z", "n": 101 * 24, "assets": 101}]
    scored = answer(folder, "select sum(n) as n from scores where role = 'champion'")
    assert scored[0]["n"] == 101 * 24


def test_run_again_it_changes_nothing(demo: Ran) -> None:
    folder, first = demo
    question = "select " + ", ".join(f"(select count(*) from {table}) as {table}" for table in TABLES)
    before = answer(folder, question)
    again = tsfleet(folder.parent, "demo")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert answer(folder, question) == before


def test_a_missing_system_library_costs_one_recipe_and_one_line(tmp_path: Path) -> None:
    """LightGBM without libgomp raises OSError at import; a stand-in of that name does the same here."""
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: cannot open')\n", encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from jobs.cli.checks import missing_adapters\nprint(missing_adapters({'lightgbm', 'naive'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "libgomp" in done.stdout
    assert "naive" not in done.stdout
