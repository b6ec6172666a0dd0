"""What is kept beside a run's numbers comes back byte for byte, and no name leads out of a folder."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
import pytest

from store import Run, Store
from store.errors import NotFound, SchemaMismatch, StoreError, WrongState
from store.tracking import Artifact


def test_files_texts_and_values_come_back_byte_for_byte(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    with store.run() as run:
        assert run.log_artifact(tmp_path / "a.bin") == run.log_artifact(str(tmp_path / "a.bin"))
        run.log_artifact(tmp_path / "a.bin", "kept/as.bin")
        run.log_bytes(b"", "empty")
        run.log_text("Grüße\n", "notes.txt")
        run.log_json({"lags": (24, 48), "to": Path("x")}, "deep/settings.json")
    again = store.resume(run.id)
    assert [(one.name, one.bytes, one.kind) for one in again.artifacts()] == [
        ("a.bin", 256, "file"), ("deep/settings.json", 40, "json"), ("empty", 0, "bytes"), ("kept/as.bin", 256, "file"),
        ("notes.txt", 8, "text"),
    ]  # fmt: skip
    for one in again.artifacts():
        assert sha256(again.artifact(one.name)).hexdigest() == one.sha256
    assert json.loads(again.artifact("deep/settings.json")) == {"lags": [24, 48], "to": "x"}
    assert again.artifact("notes.txt").decode() == "Grüße\n"
    with pytest.raises(NotFound) as caught:
        again.artifact("nothing")
    assert "a.bin" in caught.value.hint


def test_a_folder_is_kept_in_one_commit_and_one_pack(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "deep/er/c.txt"):
        (folder / name).write_text(name)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    (folder / "empty").mkdir()
    with store.run() as run:
        head = store.head()
        kept = run.log_artifact(folder)
        assert (store.head(), store.info().packs) == (head + 1, 1)
        assert [one.name for one in kept] == ["out/a.txt", "out/b.txt", "out/deep/er/c.txt"]
        run.log_artifact(folder, "as/this")
        assert store.info().packs == 1
        for absent in (folder / "empty", folder / "never"):
            with pytest.raises(NotFound):
                run.log_artifact(absent)
    written = store.resume(run.id).download(tmp_path / "down")
    assert sorted(path.relative_to(tmp_path / "down").as_posix() for path in written) == [
        "as/this/a.txt", "as/this/b.txt", "as/this/deep/er/c.txt", "out/a.txt", "out/b.txt", "out/deep/er/c.txt",
    ]  # fmt: skip
    assert all((tmp_path / "down" / "out" / name).read_text() == name for name in ("a.txt", "deep/er/c.txt"))
    assert run.download(tmp_path / "one", ["out/a.txt"]) == [tmp_path / "one" / "out" / "a.txt"]


def test_an_artifact_of_the_same_name_supersedes(store: Store) -> None:
    with store.run() as run:
        run.log_text("first", "a.txt")
        run.log_json(["second"], "a.txt")
    (one,) = store.resume(run.id).artifacts()
    assert (one.kind, json.loads(run.artifact("a.txt"))) == ("json", ["second"])


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", ".", "a\\b", "a\nb", "x" * 300, "\ud800", "a/./b"]
)
def test_a_name_that_is_no_path_below_its_folder_is_refused(store: Store, name: str) -> None:
    with store.run() as run:
        for act in (lambda: run.log_text("", name), lambda: run.log_artifact(__file__, name)):
            with pytest.raises(SchemaMismatch):
                act()
    assert run.artifacts() == []


def test_a_name_is_a_file_or_a_folder(store: Store) -> None:
    with store.run() as run:
        run.log_text("", "a/b")
        for clash in ("a", "a/b/c"):
            with pytest.raises(SchemaMismatch, match="below"):
                run.log_text("", clash)


def tampered(store: Store, name: str) -> Run:
    """A run whose tags were written by somebody else, with a name this release would refuse."""
    with store.run() as run:
        one = run.log_text("evil", "a.txt")
    row = store.table("runs").to_pylist()[0]
    tags = {"artifacts": {name: {"kind": "text", "bytes": 4, "sha256": one.sha256}}}
    txn = store.begin()
    txn.replace("runs", [row | {"tags": json.dumps(tags)}])
    txn.commit()
    return store.resume(run.id)


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt"])  # noqa: S108 - never written
def test_a_download_never_leaves_its_folder(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError):
        tampered(store, name).download(tmp_path / "down" / "er")
    assert not list(tmp_path.rglob("out.txt"))


def test_a_link_in_the_way_does_not_lead_a_download_astray(store: Store, tmp_path: Path) -> None:
    with store.run() as run:
        run.log_text("mine", "sub/a.txt")
        run.log_text("mine", "b.txt")
    outside, down = tmp_path / "outside", tmp_path / "down"
    outside.mkdir()
    down.mkdir()
    (outside / "b.txt").write_text("theirs")
    (down / "sub").symlink_to(outside)
    (down / "b.txt").symlink_to(outside / "b.txt")
    for name in ("sub/a.txt", "b.txt"):
        with pytest.raises(StoreError):
            run.download(down, [name])
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("b.txt", "theirs")]


def test_artifacts_of_an_early_release_are_read(store: Store) -> None:
    txn = store.begin()
    (digest,) = txn.put_blobs([b"old"])
    txn.insert("runs", [{"run_id": "old", "status": "ok", "tags": {"artifact/fig.png": digest, "who": "me"}}])
    txn.commit()
    run = store.resume("old")
    assert run.artifacts() == [Artifact(name="fig.png", bytes=None, sha256=digest, kind="file")]
    assert (run.artifact("fig.png"), run.tags, run.batch_id) == (b"old", {"who": "me"}, "old")
    assert "fig.png" in run._repr_html_()
    with run:
        run.log_text("new", "a.txt")
    assert [one.name for one in store.resume("old").artifacts()] == ["a.txt", "fig.png"]


# ------------------------------------------------------------------------------------------------------- figures


class Drawn:
    """What Matplotlib's figure can do, as far as the store asks for it."""

    def savefig(self, sink: io.BytesIO, *, format: str | None) -> None:  # noqa: A002 - Matplotlib's name
        if format not in {"png", "svg"}:
            raise ValueError(f"Format {format!r} is not supported")
        sink.write(f"{format} of a figure".encode())


