"""A thousand LightGBM models with 10 parameters and 10 metrics each, logged here and through MLflow.

``python -m tests.bench tracking [--models 1000] [--default 20] [--mlflow-python PATH]``. MLflow is no dependency: PATH
is a Python of another environment that has ``mlflow`` and ``lightgbm``; without it that half is skipped, aloud.

The models are fitted before, and read by each way before its clock starts; so are imports, and the making of the empty
store or database. CPU seconds are those of the process and of what it started. MLflow keeps its runs in SQLite, its
default, and its artifacts in a local folder. The ways:

- ``run``: one ``store.run`` a model, everything durable when each call returns
- ``batch``: ``store.batch``, a commit every 1,000 models
- ``mlflow-artifact``: ``MlflowClient``, one ``log_batch`` a run, the model's text by ``log_artifact``
- ``mlflow-fast``: the same ``log_batch``, and ``mlflow.lightgbm.log_model`` with ``pip_requirements`` given, so that
  nothing has to be inferred
- ``mlflow-default``: ``log_params``, ``log_metrics`` and ``log_model`` with nothing else, for ``--default`` models
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OURS = ("run", "batch")
THEIRS = ("mlflow-artifact", "mlflow-fast", "mlflow-default")
FITTED = 20
DEADLINE_S = 900


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench tracking")
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--default", type=int, default=20, help="models for MLflow's default way")
    parser.add_argument("--rounds", type=int, default=50, help="trees a model")
    parser.add_argument("--mlflow-python", type=Path)
    parser.add_argument("--ways", nargs="+", choices=(*OURS, *THEIRS), default=[*OURS, *THEIRS])
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        models = Path(name) / "models.jsonl"
        size = fit(models, asked.models, asked.rounds)
        print(json.dumps({"bench": "tracking", "models": asked.models, "bytes_per_model": size}), flush=True)
        costs: dict[str, float] = {}
        for way in asked.ways:
            if way in THEIRS and asked.mlflow_python is None:
                told = {"bench": "tracking", "way": way, "skipped": "no --mlflow-python was given"}
                print(json.dumps(told), flush=True)
                continue
            python = Path(sys.executable) if way in OURS else asked.mlflow_python
            count = min(asked.models, asked.default) if way == "mlflow-default" else asked.models
            figure = measured(python, way, models, count)
            if "cpu_ms_per_model" in figure:
                costs[way] = figure["cpu_ms_per_model"]
            print(json.dumps({"bench": "tracking", "way": way, **figure}), flush=True)
        for theirs in THEIRS:
            for ours in OURS:
                if theirs in costs and ours in costs:
                    ratio = {"cpu": f"{theirs} / {ours}", "ratio": round(costs[theirs] / costs[ours], 1)}
                    print(json.dumps({"bench": "tracking", **ratio}), flush=True)


def fit(path: Path, count: int, rounds: int) -> int:
    """Write so many models, one a line, from 20 that are fitted: each text says another seed. Bytes of one."""
    import lightgbm as lgb
    import numpy as np

    random = np.random.default_rng(0)
    X = random.normal(size=(2_000, 10))
    y = X @ random.normal(size=10) + np.sin(3 * X[:, 0]) + random.normal(0, 0.1, 2_000)
    settings = {"objective": "regression", "num_leaves": 31, "num_threads": 1, "verbosity": -1, "bagging_freq": 1}
    texts = []
    for seed in range(min(FITTED, count)):
        rows = lgb.Dataset(X, y, free_raw_data=False)
        told = settings | {"seed": 777_000_000 + seed, "bagging_fraction": 0.8}
        texts.append(lgb.train(told, rows, num_boost_round=rounds).model_to_string())
    with path.open("w") as file:
        for i in range(count):
            text = texts[i % len(texts)].replace(
                f"[seed: {777_000_000 + i % len(texts)}]", f"[seed: {888_000_000 + i}]"
            )
            model = {
                "asset": f"plant-{i:05d}",
                "params": {f"p{k}": round(float(value), 6) for k, value in enumerate(random.random(10))},
                "metrics": {f"m{k}": float(value) for k, value in enumerate(random.random(10))},
                "text": text,
            }
            file.write(json.dumps(model) + "\n")
    return len(texts[0])


def measured(python: Path, way: str, models: Path, count: int) -> dict[str, Any]:
    """What one way says of itself, and what it left on the disk."""
    with tempfile.TemporaryDirectory(dir=models.parent) as folder:
        variables = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        variables |= {"GIT_PYTHON_REFRESH": "quiet", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        try:
            done = subprocess.run(
                [str(python), "-P", __file__, way, str(models), str(count)],
                cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"gave_up_after_s": DEADLINE_S}
        if done.returncode:
            sys.exit(f"{way} exited {done.returncode}: {done.stderr[-2_000:]}")
        figure: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        kept = [path.lstat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    per_model = {"cpu_ms_per_model": figure["cpu_s"], "wall_ms_per_model": figure["wall_s"]}
    shown = {name: round(1_000 * value / count, 3) for name, value in per_model.items()}
    return figure | shown | {"models": count, "files": len(kept), "bytes": sum(kept)}


# ------------------------------------------------------------------------------------------- in a process of its own


def one_way(way: str, path: Path, count: int) -> None:
    """Log so many models, and say what that cost."""
    with path.open() as file:
        models = [json.loads(line) for line, _ in zip(file, range(count))]  # noqa: B905 - as many as are asked for
    log = {"run": by_run, "batch": by_batch}.get(way) or by_mlflow(way)
    steps = log(models)
    next(steps)  # imports, the empty store
    before, began = cpu_s(), time.perf_counter()
    next(steps, None)
    wall, cpu = time.perf_counter() - began, cpu_s() - before
    print(json.dumps({"cpu_s": round(cpu, 3), "wall_s": round(wall, 3), "setup_cpu_s": round(before, 2)}))


def cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def by_run(models: list[dict[str, Any]]) -> Iterator[None]:
    from store import Store

    with Store.open("bench.store") as store:
        yield
        for model in models:
            with store.run(asset=model["asset"], recipe="gbm", params=model["params"], library="lightgbm") as run:
                run.log_metrics(model["metrics"])
                run.log_model(model["text"].encode(), codec="lightgbm")


def by_batch(models: list[dict[str, Any]]) -> Iterator[None]:
    from store import Store

    with Store.open("bench.store") as store:
        yield
        with store.batch() as batch:
            for model in models:
                with batch.run(asset=model["asset"], recipe="gbm", params=model["params"], library="lightgbm") as run:
                    run.log_metrics(model["metrics"])
                    run.log_model(model["text"].encode(), codec="lightgbm")


def by_mlflow(way: str) -> Callable[[list[dict[str, Any]]], Iterator[None]]:
    def log(models: list[dict[str, Any]]) -> Iterator[None]:
        import lightgbm as lgb
        import mlflow.lightgbm
        from mlflow.entities import Metric, Param

        here = Path.cwd()
        mlflow.set_tracking_uri(f"sqlite:///{here}/mlflow.db")
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("bench", artifact_location=(here / "artifacts").as_uri())
        mlflow.set_experiment("bench")
        pinned = [f"mlflow=={mlflow.__version__}", f"lightgbm=={lgb.__version__}"]
        yield
        if way == "mlflow-default":
            for model in models:
                with mlflow.start_run(run_name=model["asset"]):
                    mlflow.log_params(model["params"])
                    mlflow.log_metrics(model["metrics"])
                    mlflow.lightgbm.log_model(lgb.Booster(model_str=model["text"]), name="model")
            return
        for model in models:
            run_id = client.create_run(experiment, run_name=model["asset"]).info.run_id
            now = int(time.time() * 1_000)
            metrics = [Metric(name, value, now, 0) for name, value in model["metrics"].items()]
            params = [Param(name, str(value)) for name, value in model["params"].items()]
            client.log_batch(run_id, metrics=metrics, params=params)
            if way == "mlflow-fast":
                with mlflow.start_run(run_id=run_id):
                    booster = lgb.Booster(model_str=model["text"])
                    mlflow.lightgbm.log_model(booster, name="model", pip_requirements=pinned)
            else:
                Path("model.lgb").write_text(model["text"])
                client.log_artifact(run_id, "model.lgb")
                client.set_terminated(run_id)
        Path("model.lgb").unlink(missing_ok=True)

    return log


if __name__ == "__main__":
    one_way(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
