"""`tsfleet store upkeep` and `expire`: what they do, told as rows or as JSON; no answer changes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from jobs.cli.exits import Exit
from tests.jobs.test_verbs import Typed


@pytest.fixture
def typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


def test_upkeep_by_hand_tidies_and_says_so(fed: Typed) -> None:
    before = fed.json("sql", "select count(*) as n, sum(y) as y from actuals")
    done = fed.json("store", "upkeep")
    assert set(done) == {"flushed", "merged", "folded", "collected", "freed", "bytes", "seconds"}
    assert sum(done["flushed"].values()) > 0
    assert fed.json("sql", "select count(*) as n, sum(y) as y from actuals") == before
    info = fed.json("store", "info")
    assert sum(info["hot"].values()) == 0
    assert info["levels"]["actuals"]
    assert (info["oldest"], info["readers"]) == (0, 0)
    fed("store", "upkeep")
    assert "flushed 0 rows" in fed.err


def test_expire_ends_what_is_older_and_refuses_what_is_no_time(fed: Typed) -> None:
    fed("store", "expire", "--before", "yesterday", code=Exit.USAGE)
    fed("store", "expire", "--before", "2000-01-01T00:00Z", code=Exit.USAGE)
    before = fed.json("sql", "select count(*) as n from actuals")
    fed("store", "expire", "--before", "2999-01-01T00:00Z")
    assert fed.json("store", "info")["oldest"] == fed.json("store", "info")["head"]
    assert fed.json("sql", "select count(*) as n from actuals") == before


def test_verify_exits_with_what_it_found(fed: Typed, folder: Path) -> None:
    fed("store", "upkeep")
    found = fed.json("store", "verify")
    assert (found["ok"], found["damages"], found["digests"]) == (True, [], True)
    assert found["segments"] > 0
    fed("store", "verify")
    assert "all is as it was written" in fed.err
    segment = next((folder / "small.store" / "segments" / "actuals").iterdir())
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data)
    found = fed.json("store", "verify", code=Exit.PARTLY)
    (damage,) = found["damages"]
    assert (damage["file"], damage["table"]) == (str(segment), "actuals")
    assert damage["from"].startswith("2024-")
    assert len(damage["assets"]) == 2
    fed("store", "verify", code=Exit.PARTLY)
    assert "restore" in fed.err


def test_backup_restore_and_export(fed: Typed, folder: Path, tmp_path: Path) -> None:
    before = fed.json("sql", "select count(*) as n, sum(y) as y from actuals")
    kept, again = str(tmp_path / "kept"), str(tmp_path / "again")
    done = fed.json("store", "backup", kept)
    assert done["bytes"] > 0
    assert done["seconds"] > 0
    assert done["linked"] == 0
    fed("store", "backup", kept, code=Exit.USAGE)
    fed("store", "backup", again, "--previous", kept)
    (folder / "small.store").rename(folder / "broken")
    fed("store", "restore", kept, "small.store")
    assert fed.json("sql", "select count(*) as n, sum(y) as y from actuals") == before
    told = fed.json("store", "export", str(tmp_path / "plain"), "--tables", "actuals,assets")
    assert told["rows"]["actuals"] == before[0]["n"]
    fed("store", "export", str(tmp_path / "plain"), code=Exit.USAGE)
    fed("store", "export", str(tmp_path / "other"), "--tables", "nothing", code=Exit.USAGE)


def test_erase_tells_first_and_does_it_when_told_to(fed: Typed) -> None:
    before = fed.json("sql", "select asset_id, count(*) as n from actuals group by 1 order by 1")
    fed("store", "erase", code=Exit.USAGE)
    told = fed.json("store", "erase", "north-2")
    assert told["dry_run"]
    assert told["rows"]["actuals"] == before[1]["n"]
    assert fed.json("sql", "select asset_id, count(*) as n from actuals group by 1 order by 1") == before
    fed("store", "erase", "north-2")
    assert "--yes does it" in fed.err
    done = fed.json("store", "erase", "north-2", "--yes")
    assert (done["done"], done["rows"], done["dry_run"]) == (True, told["rows"], False)
    left = fed.json("sql", "select asset_id, count(*) as n from actuals group by 1 order by 1")
    assert left == [before[0], before[2]]
    assert fed.json("store", "verify")["ok"]
    fed("store", "erase", "north-2", "--yes")
    assert "nothing was stored of north-2" in fed.err
    assert "backups made before" in fed.err


def test_thin_does_what_the_configuration_says(typed: Typed, folder: Path) -> None:
    for verb in ("ingest", "train", "forecast"):
        typed(verb)
    count = "select count(*) as n, max(valid_time - issue_time) as far from forecasts where role <> 'backtest'"
    (before,) = typed.json("sql", count)
    typed("store", "thin")
    assert "no product has a [retention.PRODUCT]" in typed.err
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[retention.default]\nafter = "90d"\nleads_below = "6h"\n')
    typed("store", "thin", "--product", "day_ahead", code=Exit.USAGE)
    (told,) = typed.json("store", "thin", "--dry-run")
    assert told["rows"] == before["n"] * 18 // 24
    assert typed.json("sql", count) == [before]
    (done,) = typed.json("store", "thin")
    assert done["rows"] == told["rows"]
    assert typed.json("sql", count)[0]["n"] == before["n"] // 4
    assert typed.json("store", "thin", "--product", "default")[0]["rows"] == 0


def test_what_was_scored_of_thinned_leads_outlives_a_revision(typed: Typed, folder: Path) -> None:
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write('\n[retention.default]\nafter = "90d"\nleads_below = "6h"\n')
    for verb in ("ingest", "train"):
        typed(verb)
    typed("forecast", "--issue-time", "2024-03-20T00:00Z", code=Exit.PARTLY)  # nothing had been trained by then
    typed("score")
    scores = "select lead_bucket, sum(n) as n, sum(sum_abs_e) as e from scores where role <> 'backtest' group by 1"
    before = {row["lead_bucket"]: row for row in typed.json("sql", scores)}
    assert {name: row["n"] for name, row in before.items()} == {"0-1h": 3, "1-6h": 15, "6-24h": 54}
    typed("store", "thin")
    path = folder / "data" / "history.parquet"
    history = pd.read_parquet(path)
    revised = history.y.where(history.ds < "2024-03-20", history.y + 5.0)
    pd.DataFrame(history.assign(y=revised)).to_parquet(path)
    typed("ingest")
    typed("score")
    after = {row["lead_bucket"]: row for row in typed.json("sql", scores)}
    assert after["6-24h"] == before["6-24h"]
    assert after["1-6h"]["n"] == 15
    assert after["1-6h"]["e"] > before["1-6h"]["e"] + 30
