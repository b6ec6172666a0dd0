"""A user's code as a value: what belongs to it, how it runs, and how definitions are told from one another."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fleet import pickles, registry
from fleet.config import RecipeConfig
from fleet.errors import ConfigInvalid, Unsaveable
from fleet.own import Packaged
from fleet.packages import PREFIX, Package, package_of
from fleet.recipes import recipe_of
from store.errors import Damaged


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def package(folder: Path, *modules: str) -> Package:
    found = package_of(modules or ("models",), folder)
    assert found is not None
    return found


# -- what belongs to it --------------------------------------------------------------------------------------------


def test_a_package_holds_what_is_imported_from_the_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        {
            "models.py": """
                import json, numpy as np
                import plain
                import rules.deep.down
                from rules import clip, LIMIT
                def late():
                    import lazy
                if False:
                    from wanted import never
            """,
            "plain.py": "import models",
            "lazy.py": "",
            "wanted.py": "",
            "rules/__init__.py": "from .limits import LIMIT",
            "rules/limits.py": "from .deep import down as _; LIMIT = 3",
            "rules/clip.py": "from . import sibling",
            "rules/sibling.py": "",
            "rules/unasked.py": "",
            "rules/deep/down.py": "from ..sibling import nothing",
            "other.py": "",
        },
    )
    found = package(folder)
    assert [path for path, _ in found.files] == [
        "lazy.py", "models.py", "plain.py", "rules/__init__.py", "rules/clip.py", "rules/deep/down.py",
        "rules/limits.py", "rules/sibling.py", "wanted.py",
    ]  # fmt: skip
    assert found.imports() == {"json", "numpy"}
    assert package_of(["nowhere", "json"], folder) is None


def test_our_own_names_and_pythons_are_never_taken_from_the_folder(tmp_path: Path) -> None:
    files = {"models.py": "import fleet, sys, store", "fleet.py": "", "sys.py": "", "store/__init__.py": ""}
    assert [path for path, _ in package(written(tmp_path, files)).files] == ["models.py"]


def test_a_file_that_does_not_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigInvalid, match=r"models\.py: no Python text"):
        package(tmp_path)
    for broken in (b"[]", b"{}", b"\xff", b'{"files": {}, "adapter": "x:y", "surprise": 1}'):
        with pytest.raises(Damaged):
            Packaged.from_payload(broken)


def test_the_text_goes_through_bytes_whatever_its_letters(tmp_path: Path) -> None:
    found = package(written(tmp_path, {"models.py": "wort = 'Größe \\N{SNOWMAN}'  # ☃"}))
    source = Packaged(package=found, adapter="models:Model", options="{}")
    again = Packaged.from_payload(source.payload())
    assert again == source
    assert again.package is not None
    assert again.package.digest == found.digest


# -- how it runs ---------------------------------------------------------------------------------------------------


def test_two_states_of_a_module_run_side_by_side(tmp_path: Path) -> None:
    text = "import helper\ndef value():\n    import late\n    return helper.BASE + late.MORE"
    before = package(written(tmp_path, {"models.py": text, "helper.py": "BASE = 1", "late.py": "MORE = 10"}))
    after = package(written(tmp_path, {"helper.py": "BASE = 2", "late.py": "MORE = 20"}))
    assert (after.load("models").value(), before.load("models").value()) == (22, 11)
    assert {"models", "helper", "late"} & set(sys.modules) == set()


def test_imports_that_go_in_a_circle_and_relative_ones_work_as_ever(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        {
            "models.py": "import rules\nimport rules.clip as c\nfrom rules import clip\nsame = c is clip is rules.clip",
            "rules/__init__.py": "",
            "rules/clip.py": "from .limits import LIMIT\nfrom . import limits\nimport models\nvalue = limits.LIMIT",
            "rules/limits.py": "LIMIT = 7",
        },
    )
    models = package(folder).load("models")
    assert models.same
    assert (models.clip.value, models.rules.clip.models) == (7, models)
    assert models.__file__ == str(folder / "models.py")


def test_a_dataclass_with_written_out_types_is_checked_like_any(tmp_path: Path) -> None:
    text = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass(frozen=True, kw_only=True)
        class Level:
            window: int | None = None
            def fit(self, y, X, task): return self
    """
    folder = written(tmp_path, {"models.py": text})
    asked = RecipeConfig(name="level", adapter="models:Level", options={"window": 3})
    assert recipe_of(asked, folder).forecaster.parts.model.window == 3  # type: ignore[attr-defined]
    with pytest.raises(ConfigInvalid, match="window: Input should be a valid integer"):
        recipe_of(RecipeConfig(name="level", adapter="models:Level", options={"window": "3"}), folder)


