"""What a notebook shows in passing: complete in itself, escaped, small, at once, and never an exception."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fleet import Fleet, cards, html
from fleet.ingest import IngestReport
from fleet.leaderboard import Leaderboard
from fleet.outcome import FailureGroup, Planned, Report
from fleet.questions import Curve, Known, Scored
from tests.fleet.small_world import HOSTILE, world_in
from tests.walks.small import NOW, fleet_in

EMPTY = '[fleet]\nname = "empty"\nhorizon = 24\n[recipes.day]\nadapter = "naive"\n'
NASTY = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
VOID = {"br", "img", "meta", "path"}


class Page(HTMLParser):
    """Reads markup: its elements, its text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(text: str) -> Page:
    """The page, sure to be harmless, offline and small."""
    page = Page(text)
    assert set(page.elements) <= {
        *("div", "style", "h4", "p", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "svg", "path")
    }
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in page.attributes)
    assert "url(" not in text
    assert "://" not in text
    assert "@import" not in text
    assert len(text.encode()) < 30_000
    return page


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with world_in(tmp_path_factory.mktemp("world"), gaps=True) as made:
        yield made


# ------------------------------------------------------------------------------------------------------ the cards


def test_a_fleet_shows_counts_champions_jobs_and_the_worst(fleet: Fleet) -> None:
    page = checked(fleet._repr_html_())
    assert "known <b>by hand</b>" in page.text
    assert "day 2, spread 1" in page.text
    assert "exception 1" in page.text  # why the forecast of b fell back
    rows = re.findall('<tr><td>(.*?)</td><td>(.*?)</td><td class="n">(.*?)</td>', fleet._repr_html_())
    assert rows[-3:] == [
        ("&lt;img src=x onerror=alert(1)&gt;", "day", "3.75"),
        ("b", "spread", "2.5"),
        ("a", "day", rows[-1][2]),
    ]
    assert page.elements.count("svg") == 3


def test_instants_are_shown_in_the_fleets_zone(fleet: Fleet) -> None:
    assert "2024-01-16 19:00 EST" in checked(fleet._repr_html_()).text  # midnight in UTC


def test_an_asset_shows_facts_champion_results_and_its_last_days(fleet: Fleet) -> None:
    page = checked(fleet["b"]._repr_html_())
    assert "unit MW" in page.text
    assert "in charge: spread" in page.text
    assert "by fallback week (exception)" in page.text
    assert "svg" in page.elements
    hostile = checked(fleet[HOSTILE]._repr_html_())
    assert HOSTILE in hostile.text


def test_missing_readings_are_counted_and_break_the_picture(fleet: Fleet) -> None:
    card = fleet["a"]._repr_html_()
    assert "5 steps missing" in checked(card).text
    curve = re.search(r'<path d="([^"]*)" fill="none" stroke="currentColor"', card)
    assert curve is not None
    assert curve[1].count("M") == 3  # what is before, between and after the two stretches that are missing
    assert re.search(r'd="M[\d. ]+h0"', card)  # and the one reading between two that are missing, as a dot


def test_a_leaderboard_says_what_is_missing_undefined_and_not_paired(fleet: Fleet) -> None:
    card = fleet.leaderboard()._repr_html_()
    assert {"missing", "undefined", "assets", "n"} <= set(re.findall("<th[^>]*>([^<]*)</th>", card))
    assert "not paired" not in checked(card).text
    assert "not paired" in checked(fleet.leaderboard(role="live")._repr_html_()).text


def board(rows: int, names: int = 4, **more: Any) -> Leaderboard:
    metrics = tuple(f"skill_{NASTY}{k}" for k in range(names))
    row: Mapping[str, Any] = {
        "recipe": NASTY, "library": NASTY, "assets": 10, "n": 240, "missing": 0, "undefined": 1,
        "perfect_foresight": True, **dict.fromkeys(metrics, 0.123456),
    }  # fmt: skip
    return Leaderboard(
        columns=tuple(row),
        table=(row,) * rows,
        role="backtest",
        average="mean",
        metric=metrics[0],
        paired=False,
        **more,
    )


