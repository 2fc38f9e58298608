"""Makes test/fixtures/lm-eval/results.json: what lm-evaluation-harness reports for models/nano on the tasks of
examples/tasks and test/fixtures/lm-eval/tasks. Made with lm_eval==0.4.13, transformers==5.24.0, torch==2.15.0,
datasets==5.2.0, sacrebleu==2.6.0, scikit-learn==1.9.1 and Python 3.11 on a CPU.

    python scripts/reference/lm-eval.py

Tasks that the file already has are not run again; delete the file to make all of them.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

os.environ["HF_DATASETS_CACHE"] = "/tmp/lm-eval-datasets"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parents[2]
OUT = ROOT / "test/fixtures/lm-eval/results.json"
FOLDERS = ["examples/tasks", "test/fixtures/lm-eval/tasks"]
# A file with a group only names tasks of other files.
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.yaml")) if "\ngroup:" not in path.read_text(encoding="utf-8")]


def task_of(path):
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(path)
    files = config["dataset_kwargs"]["data_files"]
    config["dataset_kwargs"] = {"data_files": {split: str((path.parent / file).resolve()) for split, file in files.items()}}
    return config


def digest(texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def shortened(sample):
    """Returns the likelihoods or texts of one document, and a digest of its prompts instead of the prompts."""
    resps = [r[0] for r in sample["resps"]]
    return {
        "texts": digest([str(part) for args in sample["arguments"] for part in args if not isinstance(part, dict)]),
        "responses": [[round(r[0], 6), bool(r[1])] if isinstance(r, tuple) else round(r, 6) if isinstance(r, float) else r for r in resps],
        "hashes": [sample["doc_hash"][:8], sample["prompt_hash"][:8], sample["target_hash"][:8]],
    }


def main():
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    logging.disable(logging.WARNING)
    model = HFLM(pretrained=str(ROOT / "models/nano"), dtype="float32", device="cpu", batch_size=1)
    tasks = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    for path in FILES:
        if str(path.relative_to(ROOT)) in [task["file"] for task in tasks.values()]:
            continue
        # scikit-learn needs ten minutes for 100,000 bootstrap samples of f1 or mcc.
        iters = 2000 if path.stem in ("binary", "choices-all") else 100000
        found = lm_eval.simple_evaluate(model=model, tasks=[task_of(path)], log_samples=True, bootstrap_iters=iters)
        (name,) = found["results"]
        tasks[name] = {
            "file": str(path.relative_to(ROOT)),
            "iters": iters,
            "results": found["results"][name],
            "version": found["versions"][name],
            "shots": found["n-shot"][name],
            "samples": found["n-samples"][name],
            "higher_is_better": found["higher_is_better"][name],
            "documents": [shortened(s) for s in found["samples"][name]],
        }
        print(name, json.dumps(found["results"][name], default=str), flush=True)
        OUT.write_text(json.dumps(tasks, ensure_ascii=False, separators=(",", ":"), default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
