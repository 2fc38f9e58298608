"""Adapters of every shape that PEFT trains, on the tiny models, with reference values from PEFT.

Usage: python make_adapters.py FIXTURES_DIR     (versions: requirements.txt; runs on the CPU in float32)

For each case of CASES, FIXTURES_DIR/adapters/CASE holds `adapter_config.json` and `adapter_model.safetensors` as PEFT
saves them, and
  reference.json         the model's folder, settings, rows (ids, labels: already shifted, -100 = not trained), seeds
                         of the dropout masks of each step, losses of three AdamW steps
  reference.safetensors  logits [B*T, V] (without dropout), gradients.TENSOR, trained.TENSOR after the three steps
FIXTURES_DIR/peft-modules.json holds the modules that PEFT adapts, with rank and scale, for each of SETTINGS.
"""

import hashlib
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

LENGTH = 16
ADAMW = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
# A bias of keys does not change the softmax, so its gradient consists only of rounding errors. Adam divides a gradient by
# its size, so with the usual epsilon both programs would take full steps in the direction of their rounding errors.
BIAS_EPSILON = 1e-5
CLIP_NORM = 1.0
STEPS = 3

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "dora": ("llama-tiny-untied", dict(r=2, lora_alpha=6, target_modules=ALL, use_dora=True)),
    "dora-rslora-head": (
        "llama-tiny-untied",
        dict(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj", "lm_head"], use_dora=True, use_rslora=True),
    ),
    "patterns": (
        "llama-tiny-untied",
        dict(
            r=3,
            lora_alpha=5,
            target_modules="all-linear",
            exclude_modules=["up_proj"],
            use_rslora=True,
            rank_pattern={"layers.1.self_attn.*": 2, "q_proj": 4, r"mlp\.(gate|down)_proj": 1},
            alpha_pattern={"[kv]_proj": 9, "o_proj": 2.5},
        ),
    ),
    "layers": (
        "llama-tiny-tied",
        dict(r=2, lora_alpha=4, target_modules=ALL, layers_to_transform=[1], layers_pattern="layers"),
    ),
    "saved": (
        "llama-tiny-untied",
        dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head", "norm"]),
    ),
    "saved-tied": (
        "llama-tiny-tied",
        dict(r=2, lora_alpha=4, target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"], use_dora=True),
    ),
    "saved-embedding": (
        "llama-tiny-tied",
        dict(r=2, lora_alpha=4, target_modules=["v_proj"], modules_to_save=["embed_tokens"]),
    ),
    "embedding": (
        "llama-tiny-untied",
        dict(r=3, lora_alpha=4, target_modules=["embed_tokens", "q_proj"], rank_pattern={"embed_tokens": 2}, lora_dropout=0.1),
    ),
    "embedding-tied": ("llama-tiny-tied", dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "lm_head"])),
    "dropout": ("llama-tiny-tied", dict(r=2, lora_alpha=4, target_modules=ALL, lora_dropout=0.25)),
    "dropout-dora": (
        "llama-tiny-tied",
        dict(r=2, lora_alpha=4, target_modules=["k_proj", "down_proj"], lora_dropout=0.5, use_dora=True),
    ),
    "qwen2-bias-dora": (
        "families/qwen2",
        dict(r=2, lora_alpha=4, target_modules=["q_proj", "o_proj"], bias="lora_only", use_dora=True),
    ),
    "qwen2-bias-all": ("families/qwen2", dict(r=2, lora_alpha=4, target_modules=["k_proj"], bias="all")),
    "gemma3-dora": (
        "families/gemma3",
        dict(r=2, lora_alpha=4, target_modules=["v_proj", "gate_proj"], use_dora=True, modules_to_save=["q_norm"]),
    ),
    "gemma3-embedding": ("families/gemma3", dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "o_proj"])),
    "gpt2-dora": (
        "families/gpt2",
        dict(r=2, lora_alpha=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, use_dora=True),
    ),
    "gpt2-bias": (
        "families/gpt2",
        dict(r=2, lora_alpha=4, target_modules="all-linear", fan_in_fan_out=True, bias="lora_only", use_rslora=True),
    ),
    "gpt2-bias-all": (
        "families/gpt2",
        dict(r=2, lora_alpha=4, target_modules=["mlp.c_proj"], fan_in_fan_out=True, bias="all"),
    ),
    "gpt2-saved": (
        "families/gpt2",
        dict(r=2, lora_alpha=4, target_modules=["c_attn"], fan_in_fan_out=True, modules_to_save=["wte", "ln_f", "c_fc"]),
    ),
}

