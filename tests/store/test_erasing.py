"""Erasing: nothing of the asset is left in any file, everything of others is as it was."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from store import FixedClock, Store
from store.errors import CommitConflict, Damaged, InvalidId, ReadOnly, SnapshotExpired, StoreBusy
from store.files import segment_file
from store.lock import WriterLock
from store.packs import pack_path
from store.schema import STORED
from store.tracing import Survey
from tests.store.planted import BOTH, GONE, KEPT, NEEDLES, NOW, ONLY, blob, of_others, traces
from tests.store.rows import START, insert, reading, readings, replace
from tests.store.test_processes import finish, start

# --------------------------------------------------------------------------------------------------------- the law


def test_nothing_of_an_erased_asset_is_left_and_everything_of_others_is(planted: Store) -> None:
    before, listed = of_others(planted), traces(planted.path)
    assert {one.partition(": ")[2].partition(" in ")[0] for one in listed} == {*NEEDLES} - {"value of SQLite"}
    assert any(one.startswith("catalog.sqlite") for one in listed)
    done = planted.erase([GONE])
    assert traces(planted.path) == set()
    assert of_others(planted) == before
    assert planted.verify().damages == ()
    assert done.done
    assert (done.unknown, done.waiting, done.unnamed, done.blobs) == ((), (), (), 1)
    assert set(done.rows) >= {name for name in STORED if "asset_id" in STORED[name].by_name and name != "champions"}
    assert done.series == ("station of 9",)
    assert done.shared == (sha256(BOTH).hexdigest(),)
    assert planted.blob(sha256(BOTH).hexdigest()) == BOTH


def test_what_belongs_to_nobody_stays_without_the_name(planted: Store) -> None:
    planted.erase([GONE])
    assert planted.sql("select text from alerts").rows() == [{"text": "[erased] and plant-1 are late (3)"}]
    assert planted.sql("select error, attempt from job_runs").rows() == [
        {"error": "no data of '[erased]'", "attempt": 3}
    ]
    runs = planted.sql("select params, tags from runs where asset_id is null order by run_id").rows()
    assert runs == [{"params": '{"of":["[erased]","plant-1"]}', "tags": '{"[erased]":1,"n":2.5}'}] * 4
    assert planted.snapshot().mark("newest") == "up to [erased]"
    assert planted.snapshot().mark("scored") == "3"
    assert planted.snapshot().mark(f"scored/{GONE}") is None


def test_the_commits_of_before_stay_known_and_their_answers_name_it_no_more(planted: Store) -> None:
    planted.erase([GONE])
    key = planted._catalog.committed
    from store.ids import commit_key

    (_, _, answer) = key(commit_key("3")) or (b"", 0, "")
    assert {one["asset_id"] for one in json.loads(answer)["conflicts"]} == set(KEPT)


def test_older_snapshots_end_and_say_so(planted: Store, clock: FixedClock) -> None:
    head, held = planted.head(), planted.snapshot()
    done = planted.erase([GONE])
    assert (done.snapshot, done.ended) == (head + 1, head)
    for ask in (lambda: planted.at(head), lambda: held.table("actuals"), lambda: planted.diff(1, 2)):
        with pytest.raises(SnapshotExpired, match=f"whole is {head + 1}"):
            ask()
    assert planted.at(head + 1).table("actuals").num_rows > 0


def test_erasing_again_does_nothing_more(planted: Store) -> None:
    planted.erase([GONE])
    head, before = planted.head(), of_others(planted)
    again = planted.erase([GONE])
    assert (again.snapshot, again.rows, again.unknown, again.done) == (None, {}, (GONE,), True)
    assert (planted.head(), of_others(planted)) == (head, before)


def test_without_the_will_to_do_it_nothing_happens_and_all_is_told(planted: Store) -> None:
    def everything() -> dict[str, bytes]:
        return {str(one): one.read_bytes() for one in planted.path.rglob("*") if one.is_file() and one.suffix != ""}

    before = everything()
    told = planted.erase([GONE], dry_run=True)
    assert everything() == before
    done = planted.erase([GONE])
    for name in ("rows", "texts", "mentions", "segments", "packs", "blobs", "shared", "series", "unknown"):
        assert getattr(told, name) == getattr(done, name), name
    assert (told.snapshot, told.done) == (None, False)


def test_all_assets_may_go(planted: Store) -> None:
    done = planted.erase([GONE, *KEPT, *(f"asset-{n:05d}" for n in range(3))])
    assert done.blobs == 2
    assert planted.table("actuals").num_rows == 0
    assert planted.info().packs == 0
    assert planted.verify().ok


def test_thousands_of_assets_go_at_once(store: Store) -> None:
    insert(store, "actuals", readings(6_000, 1))
    insert(store, "runs", [{"run_id": "1", "tags": {"of": [f"asset-{n:05d}" for n in (0, 5_998, 5_999)]}}])
    done = store.erase([f"asset-{n:05d}" for n in range(5_999)])
    assert (done.rows, done.texts) == ({"actuals": 5_999}, 1)
    assert store.sql("select tags from runs").rows() == [{"tags": '{"of":["[erased]","[erased]","asset-05999"]}'}]


def test_rows_of_others_that_name_it_are_counted_and_stay(store: Store) -> None:
    insert(store, "runs", [{"run_id": "1", "asset_id": "b", "tags": {"taught by": "plant-7"}}])
    insert(store, "actuals", [reading("plant-7", 0, 1.0)])
    assert store.erase("plant-7").mentions == 1
    assert store.sql("select tags from runs").rows() == [{"tags": '{"taught by":"plant-7"}'}]


def test_an_asset_whose_rows_are_in_the_middle_of_a_batch_of_hot_rows(store: Store) -> None:
    insert(store, "actuals", [reading(one, hour, hour) for hour in range(5) for one in "abc"])
    insert(store, "actuals", [reading("b", 9, 9.0)])
    store.erase(["b"])
    assert store.verify().ok
    insert(store, "actuals", [reading("c", 9, 9.0)])
    assert store.info().hot["actuals"] == 11
    store.flush()
    assert store.verify().ok
    assert store.table("actuals").num_rows == 11


def test_a_name_in_an_unused_place_of_a_dictionary_goes_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As earlier code wrote it: the whole dictionary of what was sliced."""
    ids = pa.array([GONE, "b"]).dictionary_encode()
    rows = readings(1, 6_000).set_column(
        0, "asset_id", pa.DictionaryArray.from_arrays(pa.array([1] * 6_000), ids.dictionary)
    )
    insert(store, "actuals", rows)
    assert traces(store.path) == set()
    monkeypatch.setattr("store.segments._used", lambda rows: rows)
    insert(store, "actuals", rows)
    assert traces(store.path) != set()
    done = store.erase([GONE])
    assert (traces(store.path), done.segments, done.rows) == (set(), 1, {})
    assert store._catalog.totals()["tables"]["actuals"] == 12_000


