"""Opening: what is made, what is refused, and what comes in with it."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import store as package
from store import Store, StoreError, TsfleetError, errors
from store.errors import Damaged, FormatTooNew, NotFound, ReadOnly
from tests.store.rows import insert, reading, readings, values

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(code: str, *args: object) -> set[str]:
    """The heavy modules in a new interpreter after some code."""
    script = f"{code}\nprint(*[m for m in ('duckdb', 'pyarrow', 'pandas', 'numpy') if m in sys.modules])"
    command = [sys.executable, "-c", "import sys\n" + script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_opening_and_logging_bring_nothing_heavy(tmp_path: Path) -> None:
    code = """
from store import Store
with Store.open(sys.argv[1]) as store:
    with store.run(asset="a", recipe="r", params={"x": 1}) as run:
        run.log_metrics({"mae": 1.0})
        run.log_params({"y": 2})
        run.log_model(b"model")
    store.head(), store.info()
"""
    assert loaded_by(code, tmp_path / "s") == set()


def test_a_light_question_brings_duckdb_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        insert(store, "runs", [{"run_id": "1"}])
        insert(store, "actuals", readings(5, 1_000))
    code = """
from store import Store
with Store.open(sys.argv[1]) as store:
    assert store.sql("select count(*) as n from runs").rows() == [{"n": 1}]
    assert store.sql("select count(*) as n from actuals").rows() == [{"n": 5000}]
"""
    assert loaded_by(code, tmp_path / "s") == {"duckdb"}


def test_opening_makes_a_store_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "grid.store"
    for wrong in ({"create": False}, {"read_only": True}):
        with pytest.raises(NotFound):
            Store.open(path, **wrong)  # type: ignore[arg-type]
    assert not path.exists()
    with Store.open(path) as store:
        assert store.head() == 0
        assert store.info().format == 1
    with Store.open(str(path), create=False) as again:
        assert again.path == path


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.head()


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        insert(store, "actuals", [reading("a", 0, 1.0)])
        insert(store, "actuals", readings(6, 1_000))
    with Store.open(tmp_path / "s") as store:
        assert values(store) == [1.0]
        assert store.table("actuals").num_rows == 6_001


def test_a_read_only_store_reads_and_does_not_write(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        insert(store, "actuals", [reading("a", 0, 1.0)])
        with Store.open(tmp_path / "s", read_only=True) as reader:
            assert values(reader) == [1.0]
            insert(store, "actuals", [reading("a", 1, 2.0)])
            assert values(reader) == [1.0, 2.0]
            with pytest.raises(ReadOnly):
                reader.begin()
            with pytest.raises(ReadOnly):
                insert_run(reader)
            with pytest.raises(ReadOnly):
                reader.flush()


def insert_run(store: Store) -> None:
    with store.run(asset="a", recipe="r"):
        pass


def test_a_folder_of_other_things_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        Store.open(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "lock") == ["thesis.tex"]
    with pytest.raises(StoreError):
        Store.open(tmp_path / "thesis.tex")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "s").close()
    connection = sqlite3.connect(tmp_path / "s" / "catalog.sqlite")
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    connection.commit()
    connection.close()
    with pytest.raises(FormatTooNew) as caught:
        Store.open(tmp_path / "s")
    assert "99" in caught.value.message


def test_a_catalog_that_is_none_is_damage(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "catalog.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(Damaged):
        Store.open(tmp_path / "s")


def test_a_missing_segment_is_damage_that_names_the_file(store: Store) -> None:
    insert(store, "actuals", readings(6, 1_000))
    for file in (store.path / "segments" / "actuals").iterdir():
        file.unlink()
    for ask in (lambda: store.table("actuals"), lambda: store.sql("select sum(y) from actuals")):
        with pytest.raises(Damaged, match="parquet of actuals"):
            ask()
    assert store.sql("select count(*) as n from runs").rows() == [{"n": 0}]


def test_a_damaged_blob_is_never_handed_out(store: Store) -> None:
    txn = store.begin()
    first, second, again = txn.put_blobs([b"model one", b"model two", b"model one"])
    txn.commit()
    assert first == again
    assert (store.blob(first), store.blob(second)) == (b"model one", b"model two")
    assert store.begin().put_blobs([b"model one"]) == [first]
    assert store.info().packs == 1
    (pack,) = (store.path / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    data[-1] ^= 1
    pack.write_bytes(data)
    assert store.blob(first) == b"model one"
    with pytest.raises(Damaged):
        store.blob(second)
    pack.unlink()
    with pytest.raises(Damaged):
        store.blob(first)
    with pytest.raises(NotFound):
        store.blob("0" * 64)


def test_a_folder_that_hides_a_sibling_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "__init__.py").write_text("")
    script = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import store"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert str(tmp_path / "fleet") in last
    assert "rename it" in last


def test_the_package_names_what_it_exports() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        package.nothing  # noqa: B018


def test_every_error_has_its_own_code_and_survives_pickling() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TsfleetError)]
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        back = pickle.loads(pickle.dumps(kind("what happened", hint="what to do")))  # noqa: S301 our own bytes
        assert (type(back), back.message, back.hint) == (kind, "what happened", "what to do")
