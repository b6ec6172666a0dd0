"""The models of `configs/own`: short, fitted once, kept in bytes without the readings, asked again days later.

Those whose library is not installed are skipped by name; the walk at the end runs with whatever there is.
"""

from __future__ import annotations

import ast
import json
import shutil
import sys
import tokenize
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from fleet.checks import check_output
from fleet.task import Task
from jobs.cli.exits import Exit
from jobs.cli.main import run
from jobs.demo import DATA

# Prophet 1.5 uses keywords that pandas 3.1 will not have for ever.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:prophet")
OWN = Path(__file__).resolve().parents[2] / "configs" / "own"
TZ = "Europe/Paris"
SWING = 20.0
MODELS = {"handmade": "TypicalDay", "prophet_model": "Trend", "torch_model": "SmallNet"}
LIBRARIES = {"handmade": (), "prophet_model": ("prophet",), "torch_model": ("torch", "safetensors")}


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of `configs/own`, known to Python for one test."""
    spec = spec_from_file_location(name, OWN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One example's definition, as the recipe without options has it; one thread, as in a worker."""
    for library in LIBRARIES[request.param]:
        pytest.importorskip(library, reason=f"{request.param}: {library} is not installed")
    made = getattr(example(request.param, monkeypatch), MODELS[request.param])()
    with threadpool_limits(1):
        yield made


def load(days: int, until: str) -> pd.Series[float]:
    """A load in Paris with a day from 8 to 20 on its clock, through the change of clocks at the end of March 2024."""
    end = pd.Timestamp(until, tz=TZ).tz_convert("UTC")
    times = pd.date_range("2024-01-01", "2024-05-01", freq="h", tz=TZ).tz_convert("UTC").as_unit("us")
    hour = times.tz_convert(TZ).hour
    y = np.where((hour >= 8) & (hour < 20), 50 + SWING / 2, 50 - SWING / 2)
    noisy = pd.Series(y + np.random.default_rng(4).normal(0, 0.5, len(times)), index=times)
    return noisy[times < end].tail(24 * days)


def question(until: str, *, days: int = 60, seed: int = 7) -> tuple[pd.Series[float], None, Task]:
    """The last days before a local midnight, and the day after it, of 23 hours where the clock goes forward."""
    target = pd.date_range(until, pd.Timestamp(until) + pd.Timedelta(days=1), freq="h", tz=TZ, inclusive="left")
    return (
        load(days, until),
        None,
        Task(target=target.tz_convert("UTC"), freq="1h", tz=TZ, seasons=(24, 168), seed=seed),
    )


def error(frame: pd.DataFrame, task: Task) -> float:
    """Mean absolute error against the day without its noise, of a forecast whose form is right."""
    hour = task.target.tz_convert(TZ).hour
    truth = np.where((hour >= 8) & (hour < 20), 50 + SWING / 2, 50 - SWING / 2)
    return float(np.abs(check_output(frame, task).mean - truth).mean())


