"""A claim is a watermark that a transaction expects to be as it was and sets anew: one of many gets it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from store import Store
from store.errors import Overtaken

RACER = """
import sys
from store import Store
from store.errors import Overtaken
with Store.open(sys.argv[1]) as store:
    sys.stdin.readline()
    won = 0
    for turn in range(40):
        while True:
            held = store.snapshot().mark("turn")
            if held is not None and int(held.split()[0]) >= turn:
                break
            transaction = store.begin()
            transaction.expect("turn", held)
            transaction.mark("turn", f"{turn} {sys.argv[2]}")
            transaction.insert("alerts", [{"alert_id": f"{turn} {sys.argv[2]}", "rule": str(turn)}])
            try:
                transaction.commit()
                won += 1
            except Overtaken:
                pass
    print(won)
"""


def claim(store: Store, expected: str | None, value: str) -> None:
    transaction = store.begin()
    transaction.expect("lease", expected)
    transaction.mark("lease", value)
    transaction.commit()


def test_a_claim_goes_through_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        claim(store, None, "first")
        with pytest.raises(Overtaken) as caught:
            claim(store, None, "second")
        assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message  # noqa: S301  our own, just made
        assert store.snapshot().mark("lease") == "first"
        claim(store, "first", "second")
        assert store.snapshot().mark("lease") == "second"


def test_nothing_of_a_transaction_that_was_overtaken_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        claim(store, None, "first")
        head = store.head()
        transaction = store.begin()
        transaction.expect("lease", "other")
        transaction.insert("alerts", [{"alert_id": "a"}])
        with pytest.raises(Overtaken):
            transaction.commit()
        assert store.head() == head
        assert store.table("alerts").num_rows == 0


def test_a_fenced_store_writes_until_another_takes_over(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as mine, Store.open(tmp_path / "s") as other:
        claim(mine, None, "mine")
        mine.fence("lease", "mine")
        with mine.run(asset="a", recipe="r") as run:
            run.log_metrics({"mae": 1.0})
        claim(other, "mine", "other")
        late = mine.begin()
        late.insert("alerts", [{"alert_id": "late"}])
        with pytest.raises(Overtaken):
            late.commit()
        mine.unfence("lease")
        after = mine.begin()
        after.insert("alerts", [{"alert_id": "after"}])
        after.commit()
        assert other.table("alerts")["alert_id"].to_pylist() == ["after"]


def test_of_processes_that_race_for_forty_claims_each_is_won_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s"):
        pass
    words = [sys.executable, "-c", RACER, str(tmp_path / "s")]
    racers = [
        subprocess.Popen([*words, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    told = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=60)
        assert racer.returncode == 0
        told.append(int(out))
    assert sum(told) == 40
    with Store.open(tmp_path / "s", read_only=True) as store:
        won = store.sql("select rule as turn, count(*) as n from alerts group by all").rows()
        assert sorted((int(row["turn"]), row["n"]) for row in won) == [(turn, 1) for turn in range(40)]
