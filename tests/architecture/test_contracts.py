"""The plan of the house, executed: who may import whom, and who owns which library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_import_contract_is_kept(tmp_path: Path) -> None:
    """One process, since the linter puts the root on the path and keeps what it read."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "150"}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_test_folder_is_a_package() -> None:
    """Without __init__.py in it, `import store` would find tests/store."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
