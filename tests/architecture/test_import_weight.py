"""What comes in with an import, and how long help takes: the light paths stay light."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("duckdb", "pyarrow", "pandas", "numpy", "scipy", "pydantic"),
    *("statsmodels", "lightgbm", "sklearn", "plotly", "fastapi", "cloudpickle"),
}


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a new interpreter after some code."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import store", "from store.errors import TsfleetError", "import fleet", "import jobs.cli.main"]
)
def test_importing_a_front_door_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_a_question_of_the_catalog_loads_no_duckdb(tmp_path: Path) -> None:
    code = f"from store import Store\nwith Store.open({str(tmp_path / 's')!r}) as s: s.head(); s.info()"
    assert loaded_by(code) & {"duckdb", "pyarrow", "pandas", "numpy"} == set()


def test_naming_adapters_loads_no_library_of_theirs() -> None:
    code = (
        "from importlib import import_module\nfrom fleet.registry import ADAPTERS\n"
        "for place in ADAPTERS.values(): import_module(place.partition(':')[0])"
    )
    extra = {"statsforecast", "mlforecast", "skforecast", "sktime", "darts"}
    assert loaded_by(code) & {"statsmodels", "lightgbm", "sklearn", "scipy", *extra} == set()


def test_help_comes_at_once() -> None:
    """0.3 s is the promise on a quiet machine; in processor time, because the machine of a test is not always quiet."""
    command = [sys.executable, "-m", "jobs.cli", "--help"]
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.5, took
