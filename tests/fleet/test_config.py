"""Laws of the configuration: a mistake is one line that says what is right; the rest resolves for each asset."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.config import FleetConfig, find, load, parse
from fleet.config.values import step
from fleet.errors import ConfigInvalid

FILE = Path("/somewhere/fleet.toml")

EXAMPLE = """
[fleet]
name = "campus"
store = "campus.store"
timezone = "Europe/London"
freq = "1h"
horizon = 24
seasons = [24, 168]
quantiles = [0.9, 0.1, 0.5]
seed = 7

[assets]
path = "assets.csv"
asset = "asset_id"

[data]
path = "data/*.parquet"
asset = "unique_id"
time = "ds"
target = "y"
label = "start"
on_bad = "refuse"
duplicates = "refuse"

[[covariates]]
path = "weather.parquet"
time = "ds"
columns = ["temp"]
known = "future"

[[covariates]]
path = "nwp.parquet"
columns = ["wind"]
known = "future"
available_at = "issued"

[products.day_ahead]
issue = "11:30"
target = "tomorrow"

[recipes.daily_naive]
adapter = "seasonal_naive"
season = 24

[recipes.level]
adapter = "mean"
window = 48
covariates = ["temp"]

[train]
window = "365d"
workers = "auto"
timeout = "60s"
fallback = ["weekly_naive", "daily_naive"]

[backtest]
origins = 7
stride = "24h"
refit = false

[promotion]
metric = "mae"
margin = 0.02
min_points = 168

[jobs.forecast]
cron = "5 * * * *"

[overrides."region=north".train]
window = "90d"

[overrides."asset=b1".train]
window = "30d"
recipes = ["level"]

