"""Runs lm-evaluation-harness against `lora-swarm serve` (local-completions), and compares its results with the results of
`lora-swarm evaluate --tasks` on the same task files. Prints a table, and fails if a metric differs by more than a millionth.
Needs lm_eval[api]==0.4.13, transformers==5.24.0 and datasets==5.2.0.

lm-eval's transformers backend, which `lora-swarm evaluate` agrees with, lets the tokenizer add its beginning-of-text token.
With the server's tokenizer (tokenizer_backend=auto), lm-eval never adds special tokens. This script therefore chooses the
tokenizer of transformers, and tells lm-eval to add the token (add_bos_token).

    python scripts/reference/lm-eval-serve.py [TASK.yaml ...]
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_DATASETS_CACHE"] = "/tmp/lm-eval-datasets"
os.environ["HF_HUB_OFFLINE"] = "1"
# lm-eval always sends a key.
os.environ["OPENAI_API_KEY"] = "no-key-is-needed"

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models/nano"
CONTEXT = 512
BOS = 0
# lm-eval sends the scored token as part of the prompt, and one token is generated after it. Both need a position.
LONGEST_INPUT = CONTEXT - 2
TOLERANCE = 1e-6


def task_of(path):
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(path)
    files = config["dataset_kwargs"]["data_files"]
    config["dataset_kwargs"] = {"data_files": {split: str((path.parent / file).resolve()) for split, file in files.items()}}
    return config


def task_files(folder):
    """Returns the files of a folder that define a task. Files that define a group only name tasks of other files."""
    return [path for path in sorted(folder.glob("*.yaml")) if "\ngroup:" not in path.read_text(encoding="utf-8")]


def swarm(*args):
    return ["node", str(ROOT / "cli/swarm.js"), *map(str, args)]


def served(path, url):
    import lm_eval

    tokenizer = f"tokenizer_backend=huggingface,tokenizer={MODEL},add_bos_token=True,custom_prefix_token_id={BOS}"
    arguments = f"model=nano,base_url={url}/v1/completions,max_length={CONTEXT},num_concurrent=8,{tokenizer}"
    found = lm_eval.simple_evaluate(model="local-completions", model_args=arguments, tasks=[task_of(path)])
    (results,) = found["results"].values()
    return results


def evaluated(path):
    command = swarm("evaluate", "--model", MODEL, "--tasks", path, "--max-length", LONGEST_INPUT, "--engine", "onnx-cpu", "--json")
    (results,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["results"].values()
    return results


def difference(a, b):
    if isinstance(a, float) and isinstance(b, (int, float)):
        return abs(a - b) / max(1, abs(a))
    return 0 if a == b else float("inf")


def main():
    logging.disable(logging.WARNING)
    files = [Path(name) for name in sys.argv[1:]] or task_files(ROOT / "examples/tasks")
    server = subprocess.Popen(swarm("serve", "--model", MODEL, "--port", 0, "--json"), stdout=subprocess.PIPE, text=True)
    worst = 0
    try:
        url = json.loads(server.stdout.readline())["url"]
        # The server prints a line per request, and would wait for a reader once the pipe is full.
        log = subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL)
        print("| task | metric | lm-eval through the server | lora-swarm evaluate | difference |\n|---|---|---|---|---|")
        for path in files:
            theirs, ours = served(path, url), evaluated(path)
            for metric in (name for name in theirs if "," in name):
                found = difference(theirs[metric], ours.get(metric))
                worst = max(worst, found)
                print(f"| {path.stem} | {metric} | {theirs[metric]} | {ours.get(metric)} | {found:.1e} |", flush=True)
    finally:
        server.terminate()
        server.wait()
    log.wait()
    if worst > TOLERANCE:
        sys.exit(f"the largest difference is {worst}")


if __name__ == "__main__":
    main()
