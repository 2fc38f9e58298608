"""Greedy continuations by transformers + PEFT, for the tests of lora/generate.

Usage: python make_greedy.py FIXTURES     (versions: requirements.txt; runs on the CPU in float32)

Reads the model folders that make_llama_tiny.py and make_families.py wrote, and writes FIXTURES/greedy.json: for each
variant, with and without its adapter, the prompt, the tokens after it and their log-probabilities. No token ends the
generation.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

PROMPT = 7
GENERATED = 22


def main(fixtures: Path) -> None:
    torch.set_num_threads(1)
    variants = ["llama-tiny-tied", "llama-tiny-untied"]
    variants += sorted(f"families/{path.name}" for path in (fixtures / "families").iterdir())
    found = {name: continuations(fixtures / name, index) for index, name in enumerate(variants)}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    (fixtures / "greedy.json").write_text("{\n" + lines + "\n}\n")


def continuations(folder: Path, seed: int) -> dict:
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prompt = torch.randint(2, base.config.vocab_size, (1, PROMPT))
    plain = greedy(base, prompt)
    adapted = greedy(PeftModel.from_pretrained(base, folder / "adapter").eval(), prompt)
    return {"prompt": prompt[0].tolist(), "base": plain, "adapter": adapted}


def greedy(model, prompt) -> dict:
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    out = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=GENERATED,
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids = out.sequences[0, prompt.shape[1] :].tolist()
    logprobs = [row[0].log_softmax(-1)[id].item() for row, id in zip(out.logits, ids)]
    return {"ids": ids, "logprobs": [round(value, 6) for value in logprobs]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
