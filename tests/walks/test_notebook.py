"""The example notebook: committed without its outputs, and every cell of it runs in a kernel of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.walks.test_configs import CONFIGS, buildings

NOTEBOOKS = sorted(CONFIGS.glob("*/*.ipynb"))
PLOTLY, HTML = "application/vnd.plotly.v1+json", "text/html"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_what_a_run_leaves_in_it(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert 10 <= len(code) <= 15
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}


@pytest.mark.slow
def test_the_example_notebook_runs_and_shows_cards_tables_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path / "buildings"
    shutil.copytree(CONFIGS / "buildings", folder)
    buildings(folder)
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = nbformat.read(folder / "explore.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()

    shown: dict[str, list[dict[str, Any]]] = {
        cell.source: [output.get("data", {}) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert all(outputs for outputs in shown.values()), "a cell shows nothing"
    figures = [source for source, outputs in shown.items() if any(PLOTLY in data for data in outputs)]
    assert len(figures) == 4
    trained = shown["f.train(promote=True)"]
    assert len(trained) == 2  # one bar, drawn over until it is full, and the report
    assert "3 of 3" in trained[0]["text/plain"]
    assert all(HTML in data for data in trained)
    assert "annexe" in next(iter(reversed(shown.values())))[0][HTML]
    assert "://" not in json.dumps([[data.get(HTML, "") for data in outputs] for outputs in shown.values()])
