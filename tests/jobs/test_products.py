"""Products on the command line: named, shown, and refused where the name is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli.main import run
from tests.walks.small import fleet_in, hourly

CONFIG = """
[fleet]
name = "two"
horizon = 24
seasons = [24]

[products.day_ahead]
issue = ["06:00", "11:30"]
weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
target = "tomorrow"
fallback = ["naive"]

[recipes.day]
adapter = "seasonal_naive"

[train]
workers = 1

[backtest]
origins = 3

[overrides."asset=b".products.day_ahead]
issue = "10:00"
"""
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("two") / "fleet"
    with fleet_in(home, CONFIG) as fleet:
        fleet.ingest(hourly(["a", "b"], 20))
        fleet.train(promote=True)
    return home


@pytest.fixture
def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    monkeypatch.chdir(folder)

    def command(*words: str) -> tuple[int, str, str]:
        code = run([*words])
        out = capsys.readouterr()
        return int(code), out.out, out.err

    return command


def test_a_forecast_is_of_the_product_that_is_named(typed: Typed) -> None:
    code, out, err = typed("forecast", "--product", "day_ahead", "--json")
    assert (code, json.loads(out)["products"]) == (0, ["day_ahead"]), err
    code, out, _ = typed("forecast", "--dry-run", "--json")
    assert [(row["product"], row["assets"]) for row in json.loads(out)] == [("default", 2)]
    code, out, err = typed("forecast")
    assert "2 assets, 2 products, ok 2, skipped 2" in err
    _, out, _ = typed("sql", "select product, count(*) as n from published group by 1 order by 1", "--json")
    assert json.loads(out) == [{"product": "day_ahead", "n": 48}, {"product": "default", "n": 48}]


def test_status_tells_each_product_where_there_are_several(typed: Typed) -> None:
    _, out, _ = typed("status", "--json")
    found = json.loads(out)
    assert [(row["product"], row["assets"], row["champions"]) for row in found["products"]] == [
        ("default", 2, 2),
        ("day_ahead", 2, 2),
    ]
    assert found["assets"] == 2
    _, out, _ = typed("status")
    assert "Its products" in out


def test_the_configuration_of_a_product_tells_where_each_value_comes_from(typed: Typed) -> None:
    _, out, _ = typed("config", "show", "b", "--product", "day_ahead", "--json")
    shown = {row["key"]: (row["value"], row["from"]) for row in json.loads(out)}
    assert shown["train.fallback"] == (["naive"], "[products.day_ahead]")
    assert shown["products.day_ahead.issue"] == (["10:00"], '[overrides."asset=b".products.day_ahead]')
    assert shown["products.day_ahead.target"] == ("tomorrow", "[products.day_ahead]")
    _, out, _ = typed("config", "show", "a", "--json")
    shown = {row["key"]: (row["value"], row["from"]) for row in json.loads(out)}
    assert shown["train.fallback"][1] == "default"
    assert shown["products.day_ahead.issue"][0] == ["06:00", "11:30"]
    assert shown["fleet.products"][0] == ["default", "day_ahead"]


@pytest.mark.parametrize(
    "words",
    [
        ("leaderboard",), ("worst",), ("forecast",), ("backtest",), ("train",), ("promote", "day"), ("rollback",),
        ("config", "show"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_product_that_is_not_there_is_a_wrong_word(typed: Typed, words: tuple[str, ...]) -> None:
    code, out, err = typed(*words, "--product", "dayahead")
    assert (code, out) == (2, "")
    assert "day_ahead" in err


def test_tables_are_of_one_product(typed: Typed) -> None:
    for words in (("leaderboard",), ("worst",)):
        code, out, _ = typed(*words, "--product", "day_ahead", "--json")
        assert (code, {row["recipe"] for row in json.loads(out)}) == (0, {"day"})
    code, _, err = typed("promote", "day")
    assert (code, "several products" in err) == (2, True)