@pytest.mark.parametrize(("rows", "names"), [(1, 1), (10_000, 2), (50, 40)])
def test_a_leaderboard_of_any_size_stays_small_and_says_what_it_leaves_out(rows: int, names: int) -> None:
    page = checked(board(rows, names)._repr_html_())
    assert "perfect foresight" in page.text
    assert "<script>" in page.text  # as text
    if rows > 40:
        assert f"of {rows:,} rows left out" in page.text


def test_a_report_groups_what_failed(fleet: Fleet) -> None:
    groups = tuple(
        FailureGroup(cause="exception", count=k, asset_id=NASTY * 20, recipe=NASTY, error=NASTY * 100)
        for k in range(100)
    )
    report = Report(
        job="py:train", slot=NOW, assets=5_000, ok=4_000, failed=1_000, failures=groups, rows={"runs": 5_000},
        notes=(NASTY,) * 100, interrupted=True, retry="tsfleet train --failed",
    )  # fmt: skip
    page = checked(report._repr_html_())
    assert "4,000" in page.text
    assert "interrupted" in page.text
    assert "more groups" in page.text
    assert "tsfleet train --failed" in page.text


def test_a_rehearsal_says_what_would_be_done() -> None:
    planned = (Planned(act="judge", recipe="day", assets=7),)
    report = Report(job="py:train", slot=NOW, assets=7, planned=planned)
    assert "judgeday7" in checked(report._repr_html_()).text


def test_an_ingest_shows_what_is_odd(fleet: Fleet) -> None:
    report = IngestReport(assets=2, new_assets=1, rows=48, missing=3, first=NOW, last=NOW, written={"actuals": 48})
    assert "48 actuals" in checked(report._repr_html_()).text


def test_a_card_stays_small_whatever_the_step(fleet: Fleet) -> None:
    """Four days of minutes and a day of forecast with its intervals."""
    minutes = 60_000_000 * np.arange(5 * 1_440)
    y = np.random.default_rng(0).normal(1_000, 10, len(minutes))
    ahead = slice(4 * 1_440, None)
    curve = Curve(
        asset_id="a", recipe=NASTY, role="champion", issue=int(minutes[ahead][0]), times=minutes[ahead], mean=y[ahead],
        quantiles={0.1: y[ahead] - 20, 0.9: y[ahead] + 20},
    )  # fmt: skip
    many = [Scored(recipe=f"{NASTY} {k}", role="live", value=1.0, points=1, foresight=True) for k in range(200)]
    card = cards.asset_card(
        NASTY, {NASTY: NASTY}, "UTC", champion=None, metric="mae", results=many, known=Known(times=minutes, y=y),
        curve=curve,
    )  # fmt: skip
    assert "more recipes" in checked(card).text


# ------------------------------------------------------------------------------------------------------ no exception


def test_an_empty_store_says_that_it_is(tmp_path: Path) -> None:
    with fleet_in(tmp_path, EMPTY) as empty:
        assert "The store is empty" in checked(empty._repr_html_()).text
        assert "nothing is scored yet" in checked(empty.leaderboard()._repr_html_()).text
        assert (len(empty), list(empty), "a" in empty, bool(empty)) == (0, [], False, True)


def test_a_closed_store_says_that_it_is(tmp_path: Path) -> None:
    with world_in(tmp_path, issued=False) as closed:
        asset = closed["a"]
    assert "is closed" in checked(closed._repr_html_()).text
    assert "is closed" in checked(asset._repr_html_()).text
    assert "known <b>by hand</b>" in repr(closed)
    assert "'a'" in repr(asset)


def test_an_asset_that_is_not_in_the_register_any_more_says_so(fleet: Fleet) -> None:
    asset = type(fleet["a"])(fleet.store, fleet.config, "gone")
    assert "no asset 'gone'" in checked(asset._repr_html_()).text


# ------------------------------------------------------------------------------------------------------ ten thousand


