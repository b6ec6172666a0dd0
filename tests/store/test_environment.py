"""Where a run was made is looked up once, costs little, keeps no secret, and never fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from store import environment
from store.environment import Environment, git_state

IDENTITY = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, env=os.environ | IDENTITY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of one file."""
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "model.py").write_text("x = 1\n")
    git(folder, "add", "model.py")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def version_in(folder: Path) -> str | None:
    commit, dirty = git_state(folder)
    about = {"host": "", "user": None, "python": "", "script": None, "libraries": {}}
    return Environment(commit=commit, dirty=dirty, **about).code_version  # type: ignore[arg-type]


def test_the_commit_is_told_and_whether_tracked_files_differ(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert version_in(repository) == head[:12]
    (repository / "untracked.txt").write_text("data lie about")
    (repository / "sub").mkdir()
    assert version_in(repository / "sub") == head[:12]
    (repository / "model.py").write_text("x = 2\n")
    assert version_in(repository) == f"{head[:12]}-dirty"
    git(repository, "add", "model.py")
    assert version_in(repository) == f"{head[:12]}-dirty"
    git(repository, "commit", "--quiet", "--message", "second")
    assert version_in(repository) == git(repository, "rev-parse", "HEAD")[:12] != head[:12]
    git(repository, "checkout", "--quiet", "--detach", head)
    assert version_in(repository) == head[:12]


def test_without_a_commit_there_is_none(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_in(tmp_path) is None
    git(tmp_path, "init", "--quiet", "fresh")
    assert version_in(tmp_path / "fresh") is None
    assert version_in(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version_in(repository) is None  # no git installed


def test_git_runs_nothing_that_a_repository_names_and_leaves_it_as_it_is(repository: Path) -> None:
    ran = repository / "ran"
    script = repository / "script"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    hooks = repository / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-index-change").write_text(script.read_text())
    (hooks / "post-index-change").chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(script))
    os.utime(repository / "model.py", (1, 1))  # git would note in its index that only the time has changed
    index = (repository / ".git" / "index").read_bytes()
    assert version_in(repository) is not None
    assert not ran.exists()
    assert (repository / ".git" / "index").read_bytes() == index
    git(repository, "status")
    assert ran.exists()  # the bait was a real one


def test_variables_of_a_hook_do_not_point_elsewhere(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = version_in(repository)
    git(tmp_path, "init", "--quiet", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no-index"))
    assert version_in(repository) == expected


def test_a_git_that_hangs_is_not_waited_for(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what it has started, which holds the pipe open."""
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "git").write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nwait\n")
    (fake / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    monkeypatch.setattr(environment, "_GIT_DEADLINE_S", 1.5)
    began = time.monotonic()
    assert git_state(repository) == (None, False)
    assert time.monotonic() - began < 20
    child = {"host": environment.captured().host, "pid": int((tmp_path / "pid").read_text())}
    while environment.alive(child) and time.monotonic() - began < 20:
        continue
    assert environment.alive(child) is False


def test_versions_are_those_of_the_installed_libraries() -> None:
    libraries = environment.captured().libraries
    assert {"numpy", "pandas", "pyarrow", "duckdb", "lightgbm"} <= libraries.keys()
    for name, found in libraries.items():
        assert found == version(name)
    assert environment.version_of("sklearn") == environment.version_of("Scikit_Learn") == version("scikit-learn")


def test_it_is_looked_up_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = environment.captured()
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    assert environment.captured() is here
    assert environment.captured(tmp_path) is environment.captured(tmp_path)


TELL = """
    import json, sys
    from store import environment
    print(json.dumps(environment.captured().told()))
"""


@pytest.mark.parametrize(("how", "name"), [("script", "train.py"), ("module", "train"), ("command", None)])
def test_the_script_is_named_and_no_secret_is_kept(tmp_path: Path, how: str, name: str | None) -> None:
    (tmp_path / "train.py").write_text(textwrap.dedent(TELL))
    words = {
        "script": [str(tmp_path / "train.py")],
        "module": ["-m", "train"],
        "command": ["-c", textwrap.dedent(TELL)],
    }
    root = str(Path(__file__).resolve().parents[2])
    variables = {"PYTHONPATH": root, "API_TOKEN": "hunter2-variable"}
    done = subprocess.run(
        [sys.executable, *words[how], "--password=hunter2-argument"],
        cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "hunter2" not in done.stdout
    told = json.loads(done.stdout)
    assert told.get("script") == name
    assert set(told) - {"script", "user"} == {"host", "python", "pid", "started", "libraries"}
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
