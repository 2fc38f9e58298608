"""Loads the output of write-adapter.ts with PEFT and transformers, and compares logits.

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
# lora-swarm rounds merged 16-bit weights once, and PEFT rounds them twice.
TOLERANCE_16_BIT = 0.1

# Warnings of PEFT that are harmless here. The first is for an adapter with a copy of one of two tied weights. The second is
# for an adapter on two kinds of linear module (Conv1D and an output head), for which no value of fan_in_fan_out is right.
EXPECTED = ["tie_word_embeddings", "fan_in_fan_out is set to True but the target module is `torch.nn.Linear`"]


def main(model_dir: str, out: Path) -> None:
    warnings.simplefilter("error", UserWarning)
    for text in EXPECTED:
        warnings.filterwarnings("ignore", message=f".*{text}.*")
    for shape in sorted(folder for folder in out.iterdir() if (folder / "adapter").exists()):
        print(f"{shape.name:16}", *check(model_dir, shape), sep="  ")


def check(model_dir: str, out: Path):
    ours = load_file(out / "logits.safetensors")
    ids = ours["ids"].long()[None]
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    before = base(ids).logits[0].detach()
    model = PeftModel.from_pretrained(base, out / "adapter")
    adapted = model(ids).logits[0].detach()
    yield report("changes logits by", adapted - before, None)
    yield report("adapter against PEFT", adapted - ours["adapter"], TOLERANCE)
    if "merged" not in ours:
        yield "not merged: tied head"
        return
    merged = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.float32)
    yield report("merged against transformers", merged(ids).logits[0] - ours["merged"], TOLERANCE)
    stored = load_file(next((out / "merged").glob("*.safetensors")))
    sixteen = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in stored.values())
    by_peft = model.merge_and_unload(safe_merge=True)(ids).logits[0]
    yield report("merged against PEFT's", by_peft - ours["merged"], TOLERANCE_16_BIT if sixteen else TOLERANCE)


def report(what: str, difference: torch.Tensor, limit: float | None) -> str:
    largest = difference.abs().max().item()
    assert limit is None or largest < limit, (what, largest, limit)
    return f"{what} {largest:.1e}" + ("" if limit is None else f" (≤ {limit:g})")


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1], Path(sys.argv[2]))
