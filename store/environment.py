"""Where a run was made: git commit, machine, Python, libraries. Looked up once a process, when first asked for.

Nothing here reads an environment variable into what is kept, asks the network, or fails: what cannot be found is left
out. Git is asked once a folder, with a deadline, and runs no hook, no file watcher and no transport.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_GIT_DEADLINE_S = 1.0
#: Libraries whose version explains a model's numbers, by the names they are installed under.
NOTED = (
    *("tsfleet", "numpy", "pandas", "polars", "pyarrow", "duckdb", "scipy", "scikit-learn", "statsmodels"),
    *("lightgbm", "xgboost", "catboost", "torch", "tensorflow", "jax", "prophet", "statsforecast", "mlforecast"),
    *("neuralforecast", "sktime", "darts", "gluonts", "autogluon-timeseries", "chronos-forecasting"),
)
#: Libraries that are imported under another name than they are installed under.
_IMPORTED_AS = {"sklearn": "scikit-learn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What is known of the place where code runs; what is unknown is None or empty."""

    host: str
    user: str | None
    python: str
    script: str | None
    commit: str | None
    dirty: bool
    libraries: Mapping[str, str]

    @property
    def code_version(self) -> str | None:
        """The first 12 digits of the git commit, ``-dirty`` behind them when tracked files differ from it.

        >>> place = dict(host="h", user=None, python="3.12.1", script=None, libraries={})
        >>> Environment(commit="0123456789abcdef", dirty=True, **place).code_version
        '0123456789ab-dirty'
        >>> Environment(commit=None, dirty=False, **place).code_version is None
        True
        """
        if self.commit is None:
            return None
        return self.commit[:12] + ("-dirty" if self.dirty else "")

    def told(self) -> dict[str, Any]:
        """As a run's tag keeps it, with the process that asks; the commit stands in ``runs.code_version``."""
        known = {"host": self.host, "user": self.user, "python": self.python, "script": self.script}
        process = {"pid": os.getpid(), "started": _began(os.getpid())}
        return {name: value for name, value in (known | process).items() if value is not None} | {
            "libraries": dict(self.libraries)
        }


_lock = threading.Lock()
_captured: dict[Path | None, Environment] = {}
_installed: dict[str, str] = {}


def captured(folder: Path | None = None) -> Environment:
    """Where this process runs; the first call looks, later ones remember.

    Args:
        folder: whose git commit counts; the working folder of the first call by default.
    """
    with _lock:
        if folder not in _captured:
            commit, dirty = git_state(Path.cwd() if folder is None else folder)
            versions = _versions()
            _captured[folder] = Environment(
                host=platform.node(),
                user=_user(),
                python=platform.python_version(),
                script=_script(),
                commit=commit,
                dirty=dirty,
                libraries={name: versions[name] for name in NOTED if name in versions},
            )
        return _captured[folder]


def version_of(library: str) -> str | None:
    """The installed version of a library, by its name or by the name it is imported under.

    >>> version_of("no such library") is None
    True
    """
    with _lock:
        return _versions().get(_canonical(_IMPORTED_AS.get(library, library)))


def alive(told: Mapping[str, Any]) -> bool | None:
    """Whether the process that an ``environment`` tag speaks of still runs; None when this machine cannot know."""
    pid = told.get("pid")
    if told.get("host") != platform.node() or not isinstance(pid, int):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    state, began = _process(pid)
    if state is None:
        return None if "started" in told else True
    return state not in "ZX" and began == told.get("started")


def _process(pid: int) -> tuple[str | None, int | None]:
    """A process' state letter and when it began, in ticks since boot; a pid used again is told apart by it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # no such system, or a process whose owner hides it
        return None, None
    return fields[0], int(fields[19])


@cache
def _began(pid: int) -> int | None:
    return _process(pid)[1]


def git_state(folder: Path) -> tuple[str | None, bool]:
    """(commit, whether tracked files differ from it) of the repository around a folder; (None, False) without one."""
    answer = _asked_of_git(
        folder,
        *("status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty", "--no-renames"),
    )
    commit, dirty = None, False
    for line in answer.splitlines():
        if line.startswith("# branch.oid "):
            found = line.removeprefix("# branch.oid ")
            commit = found if re.fullmatch(r"[0-9a-f]{40,64}", found) else None
        elif not line.startswith("#"):
            dirty = True
    return commit, dirty and commit is not None


def _asked_of_git(folder: Path, *words: str) -> str:
    """What git answers; nothing when there is no git, no repository, or no answer in time."""
    import signal
    import subprocess

    # Nothing that a repository's configuration names is run or called, as far as git can be told so.
    tame = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")
    # A hook's or an alias' own variables would point git at another repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        with subprocess.Popen(  # noqa: S603 - fixed words; git is whatever the user's path says it is
            ["git", *tame, *words],  # noqa: S607 - as above
            cwd=folder,
            env=inherited | quiet,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as git:
            try:
                answer, _ = git.communicate(timeout=_GIT_DEADLINE_S)
            except BaseException:
                with suppress(ProcessLookupError):  # with whatever it has started: that would hold the pipe open
                    os.killpg(git.pid, signal.SIGKILL)
                raise
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.decode(errors="replace") if git.returncode == 0 else ""


def _versions() -> dict[str, str]:
    """Installed distributions and their versions, by the names of their metadata folders.

    importlib.metadata reads a file for each, 100 times slower.
    """
    if not _installed:
        for place in sys.path:
            with suppress(OSError), os.scandir(place or ".") as entries:
                for entry in entries:
                    stem, _, kind = entry.name.rpartition(".")
                    if kind in {"dist-info", "egg-info"} and "-" in stem:
                        name, version = stem.split("-")[:2]
                        _installed.setdefault(_canonical(name), version)
    return _installed


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _user() -> str | None:
    import pwd

    with suppress(KeyError):  # a container's user without a name
        return pwd.getpwuid(os.getuid()).pw_name
    return None


def _script() -> str | None:
    """The name of what runs: a script, a module, or a notebook; its arguments may hold secrets and stay out."""
    if "ipykernel" in sys.modules:
        return "notebook"
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return None if file is None else Path(file).name