def test_a_series_of_its_own_name_goes_and_others_when_asked(store: Store) -> None:
    """Covariates that came by asset are a series that bears its name; a station that others see too is everybody's."""
    at = {"valid_time": START, "available_at": START, "name": "t"}
    for series in ("a", "b", "station", "lone"):
        insert(store, "covariates", [at | {"series_id": series, "value": 1.0}])
        replace(store, "series", [{"series_id": series, "source": str(turn)} for turn in range(2)])
        replace(store, "series", [{"series_id": series, "source": "again"}])
    links = {"a": ("a", "station", "lone", "b"), "b": ("b", "station")}
    insert(store, "links", [{"asset_id": one, "series_id": to} for one, seen in links.items() for to in seen])
    done = store.erase(["a"])
    assert (done.rows, done.series) == (
        {"covariates": 1, "links": 4, "series": 2, "series__replaced": 1}, ("lone",),
    )  # fmt: skip
    left = "select distinct series_id from covariates order by all"
    assert [row["series_id"] for row in store.sql(left).rows()] == ["b", "lone", "station"]
    insert(store, "links", [{"asset_id": "c", "series_id": to} for to in ("b", "lone")])
    done = store.erase(["c"], series=True)
    assert (done.rows["covariates"], done.series) == (1, ())
    done = store.erase(["b"])
    assert [row["series_id"] for row in store.sql(left).rows()] == ["station"]
    insert(store, "links", [{"asset_id": "d", "series_id": "station"}])
    assert store.erase(["station"]).series == ("station",)
    assert store.verify().ok


# ------------------------------------------------------------------------------------------------------------ blobs


def test_a_blob_that_two_commits_brought_goes_from_both_packs(store: Store) -> None:
    first, second = store.begin(), store.begin()
    for txn, name in ((first, "1"), (second, "2")):
        txn.put_blobs([ONLY, f"of {name}".encode()])
        txn.insert("versions", [{"version_id": name, "asset_id": "x", "sha256": blob(GONE)}])
    first.commit()
    second.commit()
    assert len({path.name for path in (store.path / "packs").iterdir()}) == 2
    done = store.erase(["x"])
    assert (done.blobs, done.packs) == (1, 2)
    assert not any(ONLY in path.read_bytes() for path in (store.path / "packs").iterdir())
    assert store.blob(sha256(b"of 2").hexdigest()) == b"of 2"  # nobody's, but not the asset's either
    assert store.verify().ok