def ten_thousand(folder: Path) -> Fleet:
    """A store of ten thousand assets with two days of readings, a champion and a week of scores each."""
    fleet = fleet_in(folder, EMPTY)
    ids = [f"asset-{k:05d} <{k}>" for k in range(10_000)]
    micros = pa.timestamp("us", "UTC")

    def repeated(values: list[Any], times: int) -> pa.Array:
        return pa.array(np.repeat(np.array(values, dtype=object), times).tolist())

    hours = pa.array([NOW - timedelta(hours=k) for k in range(48, 0, -1)] * len(ids), micros)
    days = [(NOW - timedelta(days=k)).date() for k in range(7, 0, -1)] * len(ids)
    n = len(days)
    errors = np.random.default_rng(0).gamma(2.0, 10.0, n)
    texts = {"product": "default", "recipe": "day", "recipe_hash": "h", "version_id": "v", "role": "backtest"}
    texts |= {"truth": "latest", "lead_bucket": "0-1h", "points": "0" * 16}
    scores = {name: pa.array([text] * n) for name, text in texts.items()}
    scores |= {"asset_id": repeated(ids, 7), "perfect_foresight": pa.array([False] * n), "day": pa.array(days)}
    scores |= {"n": pa.array([24] * n), "sum_abs_e": pa.array(24 * errors)}
    since = datetime(2024, 1, 1, tzinfo=UTC)
    champions = {
        "asset_id": ids,
        "product": ["default"] * len(ids),
        "recipe": ["day"] * len(ids),
        "version_id": ["v"] * len(ids),
    }
    transaction = fleet.store.begin()
    transaction.insert("assets", pa.table({"asset_id": ids, "kind": ["wind"] * len(ids)}))
    transaction.insert(
        "actuals",
        pa.table({"asset_id": repeated(ids, 48), "valid_time": hours, "y": np.ones(len(hours)), "available_at": hours}),
    )
    transaction.insert("scores", pa.table(scores))
    table = pa.table({**champions, "since": pa.array([since] * len(ids), micros)})
    transaction.promote(table, [None] * len(ids), [])
    transaction.commit()
    return fleet


def test_ten_thousand_assets_make_a_small_card_at_once(tmp_path: Path) -> None:
    """0.1 s is the promise on a quiet machine; here the best of three has to stay near it on a busy one."""
    with ten_thousand(tmp_path) as fleet:
        assert len(fleet) == 10_000
        took = []
        for show in (fleet._repr_html_, fleet["asset-05000 <5000>"]._repr_html_):
            best = 10.0
            for _ in range(3):
                started = time.perf_counter()
                card = show()
                best = min(best, time.perf_counter() - started)
            checked(card)
            took.append(best)
        assert max(took) < 1.0, took
        assert checked(fleet._repr_html_()).elements.count("svg") == 10


# ------------------------------------------------------------------------------------------------------ pieces


def test_a_curve_breaks_where_a_value_is_missing() -> None:
    canvas = html.Canvas(width=103, height=13, x=(0.0, 4.0), y=(0.0, 10.0))
    drawn = canvas.line(np.arange(5.0), np.array([0.0, 10.0, np.nan, 5.0, 0.0]))
    assert re.findall('d="(.*?)"', drawn) == ["M1.5 11.5L26.5 1.5M76.5 6.5L101.5 11.5"]


def test_thinning_keeps_the_highest_and_the_lowest_of_each_column() -> None:
    y = np.zeros(10_000)
    y[1234], y[7777] = 99.0, -99.0
    kept = html.thinned(np.arange(10_000) // 100, y)
    assert len(kept) <= 200
    assert {1234, 7777} <= set(kept)
    assert np.array_equal(html.thinned(np.arange(50), y[:50]), np.arange(50))


def test_a_name_cannot_turn_the_direction_of_what_follows() -> None:
    assert "\u202e" not in html.escaped("abc\u202egnp.exe")


def test_a_card_that_cannot_be_made_says_why() -> None:
    def fails() -> html.Html:
        raise OSError("<disk> gone")

    assert "<disk> gone" in checked(cards.guarded("fleet", fails, (OSError,))).text