@pytest.mark.parametrize("name", MODELS)
def test_an_example_has_at_most_thirty_lines_of_code(name: str) -> None:
    path = OWN / f"{name}.py"
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    said = {
        line
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    assert len({token.start[0] for token in tokens[1:] if token.type not in blank} - said) <= 30


def test_a_model_kept_in_bytes_forecasts_six_days_later_from_fresh_history(model: Any) -> None:
    fitted = model.fit(*question("2024-03-20"))
    kept = fitted.save()
    y, X, task = question("2024-03-26")
    again = type(model)().load(kept)
    assert error(again.predict(y, X, task), task) < 0.15 * SWING
    assert again.predict(y, X, task).equals(fitted.predict(y, X, task))
    assert fitted.save() == kept == again.save(), "a forecast changes no model"


def test_the_day_on_which_the_clock_goes_forward_keeps_its_local_shape(model: Any) -> None:
    fitted = model.fit(*question("2024-03-25"))
    y, X, task = question("2024-03-31")
    assert task.horizon == 23
    assert error(fitted.predict(y, X, task), task) < 0.15 * SWING


def test_a_history_that_has_grown_since_the_fit_lifts_the_forecast(model: Any) -> None:
    fitted = model.fit(*question("2024-03-20"))
    y, X, task = question("2024-03-26")
    lifted = check_output(fitted.predict(y + 30.0, X, task), task).mean
    assert 20.0 < np.mean(lifted - check_output(fitted.predict(y, X, task), task).mean) < 40.0


def test_missing_readings_cost_no_forecast(model: Any) -> None:
    y, X, task = question("2024-03-20")
    holes = y.mask(np.arange(len(y)) % 17 == 0)
    holes.iloc[-30:] = np.nan
    assert error(model.fit(holes, X, task).predict(holes, X, task), task) < 0.3 * SWING


def test_the_same_history_and_seed_give_the_same_bytes(model: Any) -> None:
    assert model.fit(*question("2024-03-20")).save() == model.fit(*question("2024-03-20")).save()


def test_what_is_kept_does_not_grow_with_the_history_nor_holds_its_readings(model: Any) -> None:
    short, long = (model.fit(*question("2024-03-20", days=days)).save() for days in (30, 60))
    assert abs(len(long) - len(short)) < 200
    readings = load(60, "2024-03-20").to_numpy()
    for width in ("<f8", "<f4"):
        raw = readings.astype(width).tobytes()
        pair = 2 * np.dtype(width).itemsize
        assert not any(raw[at : at + pair] in long for at in range(0, len(raw) - pair, pair // 2))
    # The largest one is a fair thing to know of a series, and Prophet scales by it.
    assert sum(f"{reading:.9f}"[:8].encode() in long for reading in readings) <= 1


def test_a_spike_is_taken_out_of_what_a_model_sees_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    y, X, task = question("2024-03-20")
    cleaned, same = example("rules", monkeypatch).without_spikes(y.where(y.index != y.index[700], 5_000.0), X, task)
    assert same is X
    assert cleaned.index[cleaned.isna()].to_list() == [y.index[700]]
    assert cleaned.drop(y.index[700]).equals(y.drop(y.index[700]))


@pytest.mark.parametrize(("capacity", "wanted"), [(20.0, [0.0, 5.0, 20.0]), (None, [0.0, 5.0, 30.0])])
def test_a_forecast_stays_between_nothing_and_the_capacity_where_one_is_known(
    capacity: float | None, wanted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    task = Task(target=target, freq="1h", static={"capacity": capacity})
    forecast = task.frame(np.array([-3.0, 5.0, 30.0]), {0.9: np.array([-1.0, 5.0, 40.0])})
    bounded = check_output(example("rules", monkeypatch).within_capacity(forecast, task), task)
    assert bounded.mean.tolist() == wanted
    assert bounded.quantiles[0.9].max() == (capacity or 40.0)


def test_the_fleet_runs_and_a_library_that_is_absent_costs_its_own_recipe_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    register = pd.read_csv(DATA / "buildings.csv").head(3)
    rows = pd.read_parquet(DATA / "electricity" / "history.parquet")
    rows = rows[rows["unique_id"].isin(register["asset_id"]) & (rows["ds"] >= rows["ds"].max() - pd.Timedelta("40D"))]
    typical = rows.groupby("unique_id")["y"].median()
    register.assign(capacity=register["asset_id"].map(typical)).to_csv(folder / "buildings.csv", index=False)
    (folder / "electricity").mkdir()
    rows.to_parquet(folder / "electricity" / "history.parquet")
    monkeypatch.chdir(folder)

    def typed(*words: str) -> Any:
        capsys.readouterr()
        code = run([*words, "--json"])
        out = capsys.readouterr()
        assert code == Exit.OK, f"tsfleet {' '.join(words)}: {out.err}{out.out}"
        return json.loads(out.out)

    typed("ingest")
    assert typed("train", "--workers", "1")["ok"] == 3
    typed("forecast", "--workers", "1")
    judged = {
        row["recipe"]: row
        for row in typed(
            "sql", "select recipe, count(*) as n, any_value(error_code) as code, any_value(error) as error "
            "from runs where kind = 'backtest' group by recipe"
        )
    }  # fmt: skip
    assert set(judged) == {"weekly_naive", "typical_day", "prophet", "small_net", "careful"}
    assert {row["n"] for row in judged.values()} == {3}
    for recipe, libraries in {"prophet": ("prophet",), "small_net": ("torch", "safetensors")}.items():
        absent = [library for library in libraries if not find_spec(library)]
        row = judged.pop(recipe)
        assert row["code"] == ("adapter-missing" if absent else None)
        assert all(library in (row["error"] or "") for library in absent[:1])
    assert all(row["code"] is None for row in judged.values())
    above = "sum((mean > capacity)::int) as above"
    bounded = {
        row["recipe"]: row["above"]
        for row in typed("sql", f"select recipe, {above} from forecasts join assets using (asset_id) group by recipe")
    }
    assert bounded["careful"] == 0 < bounded["weekly_naive"]
    assert typed("sql", "select count(distinct asset_id) as n from forecasts where role = 'champion'") == [{"n": 3}]
