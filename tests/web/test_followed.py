"""Answers over a large fleet: given at once, made anew beside, behind by no more than a bound."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet import Fleet
from jobs.web import Settings
from jobs.web.followed import Followed
from store import FixedClock, Store
from tests.web.conftest import served

START = datetime(2024, 6, 1, tzinfo=UTC)
DEADLINE_S = 30


class Shop:
    """A store that is committed to, a clock that is set, and what was made of it."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock(START)
        self.store = Store.open(folder / "a.store", clock=self.clock)
        self.followed = Followed(self.store, behind_s=60)
        self.made: list[int] = []
        self.renewed = threading.Event()

    def commit(self) -> None:
        transaction = self.store.begin()
        transaction.insert("metrics", [{"run_id": "1", "name": "mae", "value": 1.0}])
        transaction.commit()

    def ask(self) -> int:
        head = self.store.head()

        def make() -> int:
            self.made.append(head)
            if len(self.made) > 1:
                self.renewed.set()
            return head

        return self.followed.get("question", head, make)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.followed.close()
    made.store.close()


def test_what_nothing_was_committed_after_is_made_once(shop: Shop) -> None:
    shop.commit()
    assert [shop.ask(), shop.ask()] == [1, 1]
    assert shop.made == [1]


def test_after_a_commit_the_last_answer_comes_at_once_and_the_next_is_made_beside(shop: Shop) -> None:
    shop.commit()
    shop.ask()
    shop.commit()
    found = [shop.ask()]
    while not shop.renewed.wait(0.01):  # it rests in proportion to what the first took, which is next to nothing
        found.append(shop.ask())
    assert found[0] == 1
    shop.followed.close()
    assert shop.ask() == 2
    assert shop.made == [1, 2]


def test_no_answer_is_further_behind_than_the_bound(shop: Shop) -> None:
    shop.commit()
    shop.ask()
    shop.clock.set(START + timedelta(hours=9))  # a quiet night does not make it old
    assert shop.ask() == 1
    shop.commit()
    shop.clock.set(START + timedelta(hours=9, seconds=61))
    assert shop.ask() == 2
    assert shop.made == [1, 2]


def test_who_asks_for_what_is_being_made_waits_for_it(shop: Shop) -> None:
    shop.commit()
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make() -> int:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        made.append(1)
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(shop.followed.get("slow", 1, make))) for _ in range(4)]
    threads[0].start()
    assert begun.wait(DEADLINE_S)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert (found, made) == ([7] * 4, [1])


def test_an_error_is_not_kept(shop: Shop) -> None:
    shop.commit()
    with pytest.raises(ZeroDivisionError):
        shop.followed.get("wrong", 1, lambda: 1 // 0)
    assert shop.followed.get("wrong", 1, lambda: 3) == 3


def test_pages_of_a_large_fleet_are_those_of_a_small_one(built: Path) -> None:
    """Read only, nothing is committed: what is followed is as new as what is made for the snapshot."""
    pages = ("/", "/assets", "/leaderboard", "/figures/spread.json", "/figures/worst.json", "/figures/leaderboard.csv")
    answers = []
    for most in (0, 1_000_000):
        with (
            Fleet.open(built / "fleet.toml", read_only=True) as fleet,
            served(fleet, Settings(port=0, exact_scores=most)) as ask,
        ):
            answers.append([ask(page, accept="text/html").text for page in pages for _ in range(2)])
    told = re.compile(r'<p class="quiet">This fleet is large:[^<]*</p>')
    assert [bool(told.search(text)) for text in answers[0]] == [True] * 6 + [False] * 6  # three pages, three figures
    assert [told.sub("", text) for text in answers[0]] == answers[1]