def test_a_traceback_shows_the_line_that_ran(tmp_path: Path) -> None:
    found = package(written(tmp_path, {"models.py": "def broken():\n    return 1 / 0  # as it was"}))
    ((path, text),) = found.files
    stored = Package(files=((path, text.replace("as it was", "of the store")),), home=str(tmp_path), kept=True)
    for each, place, line in ((found, str(tmp_path), "as it was"), (stored, "<stored ", "of the store")):
        with pytest.raises(ZeroDivisionError) as caught:
            each.load("models").broken()
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert last.filename.startswith(place)
        assert line in str(last.line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('not today')", "models:Model raised RuntimeError: not today"),
        ("import sys; sys.exit(3)", "models:Model raised SystemExit: 3"),
        ("def Model(:", "in line 1 of"),
        ("class Modl: pass", "models has no attribute 'Model'; did you mean \"Modl\"?"),
        ("class Model:\n    def __init__(self): self.gone", "models:Model raised AttributeError"),
    ],
)
def test_a_module_that_does_not_run_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        registry.build("models:Model", {}, package(written(tmp_path, {"models.py": text})))
    assert message in caught.value.message
    assert PREFIX not in caught.value.message


# -- the hash of a recipe ------------------------------------------------------------------------------------------

FUNCTION = "import helper\ndef flat(y, X, task):\n    return [helper.LEVEL] * task.horizon"
RULES = "def clean(y, X, task):\n    return y, X\ndef clip(forecast, task):\n    return forecast"


def hash_of(folder: Path, adapter: str = "models:flat", **others: str) -> str:
    return recipe_of(RecipeConfig(name="mine", adapter=adapter, options={}, **others), folder).recipe_hash


def test_a_recipe_is_another_when_any_of_its_code_is(tmp_path: Path) -> None:
    folder = written(tmp_path, {"models.py": FUNCTION, "helper.py": "LEVEL = 1", "unrelated.py": "x = 1"})
    first = hash_of(folder)
    assert hash_of(written(folder, {"unrelated.py": "x = 2"})) == first
    assert hash_of(written(folder, {"helper.py": "LEVEL = 2"})) != first
    assert hash_of(written(folder, {"helper.py": "LEVEL = 1"})) == first
    assert hash_of(written(folder, {"models.py": FUNCTION + "  # flat"})) != first


def test_the_functions_around_a_model_are_part_of_the_recipe(tmp_path: Path) -> None:
    folder = written(tmp_path, {"rules.py": RULES})
    plain, cleaned = hash_of(folder, "naive"), hash_of(folder, "naive", before="rules:clean")
    clipped, both = (hash_of(folder, "naive", after="rules:clip", **more) for more in ({}, {"before": "rules:clean"}))
    assert len({plain, cleaned, clipped, both}) == 4
    written(folder, {"rules.py": RULES.replace("return y, X", "return y * 2, X")})
    assert hash_of(folder, "naive") == plain
    assert hash_of(folder, "naive", before="rules:clean") != cleaned


def test_a_comment_makes_no_other_program(tmp_path: Path) -> None:
    first = package(written(tmp_path, {"models.py": FUNCTION, "helper.py": "LEVEL = 1"}))
    comment = package(written(tmp_path, {"helper.py": "LEVEL = 1  # of all\n"}))
    value = package(written(tmp_path, {"helper.py": "LEVEL = 2"}))
    assert first.does_as(comment)
    assert not first.does_as(value)
    assert not first.does_as(package(tmp_path, "helper"))


