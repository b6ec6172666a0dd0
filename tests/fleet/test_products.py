"""What the file says of products, what an asset gets of it, and what of that a fingerprint depends on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from fleet.config import FleetConfig, parse
from fleet.errors import ConfigInvalid
from fleet.fingerprints import Fingerprints
from fleet.frames import AssetRows, Panel, Rows, Span
from fleet.population import Loaded, Member, Population, settings_of
from fleet.recipes import recipe_of
from fleet.timetable import Timetable
from fleet.zones import IntArray

HOUR = 3_600_000_000
TWO = """
[fleet]
horizon = 24
seasons = [24]
quantiles = [0.1, 0.9]

[products.day_ahead]
issue = "11:30"
target = "tomorrow"
recipes = ["level"]
fallback = ["naive"]
quantiles = []
window = "30d"
origins = 9
metric = "rmse"
margin = 0.1

[recipes.day]
adapter = "seasonal_naive"

[recipes.level]
adapter = "mean"
"""


def read(text: str) -> FleetConfig:
    return parse(text, Path("fleet.toml"))


# -- what an asset gets --------------------------------------------------------------------------------------------


def test_a_product_says_for_itself_what_the_sections_say_for_all() -> None:
    config = read(TWO)
    plain, own = config.for_asset("a"), config.for_asset("a", {}, "day_ahead")
    assert config.product_names == ("default", "day_ahead")
    assert (own.recipes, own.train.fallback, own.quantiles) == (("level",), ("naive",), ())
    assert (own.train.window, own.backtest.origins) == (timedelta(days=30), 9)
    assert (own.promotion.metric, own.promotion.margin) == ("rmse", 0.1)
    assert (own.days_ahead, own.timetable) == (1, Timetable(times=(23 * HOUR // 2,)))
    assert (plain.recipes, plain.quantiles, plain.timetable) == (("day", "level"), (0.1, 0.9), None)
    assert (plain.train.window, plain.backtest.origins) == (timedelta(days=365), 7)


def test_an_override_of_a_product_beats_the_product_and_leaves_the_rest_of_it() -> None:
    text = TWO + '[overrides."region=north".products.day_ahead]\nissue = ["09:00", "18:00"]\nmargin = 0.3\n'
    own = read(text).for_asset("a", {"region": "north"}, "day_ahead")
    assert own.timetable == Timetable(times=(9 * HOUR, 18 * HOUR))
    assert (own.promotion.margin, own.promotion.metric, own.recipes) == (0.3, "rmse", ("level",))


def test_a_product_beats_an_override_of_all_products() -> None:
    text = TWO + '[overrides."region=north".train]\nwindow = "5d"\nrecipes = ["day"]\n'
    config = read(text)
    assert config.for_asset("a", {"region": "north"}).train.window == timedelta(days=5)
    own = config.for_asset("a", {"region": "north"}, "day_ahead")
    assert (own.train.window, own.recipes) == (timedelta(days=30), ("level",))


def test_the_horizon_of_the_fleet_is_the_product_default_and_a_file_of_products_need_not_have_it() -> None:
    assert read("").product_names == ("default",)
    assert read(TWO.replace("horizon = 24\n", "")).product_names == ("day_ahead",)
    assert read(TWO.replace("horizon = 24\n", "") + "[products.default]\nhorizon = 3").product_names == (
        "default",
        "day_ahead",
    )
    assert read(TWO + "[products.default]\nhorizon = 3").for_asset("a").horizon == 3


@pytest.mark.parametrize(
    ("horizon", "freq", "steps"),
    [
        ('"36h"', "10min", 216), ('"36h"', "15min", 144), ('"36h"', "1h", 36), ('"36h"', "1D", 2), ('"36h"', "1W", 1),
        ('"7d"', "1D", 7), ('"1W"', "1h", 168), ('"3MS"', "1MS", 3), ('"1YS"', "1QS", 4), ("48", "1MS", 48),
    ],
)  # fmt: skip
def test_a_length_is_as_many_steps_as_cover_it(horizon: str, freq: str, steps: int) -> None:
    config = read(f"[products.rolling]\nhorizon = {horizon}\n")
    assert config.for_asset("a", {"freq": freq}, "rolling").horizon == steps


def test_an_asset_of_another_step_gets_what_suits_that_step() -> None:
    """Seasons, stride and points that were counted for hours mean nothing to months; what an override says stands."""
    config = read(
        "[fleet]\nfreq = '1h'\nseasons = [24]\nhorizon = 12\n[backtest]\nstride = '24h'\norigins = 3\n"
        "[overrides.'asset=x'.backtest]\nstride = '60d'\n"
    )
    hours, months = config.for_asset("a"), config.for_asset("a", {"freq": "1MS"})
    assert (hours.seasons, hours.backtest.stride, hours.promotion.min_points) == ((24,), timedelta(days=1), 168)
    assert hours.train.window == timedelta(days=365)
    assert (months.seasons, months.promotion.min_points) == ((12,), 36)
    assert months.backtest.stride == timedelta(days=365.25)
    assert months.train.window == timedelta(days=3650)
    assert config.for_asset("x", {"freq": "1MS"}).backtest.stride == timedelta(days=60)
    assert config.for_asset("a", {"freq": "15min"}).backtest.stride == timedelta(days=1)


@pytest.mark.parametrize(
    ("product", "freq", "suits"),
    [
        ('issue = "11:30"\ntarget = "tomorrow"', "1D", True),
        ('issue = "11:30"\ntarget = "tomorrow"', "1W", False),
        ('issue = "11:30"\ntarget = "tomorrow"\ndays = 7', "1W", True),
        ('issue = "11:30"\ntarget = "tomorrow"\ndays = 31', "1MS", False),
        ('issue = "11:30"\ntarget = "today"', "1h", True),
        ('issue = "23:30"\ntarget = "today"', "1h", False),
        ('issue = "00:00"\ntarget = "today"', "1D", True),
        ('issue = "00:30"\ntarget = "today"', "1D", False),
        ('issue = "11:30"\nhorizon = 2', "1MS", True),
        ('horizon = "6h"', "1h", True),
        ('horizon = "6h"', "1D", False),
        ('horizon = "30d"', "1MS", False),
        ('horizon = "31d"', "1MS", True),
    ],
)
def test_a_product_without_a_step_of_the_asset_is_not_issued_for_it(product: str, freq: str, suits: bool) -> None:
    config = read(f"[products.p]\n{product}\n")
    assert config.for_asset("a", {"freq": freq}).products == (("p",) if suits else ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target = 'tomorow'\nissue = '11:30'", 'target = "tomorow": expected a local day; accepted: "today"'),
        ("target = -1\nissue = '11:30'", "target = -1: expected a local day"),
        ("target = 'tomorrow'", "a delivery product needs issue and target"),
        ("target = 'tomorrow'\nissue = '11:30'\nhorizon = 3", "accepted: one of them"),
        ("issue = []\ntarget = 'today'", "issue = []: expected a time of day, or a list of different ones"),
        ("issue = ['06:00', '06:00']\ntarget = 'today'", "a list of different ones"),
        ("issue = '11:30'\ntarget = 'today'\nweekdays = ['fry']", 'weekdays = ["fry"]: expected days of the week'),
        ("horizon = 3\nweekdays = ['fri']", "weekdays says on which days there is an issue"),
        ("horizon = 3\ndays = 2", "days counts the local days of a delivery product"),
        ("horizon = '3 apples'", 'horizon = "3 apples": expected a whole number of steps, or a length'),
        ("horizon = 3\nrecipes = ['leval']", '[products.p] recipes: no recipe "leval"; did you mean "level"?'),
        ("horizon = 3\nfallback = ['leval']", '[products.p] fallback: no recipe "leval"; did you mean "level"?'),
        ("horizon = 3\nmetric = 'mea'", "[products.p] metric: "),
        ("horizn = 3", '[products.p] horizn: unknown key; did you mean "horizon"?'),
        ("horizon = 3\n[overrides.'a=b'.products.q]\nhorizon = 3", 'no product "q"; accepted: p'),
        ("horizon = 3\n[overrides.'a=b'.products.p]\nissue = '9'", '[overrides."a=b".products.p] issue = "9": '),
        ("horizon = 3\n[overrides.'a=b'.fleet]\nproducts = ['q']", '[overrides."a=b".fleet] products: no product "q"'),
        ("horizon = 3\n[jobs.x]\nevery = '1h'\nproduct = 'default'", 'product: no product "default"; accepted: p'),
    ],
)
def test_a_mistake_in_a_product_is_one_line_that_says_what_is_right(text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(f"[recipes.level]\nadapter = 'mean'\n[products.p]\n{text}\n")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


# -- what a fingerprint depends on ---------------------------------------------------------------------------------


def prints(text: str, product: str, hours: int = 24 * 30) -> tuple[str, str]:
    """The fingerprints (train, backtest) of an hourly asset whose data begin with 2024."""
    config = read(text)
    member = Member(
        asset_id="a",
        config=config.for_asset("a", {}, product),
        settings=0,
        rows=hours,
        data_end=None,
        first_reading=None,
        static={},
    )
    times: IntArray = 1_704_067_200_000_000 + HOUR * np.arange(hours)
    rows = Rows(times, np.arange(hours) * 1.0, times + HOUR, np.ones(hours, dtype=np.int64))
    asset = AssetRows(asset_id="a", span=Span(0, hours))
    loaded = Loaded(members=(member,), assets={"a": asset}, panel=Panel(path=None, rows=rows), covariates=None)
    people = Population(members=(member,), settings=(settings_of(member.config),), product=product)
    recipes = {"level": recipe_of(config.recipe("level"))}
    train, backtest = (
        Fingerprints(loaded, people, kind).of(member, recipes)["level"] for kind in ("train", "backtest")
    )
    return train, backtest


def test_the_settings_of_a_fleet_without_products_read_as_they_always_did() -> None:
    """Their text is a part of every fingerprint; another word in it would have every model fitted again."""
    settings = settings_of(read("[fleet]\nhorizon = 24\nseed = 3\n").for_asset("a"))
    assert settings.rule == ""
    assert repr(settings) == (
        "Settings(product='default', tz='UTC', freq='1h', horizon=24, seasons=(24, 168), quantiles=(), seed=3, "
        "window_us=31536000000000, judgement=Judgement(count=7, stride=Timedelta('1 days 00:00:00'), first=None, "
        "refit=False), days_ahead=None)"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('issue = "11:30"', 'issue = "10:30"'),
        ('issue = "11:30"', 'issue = ["11:30", "18:00"]'),
        ('issue = "11:30"', 'issue = "11:30"\nweekdays = ["mon"]'),
        ('target = "tomorrow"', 'target = "tomorrow+1"'),
        ('target = "tomorrow"', 'target = "tomorrow"\ndays = 2'),
        ("quantiles = []", "quantiles = [0.5]"),
    ],
)
def test_what_a_product_asks_makes_another_fingerprint(old: str, new: str) -> None:
    before, after = prints(TWO, "day_ahead"), prints(TWO.replace(old, new), "day_ahead")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_two_products_that_ask_the_same_are_still_two() -> None:
    text = TWO + TWO.split("\n\n")[1].replace("day_ahead", "twin")
    assert not {*prints(text, "day_ahead")} & {*prints(text, "twin")}
    assert prints(text, "day_ahead") == prints(TWO, "day_ahead")


def test_readings_after_the_last_issue_have_nothing_fitted_again() -> None:
    """A day-ahead model is fitted as of its last issue: what came after 11:30 is not news to it before the next."""
    assert prints(TWO, "day_ahead", 24 * 30 + 12)[0] == prints(TWO, "day_ahead", 24 * 30 + 20)[0]
    assert prints(TWO, "day_ahead", 24 * 30 + 11)[0] != prints(TWO, "day_ahead", 24 * 30 + 12)[0]
    assert prints(TWO, "default", 24 * 30 + 12)[0] != prints(TWO, "default", 24 * 30 + 20)[0]