class Axes:
    figure = Drawn()


def test_a_figure_is_drawn_in_the_format_of_its_name(store: Store) -> None:
    with store.run() as run:
        assert run.log_figure(Drawn(), "fan.svg").kind == "figure"
        run.log_figure(Axes(), "plots/fan.PNG")
        assert run.artifact("fan.svg") == b"svg of a figure"
        assert run.artifact("plots/fan.PNG") == b"png of a figure"
        with pytest.raises(SchemaMismatch):
            run.log_figure(Drawn(), "fan.docx")
        with pytest.raises(StoreError):
            run.log_figure(object(), "fan.png")


def test_a_plotly_figure_is_a_page_that_works_offline_and_its_script_is_stored_once(
    store: Store, tmp_path: Path
) -> None:
    figure = go.Figure(go.Scatter(y=[1, 2, 3]))
    with store.run() as run:
        kept = run.log_figure(figure, "plots/fan.html")
        packs = store.info().packs
        assert (kept.kind, kept.bytes or 0) == ("figure", len(run.artifact("plots/fan.html")))
        assert (kept.bytes or 0) < 30_000
    with store.run() as other:
        assert other.log_figure(figure, "plots/fan.html") == kept
        assert other.log_figure(figure, "fan.json").sha256
        assert store.info().packs == packs + 1  # of the .json alone
        with pytest.raises(StoreError) as caught:
            other.log_figure(figure, "fan.png")
        assert ".html" in caught.value.hint
    (page, script) = other.download(tmp_path, ["plots/fan.html", "plots/plotly.min.js"])
    assert 'src="plotly.min.js"' in page.read_text()
    assert "http" not in page.read_text().replace("http://www.w3.org", "")
    assert script.parent == page.parent
    assert script.stat().st_size > 1_000_000
    assert go.Figure(json.loads(other.artifact("fan.json"))).data[0].y == (1, 2, 3)


# ------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "made",
    [
        lambda table: table,
        lambda table: table.to_pandas(),
        lambda table: table.to_batches()[0],
        lambda table: table.to_pydict(),
        lambda table: table.to_reader(),
    ],
)
def test_a_table_comes_back_as_arrow(store: Store, made: Callable[[pa.Table], Any]) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    with store.run() as run:
        run.log_table(made(table), "deep/t.parquet")
    assert store.resume(run.id).table("deep/t.parquet").to_pydict() == table.to_pydict()


def test_a_pandas_index_is_kept(store: Store) -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0]}, index=pd.date_range("2024", periods=2, tz="UTC", name="at"))
    with store.run() as run:
        run.log_table(frame, "f.parquet")
        run.log_table(frame["y"], "s.parquet")
    assert run.table("f.parquet").to_pandas().index.tolist() == frame.index.tolist()
    assert run.table("s.parquet").to_pandas()["y"].tolist() == [1.0, 2.0]


def test_what_is_no_table_is_refused(store: Store) -> None:
    with store.run() as run:
        with pytest.raises(SchemaMismatch, match="csv"):
            run.log_table(pa.table({"a": [1]}), "t.csv")
        for bad in (object(), 3, pd.DataFrame({"a": [1, "x", object()]})):
            with pytest.raises(SchemaMismatch, match=r"t\.parquet"):
                run.log_table(bad, "t.parquet")
        run.log_text("no table", "a.txt")
        with pytest.raises(SchemaMismatch, match=r"a\.txt"):
            run.table("a.txt")
    with pytest.raises(WrongState):
        run.log_table(pa.table({"a": [1]}), "t.parquet")
