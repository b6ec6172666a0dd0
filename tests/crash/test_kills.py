"""Killed at random: what was acknowledged is there once and whole, whoever dies when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store
from tests.crash import deeds
from tests.crash.running import harness
from tests.store.rows import insert

WRONG = ("lost", "twice", "half_visible", "unreadable")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s") as opened:
        yield opened


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_whoever_is_killed() -> None:
    (told,) = harness("kills", "--kills", 30, "--commits", 400, "--seed", 3)
    assert {name: told[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
    assert told["damages"] == []
    assert told["commits"] >= 400
    assert told["under_way"] >= 30
    assert told["looked"] > 0
    assert sum(told["roles"].get(role, 0) for role in ("waiting", "leading")) > 0, "no kill met a commit of several"
    assert all(told["upkeep"][done] > 0 for done in ("flushed", "merged"))


def test_the_harness_tells_half_a_commit(store: Store) -> None:
    champion = None
    for number in range(40):
        one = deeds.deed(5, "w", number)
        deeds.do(store, one, champion)
        champion = deeds.champion_after(one, champion)
    assert deeds.present(store.snapshot(), 5) == {deeds.deed(5, "w", n).name: n + 1 for n in range(40)}
    insert(store, "metrics", [{"run_id": "w-000003", "name": "one more", "value": 0.0}])
    with pytest.raises(deeds.HalfVisible):
        deeds.present(store.snapshot(), 5)


@pytest.mark.parametrize("table", ["metrics", "runs", "actuals", "versions", "decisions", "alerts"])
def test_the_harness_tells_a_table_that_lacks_a_commit(store: Store, table: str) -> None:
    whole, number = {"bulk", "blobs", "promotion"}, 0
    while not whole <= deeds.deed(5, "w", number).parts:
        number += 1
    deeds.do(store, deeds.deed(5, "w", number), None)
    with pytest.raises(deeds.HalfVisible):
        deeds.present(_Without(store, table), 5)  # type: ignore[arg-type]  # stands in for a snapshot


class _Without:
    """A snapshot that shows nothing of one table."""

    def __init__(self, store: Store, table: str) -> None:
        self._snapshot, self._table = store.snapshot(), table
        self.id, self.mark = self._snapshot.id, self._snapshot.mark

    def sql(self, query: str) -> object:
        return self._snapshot.sql(query.replace(f"from {self._table}__v", f"from (from {self._table}__v limit 0)"))