SETTINGS = {
    "llama-tiny-untied": [
        dict(target_modules=["q_proj", "lm_head"], exclude_modules="model.*0.*"),
        dict(target_modules=["self_attn.q_proj", "0.mlp.up_proj", "c_attn"], exclude_modules=["layers.1.self_attn.q_proj"]),
        dict(target_modules="all-linear", exclude_modules=["mlp.up_proj", "proj", "o_proj"]),
        dict(target_modules="all-linear", exclude_modules=r".*\.(gate|up)_proj"),
        dict(target_modules=["v_proj", "lm_head"], layers_to_transform=1),
        dict(target_modules=["v_proj", "lm_head"], layers_to_transform=[0, 1]),
        dict(target_modules=["v_proj", "up_proj"], layers_to_transform=[0], layers_pattern=["layers"]),
        dict(target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"]),
        dict(target_modules=["embed_tokens", "v_proj"], layers_to_transform=[0]),
        dict(target_modules=r".*(embed_tokens|0\..*v_proj)", rank_pattern={"embed_tokens": 3}, use_rslora=True),
        dict(target_modules="all-linear", modules_to_save=["mlp"]),
        dict(target_modules="all-linear", modules_to_save=["layers.0", "norm"]),
        dict(target_modules=r".*\.(q|v)_proj", modules_to_save=["embed_tokens"]),
        dict(target_modules="all-linear", rank_pattern={"proj": 2, "up_proj": 3, ".*up_proj": 4}),
        dict(target_modules="all-linear", rank_pattern={"0.self_attn.q_proj": 2, "self_attn.*": 3, "mlp": 5}),
        dict(target_modules="all-linear", rank_pattern={"^model.*down_proj": 2, r"layers\.1\..*": 3}),
        dict(target_modules="all-linear", alpha_pattern={"q_proj|k_proj": 7, "(?P<w>v|o)_proj": 2}, use_rslora=True),
    ],
    "families/gpt2": [
        dict(target_modules="all-linear"),
        dict(target_modules=["c_proj"]),
        dict(target_modules=["mlp.c_proj", "c_attn"], layers_to_transform=[0]),
        dict(target_modules=["c_attn", "lm_head"]),
        dict(target_modules=r".*attn\.c_.*", rank_pattern={"h.0.attn.c_proj": 2}),
        dict(target_modules=["c_proj", "c_fc"], modules_to_save=["attn"], exclude_modules=["h.1.mlp.c_fc"]),
    ],
}


def main(out: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name, (model, settings) in CASES.items():
        if (out / model).exists():
            make_case(out, name, model, settings)
    modules = {
        model: [adapted_modules(out / model, settings) for settings in cases]
        for model, cases in SETTINGS.items()
        if (out / model).exists()
    }
    (out / "peft-modules.json").write_text(json.dumps(modules, indent=1) + "\n")


def open_model(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def make_case(out: Path, name: str, model_name: str, settings: dict) -> None:
    torch.manual_seed(11)
    base = open_model(out / model_name)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    trained = [(on_disk(name), tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    with torch.no_grad():
        for name_, tensor in trained:
            if "lora_B" in name_ or "lora_embedding" in name_:
                tensor.normal_(0, 0.2)
            elif "lora_A" not in name_:
                tensor.mul_(1 + 0.1 * torch.randn_like(tensor)).add_(0.02 * torch.randn_like(tensor))
    folder = out / "adapters" / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    rows = random_rows(base.config.vocab_size)
    tensors = {"logits": forward(model.eval(), rows)[0].detach()}
    seeds = [1000 + step for step in range(STEPS)]
    model.train()
    adamw = {**ADAMW, "eps": BIAS_EPSILON} if any(name.endswith(".bias") for name, _ in trained) else ADAMW
    optimizer = torch.optim.AdamW([tensor for _, tensor in trained], **adamw)
    losses = []
    for step, seed in enumerate(seeds):
        mask_dropouts(model, seed)
        optimizer.zero_grad()
        _, loss = forward(model, rows)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            for name_, tensor in trained:
                tensors[f"gradients.{name_}"] = tensor.grad.clone()
        torch.nn.utils.clip_grad_norm_([tensor for _, tensor in trained], CLIP_NORM)
        optimizer.step()
    for name_, tensor in trained:
        tensors[f"trained.{name_}"] = tensor.detach().clone()
    save_file(tensors, folder / "reference.safetensors", metadata={"format": "pt"})
    reference = {
        "model": model_name,
        "settings": {**adamw, "clipNorm": CLIP_NORM, "batch": 2, "length": LENGTH},
        "rows": rows,
        "seeds": seeds,
        "losses": losses,
    }
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


def on_disk(name: str) -> str:
    name = name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector")
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".").removesuffix(".default")


def random_rows(vocabulary: int):
    rows = []
    for _ in range(2):
        ids = torch.randint(0, vocabulary, (LENGTH,)).tolist()
        labels = [-100 if t == LENGTH - 1 or t % 7 == 3 else ids[t + 1] for t in range(LENGTH)]
        rows.append({"ids": ids, "labels": labels})
    return rows


def forward(model, rows):
    ids = torch.tensor([row["ids"] for row in rows])
    labels = torch.tensor([row["labels"] for row in rows]).reshape(-1)
    logits = model(input_ids=ids, use_cache=False).logits.reshape(len(rows) * LENGTH, -1)
    return logits, torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)


class MaskedDropout(torch.nn.Module):
    """Dropout with the mask of lora/graph/ops/random.ts, computed independently here."""

    def __init__(self, module: str, rate: float, seed: int):
        super().__init__()
        self.rate = rate
        self.seed = seed
        self.stream = int.from_bytes(hashlib.sha256(module.encode()).digest()[:4], "little") >> 1

    def forward(self, x):
        random = torch.from_numpy(uniform(x.reshape(-1, x.shape[-1]).shape, self.seed, self.stream))
        return x * ((random >= self.rate).float() / (1 - self.rate)).reshape(x.shape)


def mask_dropouts(model, seed: int) -> None:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            dropout = module.lora_dropout["default"]
            rate = getattr(dropout, "rate", getattr(dropout, "p", 0.0))
            if rate > 0:
                path = name.removeprefix("base_model.model.")
                module.lora_dropout["default"] = MaskedDropout(path, rate, seed)
    # The base runs without its own dropout (GPT-2).
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def uniform(shape, seed: int, stream: int) -> np.ndarray:
    """Numbers in [0, 1). Unsigned 32-bit arithmetic wraps like the signed arithmetic of the graph."""
    word = lambda value: np.uint32(value & 0xFFFFFFFF)
    permute = lambda x: x * (x + x + word(1))
    # Divides the signed word by 2^16, rounding towards zero.
    fold = lambda x: np.trunc(x.astype(np.int32) / 2**16).astype(np.int32).astype(np.uint32)

    def mix(x):
        for _ in range(3):
            x = permute(x + fold(x))
        return x

    rows, columns = (np.arange(size, dtype=np.uint32) for size in shape)
    with np.errstate(over="ignore"):
        start = np.array([seed], np.uint32) * word(0x9E3779B1) + word(stream)
        key, factor_key = mix(start), mix(start + word(0x27D4EB2F))
        hashes = lambda numbers, step, start: mix(numbers * word(step) + start)
        a, b = hashes(rows, 0x85EBCA6B, key), hashes(columns, 0xC2B2AE35, key)
        c, d = hashes(rows, 0x85EBCA6B, factor_key), hashes(columns, 0xC2B2AE35, factor_key)
        odd = (c + c + word(1))[:, None] + (d + d)[None, :]
        value = permute((a[:, None] + b[None, :]) * odd)
    upper = np.trunc(value.astype(np.int32) / 2**8)
    return (upper / 2**24 + 0.5).astype(np.float32)


def adapted_modules(folder: Path, settings: dict) -> dict:
    model = get_peft_model(open_model(folder), LoraConfig(task_type="CAUSAL_LM", r=6, lora_alpha=12, **settings))
    found = {
        name.removeprefix("base_model.model."): [module.r["default"], module.scaling["default"]]
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    saved = sorted(name for name in get_peft_model_state_dict(model, save_embedding_layers=False) if ".lora_" not in name)
    assert all(math.isfinite(scale) for _, scale in found.values())
    return {"settings": settings, "modules": found, "saved": saved}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
