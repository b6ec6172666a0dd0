"""What a fingerprint depends on: each ingredient of a fit or a judgement, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from fleet.config import parse
from fleet.fingerprints import Fingerprints, version_of
from fleet.frames import AssetRows, Covariate, Panel, Rows, Span
from fleet.population import Loaded, Member, Population, settings_of
from fleet.recipes import recipe_of
from tests.walks.small import hourly

DAYS = 40
ASSETS = ("a", "b")
CONFIG = """
[fleet]
timezone = "UTC"
horizon = 24
seasons = [24]
quantiles = [0.1, 0.9]
seed = 3

[data]
path = "history.parquet"

[assets]
path = "assets.csv"

[[covariates]]
path = "weather.csv"
time = "ds"
columns = ["temp"]
series = "station"
available_at = "issued"
known = "future"

[recipes.day]
adapter = "seasonal_naive"
season = 24

[recipes.boost]
adapter = "lightgbm"
lags = [24]
calendar = ["hour"]

[train]
window = "10d"

[backtest]
origins = 3

[promotion]
min_points = 24
"""

Kind = Literal["train", "backtest"]
KINDS: tuple[Kind, ...] = ("train", "backtest")
BOTH = {"train": True, "backtest": True}
NEITHER = {"train": False, "backtest": False}
Change = Callable[["Case"], None]


def weather(days: int, *, extra: float = 0.0) -> pd.DataFrame:
    """Temperatures of one station, each known a day ahead."""
    times = pd.date_range("2024-03-01", periods=24 * days, freq="h", tz="UTC", unit="us")
    temp = 10 + np.sin(np.arange(len(times)) / 24) + extra
    return pd.DataFrame({"station": "s", "ds": times, "issued": times - pd.Timedelta("1D"), "temp": temp})


@dataclasses.dataclass
class Case:
    """A fleet before anybody looks at it, to be changed in one place."""

    config: str
    actuals: pd.DataFrame
    weather: pd.DataFrame
    register: pd.DataFrame
    capacities: tuple[tuple[int, float], ...] = ()
    library_version: str | None = None


def case() -> Case:
    begin = pd.Timestamp("2024-03-01", tz="UTC")
    register = pd.DataFrame({"asset_id": [*ASSETS], "station": "s", "capacity": 50.0})
    return Case(CONFIG, hourly(ASSETS, DAYS, begin=begin), weather(DAYS + 2), register)


def fingerprints(made: Case, recipe: str = "boost", asset: str = "a") -> dict[Kind, str]:
    """Of one asset of a case, with the rows as the store would hand them over."""
    config = parse(made.config, Path("fleet.toml"))
    resolved = config.for_asset(asset, made.register.set_index("asset_id").loc[asset].to_dict() | {"asset_id": asset})
    definition = recipe_of(config.recipe(recipe))
    if made.library_version is not None:
        definition = dataclasses.replace(definition, library_version=made.library_version)
    actuals = made.actuals.sort_values(["unique_id", "ds"], ignore_index=True)
    mine = np.flatnonzero(actuals["unique_id"] == asset)
    span = Span(int(mine[0]), int(mine[-1]) + 1)
    weather = made.weather.sort_values(["ds", "issued"])
    member = Member(
        asset_id=asset,
        config=resolved,
        settings=0,
        rows=len(mine),
        data_end=None,
        first_reading=None,
        static=dict(resolved.static),
        capacities=made.capacities,
    )
    rows = AssetRows(
        asset_id=asset,
        span=span,
        covariates=(Covariate(name="temp", span=Span(0, len(weather)), foresight=False),),
        static=member.static,
        capacities=member.capacities,
    )
    loaded = Loaded(
        members=(member,),
        assets={asset: rows},
        panel=panel(actuals["ds"], actuals["y"], actuals["ds"] + pd.Timedelta("1h")),
        covariates=panel(weather["ds"], weather["temp"], weather["issued"]),
    )
    people = Population(members=(member,), settings=(settings_of(resolved),))
    return {kind: Fingerprints(loaded, people, kind).of(member, {recipe: definition})[recipe] for kind in KINDS}


def panel(times: pd.Series, values: pd.Series, known: pd.Series) -> Panel:
    micros = [column.dt.as_unit("us").astype("int64").to_numpy() for column in (times, known)]
    return Panel(path=None, rows=Rows(micros[0], values.to_numpy(), micros[1], np.ones(len(values), dtype=np.int64)))


def written(old: str, new: str) -> Change:
    def change(made: Case) -> None:
        assert old in made.config
        made.config = made.config.replace(old, new)

    return change


def reading(days_before_end: float, value: float = 1.0) -> Change:
    """One reading of asset a is another."""

    def change(made: Case) -> None:
        at = made.actuals["ds"].max() - pd.Timedelta(days=days_before_end)
        made.actuals.loc[(made.actuals["unique_id"] == "a") & (made.actuals["ds"] == at), "y"] += value

    return change


def one_reading_more(made: Case) -> None:
    made.actuals = hourly(ASSETS, DAYS + 1, begin=pd.Timestamp("2024-03-01", tz="UTC"))
    made.actuals = made.actuals[made.actuals["ds"] <= pd.Timestamp("2024-03-01", tz="UTC") + pd.Timedelta(days=DAYS)]


def older_history(made: Case) -> None:
    early = hourly(ASSETS, 5, seed=9, begin=pd.Timestamp("2024-02-20", tz="UTC"))
    made.actuals = pd.concat([early, made.actuals])


def other_asset(made: Case) -> None:
    made.actuals.loc[made.actuals["unique_id"] == "b", "y"] += 1.0


def warmer(made: Case) -> None:
    made.weather["temp"] += 1.0


def warmer_on(day: int) -> Change:
    def change(made: Case) -> None:
        at = made.weather["ds"].dt.floor("D") == pd.Timestamp("2024-03-01", tz="UTC") + pd.Timedelta(days=day)
        made.weather.loc[at, "temp"] += 1.0

    return change


def vintage_nobody_knew(made: Case) -> None:
    """A later forecast of the same hours, known only after the end of the data."""
    late = made.weather.assign(issued=made.weather["ds"].max(), temp=99.0)
    made.weather = pd.concat([made.weather, late])


def capacity(made: Case) -> None:
    made.register["capacity"] = 60.0


def new_column(made: Case) -> None:
    made.register["floors"] = 3


def known_capacity(*days: float) -> Change:
    """Another capacity from each of these days on."""

    def change(made: Case) -> None:
        since = pd.Timestamp("2024-03-01", tz="UTC")
        at = [int((since + pd.Timedelta(days=day)).timestamp() * 1e6) for day in days]
        made.capacities = tuple((moment, 10.0 + number) for number, moment in enumerate(at))

    return change


def library(made: Case) -> None:
    made.library_version = "99.9"


def gap(made: Case) -> None:
    """A reading that is missing, as an empty one."""
    at = made.actuals["ds"].max() - pd.Timedelta(days=3)
    made.actuals.loc[(made.actuals["unique_id"] == "a") & (made.actuals["ds"] == at), "y"] = np.nan


MATTERS: dict[str, Change] = {
    "an option of the recipe": written("lags = [24]", "lags = [48]"),
    "the seed": written("seed = 3", "seed = 4"),
    "the horizon": written("horizon = 24", "horizon = 12"),
    "the seasons": written("seasons = [24]", "seasons = [168]"),
    "the quantiles": written("[0.1, 0.9]", "[0.1]"),
    "the zone": written('timezone = "UTC"', 'timezone = "Europe/Paris"'),
    "the window, where it cuts": written('window = "10d"', 'window = "9d"'),
    "the library": library,
    "a reading in the window": reading(2),
    "the newest reading": reading(0),
    "one reading more": one_reading_more,
    "a reading gone missing": gap,
    "a covariate": warmer,
    "a covariate at the step to forecast": warmer_on(DAYS - 1),
    "a fact of the register": capacity,
    "a column of the register": new_column,
}
BACKTEST_ONLY: dict[str, Change] = {
    "the number of origins": written("origins = 3", "origins = 2"),
    "the stride": written("origins = 3", 'origins = 3\nstride = "48h"'),
    "the first origin": written("origins = 3", 'origins = 3\nfirst = "2024-04-01T00:00Z"'),
    "fitting again at each origin": written("origins = 3", "origins = 3\nrefit = true"),
    "a reading in the window of the first origin only": reading(12),
    "a capacity on a day that is judged": known_capacity(0, DAYS - 2),
}
NEVER: dict[str, Change] = {
    "older history": older_history,
    "a reading before every window": reading(20),
    "another asset": other_asset,
    "weather before every window": warmer_on(2),
    "weather after the target": warmer_on(DAYS + 1),
    "the rule of promotion": written("min_points = 24", "min_points = 48"),
    "the fallbacks": written('window = "10d"', 'window = "10d"\nfallback = ["mean"]'),
    "the time limit": written('window = "10d"', 'window = "10d"\ntimeout = "5s"'),
    "when an asset is stale": written('window = "10d"', 'window = "10d"\nstale_after = "2d"'),
    "another recipe": written("season = 24\n", "season = 48\n"),
    "a capacity from tomorrow on": known_capacity(DAYS),
    "a vintage that was not known in time": vintage_nobody_knew,
}


@pytest.fixture(scope="module")
def plain() -> dict[Kind, str]:
    """The fingerprints of the case as it is."""
    return fingerprints(case())


@pytest.mark.parametrize("what", MATTERS)
def test_each_ingredient_makes_another_fingerprint(plain: dict[Kind, str], what: str) -> None:
    assert differ(plain, MATTERS[what]) == BOTH


@pytest.mark.parametrize("what", NEVER)
def test_nothing_else_does(plain: dict[Kind, str], what: str) -> None:
    assert differ(plain, NEVER[what]) == NEITHER


@pytest.mark.parametrize("what", BACKTEST_ONLY)
def test_how_the_past_is_cut_and_measured_matters_to_a_judgement_alone(plain: dict[Kind, str], what: str) -> None:
    assert differ(plain, BACKTEST_ONLY[what]) == {"train": False, "backtest": True}


def test_what_lies_ahead_of_the_data_matters_to_a_fit_alone(plain: dict[Kind, str]) -> None:
    assert differ(plain, warmer_on(DAYS)) == {"train": True, "backtest": False}


def test_a_window_longer_than_the_history_is_as_good_as_any() -> None:
    found = [changed(written('"10d"', f'"{days}"')) for days in ("100d", "200d")]
    assert found[0]["train"] == found[1]["train"]


def test_data_after_a_fixed_last_target_judge_nothing_anew() -> None:
    fixed = written("origins = 3", 'origins = 3\nfirst = "2024-03-20T00:00Z"')
    before = changed(fixed)
    assert changed(fixed, one_reading_more)["backtest"] == before["backtest"]
    assert changed(fixed, reading(DAYS - 21.5))["backtest"] != before["backtest"]


def test_covariates_matter_only_to_a_recipe_that_sees_them() -> None:
    blind = written('calendar = ["hour"]', 'calendar = ["hour"]\ncovariates = []')
    assert changed(blind) == changed(blind, warmer)
    assert changed(recipe="day") == changed(warmer, recipe="day")


def test_a_list_of_holidays_matters_to_a_recipe_that_looks_at_one(
    tmp_path: Path, plain: dict[Kind, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = written('calendar = ["hour"]', 'calendar = ["hour", "holiday"]\ncountry = "GB"')
    before = changed(looks)
    info = tmp_path / "holidays-99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: holidays\nVersion: 99.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    version_of.cache_clear()
    try:
        assert differ(before, looks) == BOTH
        assert differ(plain) == NEITHER
    finally:
        version_of.cache_clear()


def test_a_name_is_no_ingredient_but_the_asset_is(plain: dict[Kind, str]) -> None:
    assert changed(written("[recipes.boost]", "[recipes.trees]"), recipe="trees") == plain
    assert fingerprints(case(), asset="b") != plain


def changed(*changes: Change, recipe: str = "boost") -> dict[Kind, str]:
    made = case()
    for change in changes:
        change(made)
    return fingerprints(made, recipe)


def differ(before: dict[Kind, str], *changes: Change) -> dict[str, bool]:
    """By kind whether the changes make another fingerprint."""
    after = changed(*changes)
    return {kind: after[kind] != before[kind] for kind in KINDS}
