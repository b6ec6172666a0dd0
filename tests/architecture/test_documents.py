"""What is written holds: README blocks run, its commands exist, example configurations load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
CONFIGS = sorted(ROOT.glob("configs/*/fleet.toml"))


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_two_commands_stand_in_the_readme_word_for_word() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "pip install . && tsfleet demo" in lines
    assert "pip install -e '.[test]' && pytest" in lines


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_a_document_types_exists(document: str) -> None:
    lines = [line for block in blocks(document, "(?:sh|console)") for line in block.splitlines()]
    verbs = {verb for line in lines for verb in re.findall(r"(?:^|[$&;] ?)tsfleet ([a-z]+)", line)}
    assert verbs <= {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_toml_block_of_a_document_loads(document: str, tmp_path: Path) -> None:
    from fleet.config import parse

    for block in blocks(document, "toml"):
        parse(block, tmp_path / "fleet.toml")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\((?!http|#)([^)#]+)", (ROOT / document).read_text(encoding="utf-8"))
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_example_configuration_loads(path: Path) -> None:
    from fleet.config import load

    assert load(path).recipes


def test_nothing_in_the_tree_names_a_machine() -> None:
    """Paths of somebody's computer have no place in a repository."""
    pattern = re.compile(r"[\"'( ]/(?:home|root|Users)/")
    suffixes = {".py", ".toml", ".md", ".txt", ".sql"}
    found = [
        path.relative_to(ROOT)
        for folder in ("store", "fleet", "jobs", "configs", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes
        and path != Path(__file__).resolve()
        and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
