"""The fleet.toml that `tsfleet init` writes: short, commented, and valid as it stands."""

from __future__ import annotations

import json
import re
from string import Template

_TEXT = Template("""\
# A fleet: what is forecast, from which data, by which models, and who judges them.
# `tsfleet config show` tells every value in force; a key typed wrongly is an error that names the right one.

[fleet]
name = $name
store = "fleet.store"                 # the folder beside this file that remembers everything
timezone = $timezone  # local clock: hours, weekdays and daily seasons follow it
freq = $freq  # step of the series
horizon = $horizon  # steps to forecast
seasons = $seasons  # steps in a season, the main one first
quantiles = [0.1, 0.5, 0.9]  # beside the mean; [] for none
seed = 0

[data]                                # or  sql = "select ..."  (DuckDB), or  python = "module:function"
path = $data                          # Parquet or CSV, relative to this file
asset = $asset                        # column that names the asset
time = $time                          # column of the times; naive ones need  timezone = "local" or a zone
target = $target                      # column of the values
label = "start"                       # times are the interval's start (or "end")
# delay = "48h"                       # how long after the interval a reading is known
# on_bad = "keep_aside"               # bad rows are refused otherwise

# [assets]                            # a register, one row an asset: capacity, region, kind, ...
# path = "assets.csv"

# [[covariates]]                      # what a model may look at beside the history
# path = "weather.parquet"
# time = "ds"
# columns = ["temp"]
# known = "past"                      # observed; "future" for a forecast, available_at = "issued" for its vintages

# [[forecasts]]                       # what somebody else forecasts: judged and promoted like a recipe
# name = "vendor"
# path = "vendor.parquet"             # unique_id, issue_time, ds, mean, q10, ...

[recipes.weekly_naive]                # the value of a week ago
adapter = "seasonal_naive"
season = $week

[recipes.holt_winters]
adapter = "statsmodels"
model = "holt_winters"

[recipes.gbm]                         # gradient boosting on lags and the calendar
adapter = "lightgbm"
lags = $lags
calendar = ["hour", "dayofweek"]

[train]
window = $window                       # how much history a model sees
workers = "auto"
timeout = "60s"                       # per asset
fallback = ["weekly_naive"]           # tried in turn when a champion fails

[backtest]                            # the past days that judge the recipes
origins = 7

[promotion]
metric = "mae"
margin = 0.02                         # a challenger must be better by this fraction
min_points = $min_points

# [overrides."kind=large".train]      # a group (column=value of the register) or an asset id
# window = "90d"
""")

_DAY_STEPS = {"10min": 144, "15min": 96, "30min": 48, "1h": 24}


def fleet_toml(*, name: str, data: str, asset: str, time: str, target: str, freq: str, timezone: str) -> str:
    """The text of a fleet.toml for data as described.

    >>> columns = {"asset": "id", "time": "at", "target": "kwh"}
    >>> text = fleet_toml(name="north", data="m/*.csv", freq="15min", timezone="UTC", **columns)
    >>> [line.split("  ")[0] for line in text.splitlines() if line.startswith(("name", "path", "horizon", "seasons"))]
    ['name = "north"', 'horizon = 96', 'seasons = [96, 672]', 'path = "m/*.csv"']
    """
    day = _DAY_STEPS.get(freq)
    season, week = (day, 7 * day) if day else {"1D": (7, 7), "1W": (52, 52), "1MS": (12, 12)}.get(freq, (1, 1))
    text = {
        "name": name,
        "data": data,
        "asset": asset,
        "time": time,
        "target": target,
        "freq": freq,
        "timezone": timezone,
    }
    values: dict[str, object] = {
        **{key: json.dumps(value, ensure_ascii=False) for key, value in text.items()},
        "horizon": season,
        "seasons": sorted({season, week}),
        "week": week,
        "lags": sorted({season, season + 1, 2 * season, week}),
        "min_points": week,
        "window": '"365d"' if day else '"3650d"',
    }
    return re.sub(r"^(.*\S) {2,}# ", _aligned, _TEXT.substitute(values), flags=re.MULTILINE)


def _aligned(line: re.Match[str]) -> str:
    """What is left of a comment, padded so that the comments stand below each other."""
    return f"{line[1]:<37} # "
