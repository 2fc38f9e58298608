"""Loads what write-adapter.ts wrote with real PEFT and transformers, and compares logits.

Usage: python check_peft.py MODEL_DIR OUTPUT_DIR     (versions: requirements.txt)
"""

import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-4
# Merged 16-bit weights are rounded by both sides, ours once and PEFT's twice.
TOLERANCE_16_BIT = 0.1


def main(model_dir: str, out: Path) -> None:
    warnings.simplefilter("error", UserWarning)
    ours = load_file(out / "logits.safetensors")
    ids = ours["ids"].long()[None]
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    before = base(ids).logits[0].detach()
    model = PeftModel.from_pretrained(base, out / "adapter")
    adapted = model(ids).logits[0].detach()
    report("the adapter changes the logits by", (adapted - before).abs().max(), None)
    report("adapter: ours against PEFT", (adapted - ours["adapter"]).abs().max(), TOLERANCE)

    merged = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.float32)
    report("merged: ours against transformers", (merged(ids).logits[0] - ours["merged"]).abs().max(), TOLERANCE)
    stored = load_file(next((out / "merged").glob("*.safetensors")))
    sixteen = any(tensor.dtype != torch.float32 for tensor in stored.values())
    by_peft = model.merge_and_unload(safe_merge=True)(ids).logits[0]
    report("merged: ours against PEFT's in float32", (by_peft - ours["merged"]).abs().max(),
           TOLERANCE_16_BIT if sixteen else TOLERANCE)


def report(what: str, difference: torch.Tensor, limit: float | None) -> None:
    print(f"{what}: {difference.item():.2e}" + ("" if limit is None else f" (limit {limit:g})"))
    assert limit is None or difference < limit


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
