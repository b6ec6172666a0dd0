"""Laws of the sources: whatever it was becomes one relation, and what cannot be read is one line with the place."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleet.config import DataSection
from fleet.errors import SeriesInvalid
from fleet.sources import opened, streamed
from store.errors import SourceUnreadable, TsfleetError

FRAME = pd.DataFrame({"id": ["a", "b"], "ds": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True), "y": [1.0, 2.5]})


def rows(folder: Path, given: Any = None, **section: Any) -> list[dict[str, Any]]:
    with opened(DataSection(**section), folder, section="[data]", given=given) as source:
        return pa.Table.from_batches(streamed(source.read(["*"]), source.label)).to_pylist()


def refusal(folder: Path, given: Any = None, **section: Any) -> TsfleetError:
    with pytest.raises((SourceUnreadable, SeriesInvalid)) as caught:
        rows(folder, given, **section)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("[data]")
    return caught.value


def unusable(folder: Path, path: str, key: str, column: str) -> str:
    """What is wrong with a column of some files; empty when nothing is."""
    with opened(DataSection(path=(path,)), folder, section="[data]") as source:
        try:
            source.require(key, column)
        except SeriesInvalid as error:
            return error.message
    return ""


def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "one.parquet")
    (tmp_path / "user_code_a.py").write_text(
        "import pandas as pd\nfrom pathlib import Path\n"
        "def load():\n    return pd.read_parquet(Path(__file__).with_name('one.parquet'))\n"
        "def parts():\n    frame = load()\n    yield frame[:1]\n    yield frame[1:]\n"
    )
    expected = rows(tmp_path, path="one.parquet")
    assert [row["y"] for row in expected] == [1.0, 2.5]
    assert rows(tmp_path, path="*.parquet") == expected
    assert rows(tmp_path, path=".") == expected
    assert rows(tmp_path, sql="select * from 'one.parquet';") == expected
    assert rows(tmp_path, python="user_code_a:load") == expected
    assert rows(tmp_path, python="user_code_a:parts") == expected
    assert rows(tmp_path, given=FRAME) == expected
    assert rows(tmp_path, given=FRAME.set_index(["id", "ds"])) == expected
    assert rows(tmp_path, given=pa.Table.from_pandas(FRAME)) == expected
    assert rows(tmp_path, given=lambda: FRAME) == expected
    assert rows(tmp_path, given=iter([FRAME[:1], FRAME[1:]])) == expected


def test_a_csv_is_text_until_a_rule_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "semicolon.csv").write_text('\ufeffid;ds;y\n007;"2024-01-01; midnight";1,5\n')
    assert rows(tmp_path, path="semicolon.csv") == [{"id": "007", "ds": "2024-01-01; midnight", "y": "1,5"}]
    with gzip.open(tmp_path / "z.csv.gz", "wt") as file:
        file.write("id,ds,y\na,2024-01-01,\n")
    assert rows(tmp_path, path="z.csv.gz") == [{"id": "a", "ds": "2024-01-01", "y": None}]


def test_a_column_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    """What pandas writes of an index."""
    pd.DataFrame({"id": ["a"], "y": [1.5]}).to_csv(tmp_path / "indexed.csv")
    assert rows(tmp_path, path="indexed.csv") == [{"column0": "0", "id": "a", "y": "1.5"}]


def test_columns_may_stand_in_another_order_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,y\na,1\n")
    (tmp_path / "2.csv").write_text("y;id\n2;b\n")
    assert sorted(row["id"] for row in rows(tmp_path, path="*.csv")) == ["a", "b"]
    pq.write_table(pa.table({"id": ["a"], "y": [1.0]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"y": [2.0], "id": ["b"]}), tmp_path / "2.parquet")
    assert rows(tmp_path, path="*.parquet") == [{"id": "a", "y": 1.0}, {"id": "b", "y": 2.0}]


def test_a_fraction_is_not_rounded_because_the_first_file_held_integers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"y": [1.5]}), tmp_path / "2.parquet")
    assert [row["y"] for row in rows(tmp_path, path="*.parquet")] == [1.0, 1.5]


def test_a_column_that_some_files_lack_is_refused_when_it_is_wanted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [1.0], "extra": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"y": [1.5]}), tmp_path / "2.parquet")
    assert unusable(tmp_path, "*.parquet", "target", "y") == ""
    assert "column extra stands in only 1 of 2 files" in unusable(tmp_path, "*.parquet", "target", "extra")


def test_stamps_with_and_without_a_zone_do_not_mix(tmp_path: Path) -> None:
    for name, kind in (("1", pa.timestamp("us")), ("2", pa.timestamp("us", "UTC"))):
        pq.write_table(pa.table({"ds": pa.array([0], kind)}), tmp_path / f"{name}.parquet")
    assert "column ds is TIMESTAMP in " in unusable(tmp_path, "*.parquet", "time", "ds")


def test_a_missing_column_names_the_nearest_and_all_there_are(tmp_path: Path) -> None:
    FRAME.rename(columns={"y": "load"}).to_parquet(tmp_path / "x.parquet")
    said = '[data] x.parquet: no column target = "laod"; did you mean "load"? accepted: ds, id, load'
    assert unusable(tmp_path, "x.parquet", "target", "laod") == said


def test_files_that_cannot_be_read_are_one_line_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.parquet").write_bytes(b"")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    (tmp_path / "broken.csv").write_text("id,ds,y\na,2024-01-01,1\nb,2024-01-01,1,5\n")
    (tmp_path / "notes.md").write_text("hello")
    pq.write_table(pa.table({"y": pa.array([], pa.float64())}), tmp_path / "norow.parquet")
    assert "no such file or folder" in refusal(tmp_path, path="nowhere.parquet").message
    assert "broken.csv" in refusal(tmp_path, path="nowhere.parquet").hint
    assert "matches no file" in refusal(tmp_path, path="*.feather").message
    assert "no Parquet or CSV file in" in refusal(tmp_path, path="empty").message
    assert "is empty (0 bytes)" in refusal(tmp_path, path="none.parquet").message
    assert "broken.parquet" in refusal(tmp_path, path="broken.parquet").message
    assert "holds no row" in refusal(tmp_path, path="norow.parquet").message
    assert "neither Parquet nor CSV" in refusal(tmp_path, path="notes.md").message
    assert "both Parquet" in refusal(tmp_path, path=["norow.parquet", "broken.csv"]).message
    broken = refusal(tmp_path, path="broken.csv").message
    assert "Line: 3" in broken
    assert "b,2024-01-01,1,5" in broken


def test_sql_and_functions_that_fail_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "user_code_b.py").write_text("def broken():\n    return 1 / 0\n\ndef three():\n    return 3\n")
    assert "nosuch" in refusal(tmp_path, sql="select * from nosuch").message
    assert "raised ZeroDivisionError: division by zero" in refusal(tmp_path, python="user_code_b:broken").message
    assert "gave a int" in refusal(tmp_path, python="user_code_b:three").message
    assert 'did you mean "broken"' in refusal(tmp_path, python="user_code_b:borken").message
    assert "No module named 'user_code_none'" in refusal(tmp_path, python="user_code_none:load").message
    assert "nothing says where the data are" in refusal(tmp_path).message


def test_a_function_that_ends_the_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "user_code_d.py").write_text(
        "import sys\n\ndef leaves():\n    sys.exit(0)\n\ndef later():\n    yield from ()\n    sys.exit('no key')\n"
    )
    (tmp_path / "user_code_e.py").write_text("raise SystemExit('not here')\n")
    assert "raised SystemExit: 0" in refusal(tmp_path, python="user_code_d:leaves").message
    assert "raised SystemExit: no key" in refusal(tmp_path, python="user_code_d:later").message
    assert "raised SystemExit: not here" in refusal(tmp_path, python="user_code_e:load").message
    (tmp_path / "user_code_f.py").write_text("def stopped():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path, python="user_code_f:stopped")


def test_the_folder_of_the_config_leaves_the_path_again(tmp_path: Path) -> None:
    import sys

    (tmp_path / "user_code_c.py").write_text("def load():\n    raise OSError('no disk')\n")
    before = list(sys.path)
    assert "raised OSError: no disk" in refusal(tmp_path, python="user_code_c:load").message
    assert sys.path == before


def test_a_generator_is_not_held_in_memory(tmp_path: Path) -> None:
    seen = []

    def parts() -> Iterator[pd.DataFrame]:
        for number in range(3):
            seen.append(number)
            yield FRAME.assign(y=float(number))

    assert len(rows(tmp_path, given=parts)) == 6
    assert seen == [0, 1, 2]