[overrides."kind=large"]
train = { window = "60d" }
fleet = { horizon = 48 }
"""


def read(text: str) -> FleetConfig:
    return parse(text, FILE)


def refusal(text: str) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        read(text)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_every_key_of_the_example_is_an_attribute() -> None:
    config = read(EXAMPLE)
    assert (config.fleet.name, config.fleet.horizon, config.fleet.quantiles) == ("campus", 24, (0.1, 0.5, 0.9))
    assert config.store_path == FILE.parent / "campus.store"
    assert config.assets is not None
    assert config.assets.path == ("assets.csv",)
    assert (config.data.path, config.data.asset, config.data.on_bad) == (("data/*.parquet",), "unique_id", "refuse")
    assert config.covariates[1].available_at == "issued"
    assert config.products["day_ahead"].days_ahead == 1
    assert config.recipes["level"].options == {"window": 48}
    assert config.recipes["level"].covariates == ("temp",)
    assert config.train.window == timedelta(days=365)
    assert (config.backtest.origins, config.backtest.stride) == (7, timedelta(days=1))
    assert (config.promotion.metric, config.promotion.margin) == ("mae", 0.02)
    assert config.jobs["forecast"].cron == "5 * * * *"


def test_retention_is_said_by_product() -> None:
    text = "[products.d]\nhorizon = 48\n[retention.d]\nafter = '90d'\nleads_below = '2d'"
    found = read(text).retention["d"]
    assert (found.after, found.leads_below) == (timedelta(days=90), timedelta(days=2))
    assert read("").retention == {}


def test_an_empty_file_is_a_fleet_with_the_naive_rules() -> None:
    config = read("")
    view = config.for_asset("any")
    assert (view.freq, view.timezone, view.seasons, view.quantiles) == ("1h", "UTC", (24, 168), ())
    assert view.recipes == ("daily_naive", "weekly_naive")
    assert view.backtest.stride == timedelta(days=1)
    assert all(config.recipe(name) for name in config.train.fallback)


def test_a_later_group_beats_an_earlier_one_and_an_asset_beats_both() -> None:
    config = read(EXAMPLE)
    north, large = {"region": "north"}, {"region": "north", "kind": "large"}
    assert config.for_asset("b2").train.window == timedelta(days=365)
    assert config.for_asset("b2", north).train.window == timedelta(days=90)
    assert config.for_asset("b2", large).train.window == timedelta(days=60)
    assert config.for_asset("b2", large).horizon == 48
    assert config.for_asset("b1", large).train.window == timedelta(days=30)
    assert config.for_asset("b1", large).horizon == 48
    assert config.for_asset("b1", large).recipes == ("level",)
    assert config.for_asset("b1", large).static == large


def test_overrides_match_what_the_store_keeps_as_meta() -> None:
    config = read('[overrides."floors=5".train]\nwindow = "1d"\n[overrides."new=true".train]\nwindow = "2d"')
    row = {"asset_id": "a", "region": None, "meta": json.dumps({"floors": 5.0})}
    assert config.for_asset("a", row).train.window == timedelta(days=1)
    assert config.for_asset("a", {"meta": '{"new": true}'}).train.window == timedelta(days=2)
    assert config.for_asset("a", {"meta": None}).train.window == timedelta(days=365)


def test_the_register_gives_step_and_clock_and_the_seasons_follow_the_step() -> None:
    config = read("[fleet]\nfreq = '1h'\nseasons = [24]\n[overrides.'asset=x'.fleet]\nfreq = '30min'\nseasons = [48]")
    view = config.for_asset("a", {"timezone": "Asia/Tokyo", "freq": "15min"})
    assert (view.timezone, view.freq, view.seasons) == ("Asia/Tokyo", "15min", (96, 672))
    assert config.for_asset("a").seasons == (24,)
    assert config.for_asset("x", {"freq": "15min"}).seasons == (48,)
    with pytest.raises(ConfigInvalid, match="Europe/Lodon"):
        config.for_asset("a", {"timezone": "Europe/Lodon"})


def test_show_tells_where_each_value_comes_from() -> None:
    shown = {
        row.key: (row.value, row.origin)
        for row in read(EXAMPLE).show("b1", {"kind": "large", "timezone": "Asia/Tokyo"})
    }
    assert shown["train.window"] == (timedelta(days=30), '[overrides."asset=b1".train]')
    assert shown["fleet.horizon"] == (48, '[overrides."kind=large".fleet]')
    assert shown["fleet.timezone"] == ("Asia/Tokyo", "register, column timezone")
    assert shown["train.timeout"] == (timedelta(seconds=60), "[train]")
    assert shown["backtest.first"] == (None, "default")


def test_ten_thousand_assets_resolve_in_a_fraction_of_a_second() -> None:
    config = read(EXAMPLE)
    rows = [{"region": f"r{n % 7}", "kind": "large", "timezone": "UTC", "meta": '{"floors": 3}'} for n in range(10_000)]
    began = time.process_time()
    for number, row in enumerate(rows):
        config.for_asset(f"asset-{number}", row)
    assert time.process_time() - began < 0.4


def test_a_config_survives_the_way_to_a_worker() -> None:
    config = read(EXAMPLE)
    there = pickle.loads(pickle.dumps(config))  # noqa: S301
    assert asdict(there.for_asset("b1", {"kind": "large"})) == asdict(config.for_asset("b1", {"kind": "large"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\ntiemout = '1s'", '[train] tiemout: unknown key; did you mean "timeout"? accepted: '),
        ("[fleet]\nwindow = '3d'", "[fleet] window: unknown key; it belongs in [train]; accepted here: "),
        ("[flet]\n", '[flet]: unknown section; did you mean "fleet"? accepted: '),
        ("[fleet]\nhorizon = '24'", '[fleet] horizon = "24": expected a whole number'),
        ("[fleet]\nhorizon = 0", "[fleet] horizon = 0: accepted: 1 or more"),
        ("[fleet]\nhorizon = 100001", "[fleet] horizon = 100001: accepted: 100000 or less"),
        (
            '[train]\nwindow = "99999999999d"',
            '[train] window = "99999999999d": longer than 100 years; accepted: up to 36525d',
        ),
        ('[train]\nstale_after = "0s"', '[train] stale_after = "0s": accepted: a length of time above zero'),
        ("[fleet]\nfreq = '1hr'", '[fleet] freq = "1hr": not a step; accepted: "10min"'),
        ("[fleet]\nfreq = '36h'", '[fleet] freq = "36h": longer than a day'),
        ("[fleet]\ntimezone = 'Europe/Lodon'", 'not a time zone, did you mean "Europe/London"?'),
        ("[fleet]\nseasons = [24, 'x']", '[fleet] seasons[1] = "x": expected a whole number'),
        ("[fleet]\nquantiles = [0.5, 0.5]", "[fleet] quantiles = [0.5, 0.5]: a level stands twice"),
        ("[fleet]\nquantiles = [10]", "10 is not a level; accepted: "),
        ("[data]\nlabel = 'begin'", '[data] label = "begin": accepted: "start", "end"'),
        ("[data]\npath = 'a'\nsql = 'b'", "[data] path and sql both say where the data are"),
        ("[data]\npython = 'load'", "[data] python = \"load\": accepted: \"module:function\""),
        ("[data]\ndelay = '2 days'", '[data] delay = "2 days": expected a length of time; accepted: "60s"'),
        ("[data]\ndelay = '2d'\navailable_at = 'x'", "[data] delay and available_at both say"),
        ("[[covariates]]\npath = 'x'", "[[covariates]] no. 1 columns: missing"),
        ("[[covariates]]\ncolumns = ['x']", "[[covariates]] no. 1: nothing says where the data are"),
        ("[covariates]\npath = 'x'", "write [[covariates]]"),
        ("[recipes.x]\nadapter = 'seasonal_nave'", 'seasonal_nave: unknown adapter; did you mean "seasonal_naive"?'),
        ("[recipes.x]\nadapter = 'seasonal_naive'\nseson = 1", 'seson: unknown option; did you mean "season"?'),
        ("[recipes.x]\nadaptor = 'naive'", '[recipes.x]: no adapter; did you mean "adapter"?'),
        ("[recipes.x]\nadapter = 'naive'\ncovariates = ['t']", 'covariates: no covariate "t"; accepted: none'),
        ("[train]\nfallback = ['daly_naive']", '[train] fallback: no recipe "daly_naive"; did you mean "daily_naive"?'),
        ("[train]\nworkers = 0", '[train] workers = 0: accepted: "auto" or a whole number from 1 up'),
        ("[backtest]\nfirst = '2024-06-10'", "expected a moment with its zone"),
        ("[backtest]\nfirst = 2024-06-10T00:00:00", "expected a moment with its zone"),
        ("[backtest]\norigins = true", "[backtest] origins = true: expected a whole number"),
        ("[promotion]\nmetric = 'mea'", "[promotion] metric: "),
        ("[promotion]\nmetric = 'skill_daly_naive'", 'no recipe "daly_naive"; did you mean "daily_naive"?'),
        (
            "[promotion]\nmetric = 'skill_daily_naive'\n[recipes.daily]\nadapter = 'naive'",
            '[promotion] metric: no recipe "daily_naive"; did you mean "daily"?',
        ),
        ("[promotion]\nmargin = 2.0", "[promotion] margin = 2: accepted: a fraction"),
        ("[products.d]\nissue = '25:00'\ntarget = 'today'", '[products.d] issue = "25:00": expected a time of day'),
        ("[products.d]\nissue = '11:30'", "a delivery product needs issue and target"),
        ("[retention.day]\nafter = '90d'\nleads_below = '2d'", '[retention.day]: no product "day"; accepted: default'),
        ("[retention.default]\nafter = '90d'", "[retention.default] leads_below: missing"),
        ("[retention.default]\nafter = '0d'\nleads_below = '2d'", '[retention.default] after = "0d": accepted: '),
        ("[jobs.x]\ncron = '* * * * *'\nevery = '1h'", "[jobs.x] cron and every says when it runs"),
        ("[jobs.x]\nafter = 'y'", '[jobs.x] after: no job "y"; accepted: x'),
        ("[overrides.north.train]\nwindow = '1d'", '[overrides.north]: accepted: "asset=ID", or "column=value"'),
        ("[overrides.'region=north'.train]\nwindw = '1d'", '[overrides."region=north".train] windw: unknown key'),
        ("[overrides.'region=north'.train]\nwindow = 5", '[overrides."region=north".train] window = 5: '),
        ("[overrides.'region=north'.fleet]\nname = 'x'", "name: holds for the whole fleet; accepted here: freq"),
        ("[overrides.'region=north'.data]\ntarget = 'x'", '[overrides."region=north".data]: cannot be overridden'),
        ("[overrides.'a=b'.train]\nrecipes = ['z']", '[overrides."a=b".train] recipes: no recipe "z"'),
        ("fleet = 3", "fleet = 3: expected a section [fleet]"),
        ("[fleet]\nname = ", "fleet.toml: line 2, column 8: Invalid value"),
        ("[fleet]\nname = 'a'\nname = 'b'", "fleet.toml: line 3, column "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_key_and_what_is_right(text: str, said: str) -> None:
    message = refusal(text)
    assert message.startswith("fleet.toml: ")
    assert said in message


def test_a_register_without_the_column_of_an_override_is_refused() -> None:
    config = read('[overrides."regoin=north".train]\nwindow = "1d"')
    with pytest.raises(ConfigInvalid, match='no column regoin; did you mean "region"'):
        config.check_register(["floors"])


def test_steps_have_one_spelling() -> None:
    assert [step(text) for text in ("H", "60min", "24h", "15T", "d", "MS", "2W")] == [
        "1h",
        "1h",
        "1D",
        "15min",
        "1D",
        "1MS",
        "2W",
    ]


def test_foresight_is_a_future_covariate_without_vintages() -> None:
    assert read(EXAMPLE).foresight_names() == {"temp"}


def test_the_first_origin_is_an_instant() -> None:
    assert read("[backtest]\nfirst = 2024-06-10T02:00:00+02:00").backtest.first == datetime(2024, 6, 10, tzinfo=UTC)


def test_the_file_is_found_by_option_by_environment_and_upward(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(ConfigInvalid, match=r"no fleet\.toml in"):
        find(below)
    (tmp_path / "fleet.toml").write_text("")
    (below / "other.toml").write_text("")
    assert find(below) == tmp_path.resolve() / "fleet.toml"
    assert find(below, environment=str(below / "other.toml")) == below / "other.toml"
    assert find(below, config=tmp_path, environment="nowhere") == tmp_path / "fleet.toml"
    with pytest.raises(ConfigInvalid, match="named by TSFLEET_CONFIG"):
        find(below, environment="nowhere")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "fleet.toml").write_bytes(b"[fleet]\nname = '\xff'")
    with pytest.raises(ConfigInvalid, match="is not UTF-8"):
        load(tmp_path)