def test_a_commit_that_relies_on_an_erased_blob_is_refused(store: Store) -> None:
    first = store.begin()
    first.put_blobs([ONLY])
    first.insert("versions", [{"version_id": "1", "asset_id": "x", "sha256": blob(GONE)}])
    first.commit()
    late = store.begin()
    late.put_blobs([ONLY])
    late.insert("versions", [{"version_id": "2", "asset_id": "y", "sha256": blob(GONE)}])
    store.erase(["x"])
    with pytest.raises(CommitConflict):
        late.commit()
    again = store.begin()
    again.put_blobs([ONLY])
    again.insert("versions", [{"version_id": "2", "asset_id": "y", "sha256": blob(GONE)}])
    again.commit()
    assert store.blob(blob(GONE)) == ONLY
    assert store.verify().ok


# ------------------------------------------------------------------------------------------------ readers, refusals


def test_a_reader_is_waited_for_and_what_it_keeps_is_told(planted: Store) -> None:
    with planted._reader._presence.reading():
        done = planted.erase([GONE], wait=NOW)
        assert not done.done
        told = [name for name in done.waiting if "/latest/" not in name]  # what was derived is made anew
        assert len(told) == done.segments + done.packs < len(done.waiting)
        assert all((planted.path / name).exists() for name in done.waiting)
    again = planted.erase([GONE])
    assert (again.done, again.waiting) == (True, ())
    assert traces(planted.path) == set()


def test_a_process_that_goes_on_asking_is_not_disturbed(template: Path, tmp_path: Path) -> None:
    asking = """
        import sys
        from store import Store
        with Store.open(sys.argv[1], read_only=True) as store:
            print("ready", flush=True)
            asked = 0
            while store.info().oldest == 0 or asked < 3:
                assert store.table("actuals", assets=["plant-1"]).num_rows > 3
                assert store.blob(sys.argv[2])
                asked += 1
    """
    path = shutil.copytree(template, tmp_path / "s")
    reader = start(asking, path, sha256(BOTH).hexdigest())
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    with Store.open(path) as store:
        assert store.erase([GONE]).done
    finish(reader)
    assert traces(path) == set()


def test_who_never_stops_writing_is_made_to_wait_in_the_end(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit comes after every look but the last, which is taken under the lock."""
    looked = []
    look = Survey.look

    def looking(survey: Survey) -> None:
        look(survey)
        looked.append(survey.head)
        if len(looked) <= 4:
            with Store.open(store.path) as other:
                insert(other, "actuals", [reading("a", 10 + len(looked), 1.0), reading("b", 10 + len(looked), 1.0)])
                other.flush()

    monkeypatch.setattr(Survey, "look", looking)
    insert(store, "actuals", [reading("a", 0, 1.0)])
    done = store.erase(["a"])
    assert (looked, done.rows) == ([1, 2, 3, 4, 5], {"actuals": 5})
    assert {row["asset_id"] for row in store.table("actuals").to_pylist()} == {"b"}
    assert store.verify().ok


def test_files_that_no_commit_names_are_told(store: Store, clock: FixedClock) -> None:
    insert(store, "actuals", [reading("a", 0, 1.0)])
    left = store.begin()
    left.insert("actuals", readings(6, 1_000))
    left._prepare()
    (name,) = store.erase(["a"]).unnamed
    assert (store.path / name).exists()


def test_what_cannot_be_erased_says_why(planted: Store) -> None:
    with pytest.raises(InvalidId):
        planted.erase(["a\x00b"])
    with Store.open(planted.path, read_only=True) as looking, pytest.raises(ReadOnly):
        looking.erase([GONE])
    busy = WriterLock(planted.path / "upkeep.lock")
    with busy.held(), pytest.raises(StoreBusy):
        planted.erase([GONE])
    busy.close()


def test_a_damaged_file_stops_it_and_nothing_has_happened(planted: Store) -> None:
    head = planted.head()
    segment = max(planted._catalog.segments("actuals"), key=lambda one: one.rows)
    path = segment_file(planted.path, "actuals", segment.id)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    files = {one.name for one in planted.path.rglob("*.*")}
    with pytest.raises(Damaged):
        planted.erase([GONE])
    assert planted.head() == head
    assert {one.name for one in planted.path.rglob("*.*")} == files


def test_a_damaged_pack_stops_it_and_nothing_has_happened(planted: Store) -> None:
    head = planted.head()
    path = pack_path(planted.path, planted._catalog.packs()[0][0])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    files = {one.name for one in planted.path.rglob("*.*")}
    with pytest.raises(Damaged):
        planted.erase([GONE])
    assert planted.head() == head
    assert {one.name for one in planted.path.rglob("*.*")} == files
