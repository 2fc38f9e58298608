"""Adapters combined by PEFT's `add_weighted_adapter`, with every method that this project offers.

Usage: python make_combined.py OUTPUT.json      (versions: requirements.txt; runs on the CPU in float32)

The file holds three adapters of a model of two linear layers, and for each case its weights, settings and the combined
A and B of PEFT. `dare_*` draw with a counter instead of torch.bernoulli: value number k is kept if `draw(k)` is below the
density.
"""

import json
import sys

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

SHAPES = {"q_proj": (6, 5), "down_proj": (4, 7)}
# Adapter 3 has no down_proj, and another rank.
ADAPTERS = {"one": (2, 4, ["q_proj", "down_proj"]), "two": (2, 1, ["q_proj", "down_proj"]), "three": (3, 3, ["q_proj"])}
EQUAL = ["one", "two"]
CASES = [
    *[dict(method=method, adapters=list(ADAPTERS), weights=[0.7, -0.3, 1.5]) for method in ("cat", "svd")],
    dict(method="svd", adapters=EQUAL, weights=[0.7, -0.3], rank=3),
    dict(method="linear", adapters=EQUAL, weights=[0.7, -0.3]),
    dict(method="magnitude_prune", adapters=EQUAL, weights=[0.7, -0.3], density=0.6),
    *[
        dict(method=method, adapters=EQUAL, weights=[0.7, 1.1], density=0.6, signs=signs)
        for method in ("ties", "dare_ties")
        for signs in ("total", "frequency")
    ],
    dict(method="ties", adapters=EQUAL, weights=[0.7, -0.3], density=1.0, signs="total"),
    dict(method="dare_linear", adapters=EQUAL, weights=[0.7, -0.3], density=0.6),
]


def draw(k: int) -> float:
    return (k * 7919 + 104729) % 100003 / 100003


class Counter:
    """Stands in for torch.bernoulli."""

    def __init__(self):
        self.count = 0

    def __call__(self, probabilities: torch.Tensor) -> torch.Tensor:
        flat = probabilities.reshape(-1)
        kept = [float(draw(self.count + k) < p) for k, p in enumerate(flat.tolist())]
        self.count += flat.numel()
        return torch.tensor(kept).reshape(probabilities.shape)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        # Declared in the order of their names, because this project draws its random numbers in that order.
        self.down_proj = nn.Linear(SHAPES["down_proj"][1], SHAPES["down_proj"][0], bias=False)
        self.q_proj = nn.Linear(SHAPES["q_proj"][1], SHAPES["q_proj"][0], bias=False)


def rounded(tensor: torch.Tensor) -> list:
    return [float(f"{value:.8g}") for value in tensor.reshape(-1).tolist()]


torch.manual_seed(7)
model = None
for name, (rank, alpha, targets) in ADAPTERS.items():
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=False)
    if model is None:
        model = get_peft_model(Layers(), config, adapter_name=name)
    else:
        model.add_adapter(name, config)
layers = {name: getattr(model.base_model.model, name) for name in sorted(SHAPES)}
with torch.no_grad():
    for layer in layers.values():
        for matrix in (*layer.lora_A.values(), *layer.lora_B.values()):
            # Values with three digits, which the JSON file can hold exactly.
            matrix.weight.copy_(torch.tensor([round(v, 3) for v in torch.randn(matrix.weight.numel()).tolist()]).reshape(matrix.weight.shape))


def matrices(adapter: str) -> dict:
    return {
        name: dict(a=rounded(layer.lora_A[adapter].weight), b=rounded(layer.lora_B[adapter].weight))
        for name, layer in layers.items()
        if adapter in layer.lora_A
    }


adapters = {name: dict(rank=rank, scale=alpha / rank, modules=matrices(name)) for name, (rank, alpha, _) in ADAPTERS.items()}
combined = []
for i, case in enumerate(CASES):
    torch.bernoulli = Counter()
    name = f"case{i}"
    model.base_model.add_weighted_adapter(
        case["adapters"],
        case["weights"],
        name,
        combination_type=case["method"],
        svd_rank=case.get("rank"),
        density=case.get("density"),
        majority_sign_method=case.get("signs", "total"),
    )
    config = model.peft_config[name]
    assert config.lora_alpha == config.r, "the scale is 1"
    combined.append({**case, "result": dict(rank=config.r, modules=matrices(name))})
with open(sys.argv[1], "w") as file:
    shapes = {name: dict(zip(("out", "in"), shape)) for name, shape in SHAPES.items()}
    json.dump(dict(shapes=shapes, adapters=adapters, cases=combined), file, separators=(",", ":"))
    file.write("\n")