# -- the identity of what a notebook defines -----------------------------------------------------------------------

NOTEBOOK = """
import sys
from dataclasses import dataclass
from functools import partial
import numpy as np
from fractions import Fraction
from fleet.pickles import identity
FACTOR = 0.5
def scaled(x): return x * FACTOR
def recursive(n): return 1 if n < 2 else n * recursive(n - 1)
def f(y, X, task): return scaled(y.mean()) if task.freq in {"1h", "2h", "3h"} else recursive(3)
def outer(width):
    def inner(y, X, task, more=(1, 2)): return width
    return inner
@dataclass
class Model:
    names: frozenset = frozenset({"a", "b", "c"})
    weights: object = None
    def fit(self, y, X, task): return scaled(y)
    @property
    def half(self): return self.weights[0]
    @staticmethod
    def other(): return recursive(4)
weighted = Model(weights=np.arange(3.0))
things = [f, outer(3), outer(4), Model, Model(), weighted, Fraction(1, 3), partial(f, 1), lambda: 1]
print(*[identity(thing)[0] for thing in things])
"""


def identities(text: str, seed: str, *, from_file: Path | None = None) -> list[str]:
    command = [sys.executable, str(from_file)] if from_file else [sys.executable, "-"]
    if from_file:
        from_file.write_text(text)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        command, input=None if from_file else text, text=True, capture_output=True, check=True, env=environment
    )
    return done.stdout.split()


def test_equal_definitions_have_one_identity_in_every_process(tmp_path: Path) -> None:
    first = identities(NOTEBOOK, "1")
    assert len(set(first)) == len(first) == 9
    assert identities("# another first line\n" + NOTEBOOK, "2") == first
    assert identities(NOTEBOOK, "3", from_file=tmp_path / "script.py") == first
    changed = identities(NOTEBOOK.replace("FACTOR = 0.5", "FACTOR = 0.6"), "1")
    same = [one == other for one, other in zip(first, changed, strict=True)]
    assert same == [False, True, True, False, False, False, True, False, True], "what reads the factor is another"


def test_what_has_no_state_has_no_identity() -> None:
    with pytest.raises(Unsaveable, match="cannot be pickled"):
        pickles.identity({"rows": (row for row in "abc")})


# -- pickles that hold their training data -------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 23, 24, 25, 511])
@pytest.mark.parametrize(("length", "found"), [(47, 0), (48, 48), (49, 49), (200, 200)])
@pytest.mark.parametrize("offset", [0, 3])
def test_a_run_of_readings_is_found_wherever_it_begins(start: int, length: int, found: int, offset: int) -> None:
    random = np.random.default_rng(1)
    y = random.normal(100, 10, 1000)
    data = random.bytes(400 + offset) + y[start : start + length].tobytes() + random.bytes(5)
    assert pickles.readings_held(data, y) == found


def test_what_was_learnt_is_no_run_of_readings() -> None:
    random = np.random.default_rng(1)
    y = random.normal(100, 10, 1000)
    night = np.where(np.arange(1000) % 24 < 8, 0.0, y)
    assert pickles.readings_held(np.sort(y).tobytes() + y[::2].tobytes() + (y / 2).tobytes(), y) == 0
    assert pickles.readings_held(np.zeros(1000).tobytes(), np.zeros(1000)) == 0, "a constant is no sign"
    assert pickles.readings_held(night[100:180].tobytes(), night) == 80
    missing = y.copy()
    missing[::10] = np.nan
    assert pickles.readings_held(np.full(500, np.nan).tobytes(), missing) == 0


def test_a_model_that_keeps_the_history_is_refused_and_told_what_to_do() -> None:
    y = pd.Series(np.random.default_rng(1).normal(size=200))
    for held in (y, y.to_numpy()[30:], y.to_frame("y"), {"deep": [y.copy()]}):
        with pytest.raises(Unsaveable, match="holds its training data") as caught:
            pickles.pickled_model(held, shown=(y,))
        assert "predict receives the history" in caught.value.hint
    assert pickles.unpickled(pickles.pickled_model(y.mean(), shown=(y,))) == y.mean()
