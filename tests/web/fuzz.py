"""Requests made out of the description of REST: ``python -m tests.web.fuzz [--cases 100] [--seed 0]``.

Schemathesis asks a small fleet's server, with a token that may do all, for what the description allows and for what it
does not; a failure is an answer that the description does not have, such as an error of ours or a wrong type. One JSON
line an operation tells its cases; the exit is 1 where there was a failure. Jobs that are asked for are run.

Of the tool's checks one is left out, that whatever has the described form is accepted: a cursor, an asset, a recipe or
a column is a text in the description, and only one that the fleet has is answered.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet import Fleet
from jobs.requested import Requests
from jobs.web import Settings
from jobs.web.tokens import web_folder
from tests.web.conftest import Client, build, served

COMMAND = Path(sys.executable).parent / "schemathesis"
#: The one that the description has as its example.
JOB = """
[jobs.nightly]
kind = "score"
cron = "0 2 * * *"
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.web.fuzz")
    parser.add_argument("--cases", type=int, default=100, help="of each operation, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operation", help="only this path")
    parser.add_argument("--fleet", type=Path, help="an existing fleet's folder; readings are written to its store")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = asked.fleet or with_a_job(build(Path(name) / "fleet"))
        only = ["--include-path", asked.operation] if asked.operation else []
        with Fleet.open(folder / "fleet.toml") as fleet:
            runner = Requests(fleet, web_folder(fleet.store.path))
            with served(fleet, Settings(port=0, require_token=True), runner) as client:
                told, cases, code = fuzz(client, Path(name), asked.cases, asked.seed, only)
            for thread in runner._started.values():  # the folder they are at work in is about to go
                thread.join(60)
    print(told, file=sys.stderr)
    for operation, count in sorted(cases.items()):
        print(json.dumps({"fuzz": operation, **count}))
    sys.exit(code)


def with_a_job(folder: Path) -> Path:
    """The fleet's folder, with a job to ask for."""
    with (folder / "fleet.toml").open("a", encoding="utf-8") as file:
        file.write(JOB)
    return folder


def fuzz(
    client: Client, folder: Path, cases: int, seed: int, more: Sequence[str] = ()
) -> tuple[str, dict[str, dict[str, int]], int]:
    """What the tool says, by operation how many cases and failures there were, and its exit code."""
    address, log = f"http://127.0.0.1:{client.port}", folder / "fuzz.ndjson"
    done = subprocess.run(
        [
            COMMAND, "run", f"{address}/api/v1/openapi.json",
            "--header", f"Authorization: Bearer {client.token('admin')}",
            "--max-examples", str(cases), "--seed", str(seed), "--phases", "examples,coverage,fuzzing",
            "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-shrink",
            "--generation-database", "none", "--suppress-health-check", "all",
            "--report", "ndjson", "--report-ndjson-path", str(log), *more,
        ],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr, counted(log), done.returncode


def counted(log: Path) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        for kind, event in json.loads(line).items():
            if kind == "ScenarioFinished":
                _count(event, found)
    return {name: dict(count) for name, count in found.items()}


def _count(event: dict[str, Any], found: dict[str, Counter[str]]) -> None:
    recorder = event["recorder"]
    mine = found.setdefault(recorder["label"], Counter())
    mine["cases"] += len(recorder.get("cases", ()))  # a phase may have none
    answers = [one.get("response") or {} for one in recorder.get("interactions", {}).values()]
    mine["answered"] += sum(one.get("status_code", 0) // 100 == 2 for one in answers)
    mine["failures"] += sum(one["status"] == "failure" for each in recorder.get("checks", {}).values() for one in each)


if __name__ == "__main__":
    main(sys.argv[1:])
