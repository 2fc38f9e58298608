"""Reference values for lora/train, from transformers and PEFT: python make_training.py <folder>

Writes <folder>/training.json:
  schedules       learning rate of every step of transformers' schedulers
  warmup          TrainingArguments.get_warmup_steps: warm-up steps for a fraction of all steps
  labelSmoothing  LabelSmoother: loss and d loss / d logits, fp32
  neftune         bound and standard deviation of the noise of neftune_post_forward_hook
  groups          per adapter tensor: LoRA+ rate ratio (PEFT), weight decay (Trainer)
  loraPlus        tensors after three AdamW steps in PEFT's LoRA+ groups, on given gradients
"""

import json
import math
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)
from transformers.integrations.neftune import neftune_post_forward_hook
from transformers.trainer_pt_utils import LabelSmoother

torch.manual_seed(0)
torch.set_num_threads(1)

RATE = 3e-4


def rates(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def schedules():
    cases = []
    for warmup, total in [(0, 20), (5, 20), (3, 50), (20, 20), (0, 1)]:
        for name, fraction, make in [
            ("constant", 0, lambda o: get_constant_schedule_with_warmup(o, warmup)),
            ("linear", 0, lambda o: get_linear_schedule_with_warmup(o, warmup, total)),
            ("cosine", 0, lambda o: get_cosine_schedule_with_warmup(o, warmup, total)),
            ("cosine", 0.1, lambda o: get_cosine_with_min_lr_schedule_with_warmup(o, warmup, total, min_lr_rate=0.1)),
        ]:
            cases.append(
                {
                    "schedule": name,
                    "finalFraction": fraction,
                    "learningRate": RATE,
                    "warmupSteps": warmup,
                    "totalSteps": total,
                    "rates": rates(make, total),
                }
            )
    return cases


def warmup():
    args = lambda share: TrainingArguments(output_dir="/tmp/unused", use_cpu=True, warmup_steps=share)
    return [
        {"share": share, "totalSteps": total, "steps": args(share).get_warmup_steps(total)}
        for share in (0.03, 0.1, 0.5)
        for total in (1, 7, 100, 333)
    ]


def label_smoothing():
    cases = []
    for epsilon in (0.0, 0.1, 0.3):
        tokens, vocabulary, width = 6, 11, 4
        x = torch.randn(tokens, width)
        w = torch.randn(vocabulary, width)
        x.requires_grad_()
        w.requires_grad_()
        logits = x @ w.T
        logits.retain_grad()
        labels = torch.tensor([3, -100, 10, 0, 3, -100])
        loss = LabelSmoother(epsilon=epsilon)({"logits": logits[None]}, labels[None])
        loss.backward()
        flat = lambda tensor: tensor.detach().flatten().tolist()
        cases.append(
            {
                "epsilon": epsilon,
                "tokens": tokens,
                "vocabulary": vocabulary,
                "width": width,
                "labels": labels.tolist(),
                "x": flat(x),
                "w": flat(w),
                "logits": flat(logits),
                "loss": loss.item(),
                "gradient": {"x": flat(x.grad), "w": flat(w.grad), "logits": flat(logits.grad)},
            }
        )
    return cases


def neftune():
    cases = []
    for alpha, batch, length, width in [(5.0, 2, 32, 64), (15.0, 1, 128, 48)]:
        embedding = torch.nn.Embedding(10, width)
        embedding.neftune_noise_alpha = alpha
        embedding.register_forward_hook(neftune_post_forward_hook)
        ids = torch.zeros(batch, length, dtype=torch.long)
        embedding.train()
        noise = embedding(ids) - embedding.weight[0]
        cases.append(
            {
                "alpha": alpha,
                "batch": batch,
                "length": length,
                "width": width,
                "bound": alpha / math.sqrt(length * width),
                "largest": noise.abs().max().item(),
                "deviation": noise.std().item(),
            }
        )
    return cases


def adapted(**options):
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, attention_bias=True,
    )
    lora = LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], **options)
    return get_peft_model(LlamaForCausalLM(config), lora)


def on_disk(name):
    """Returns the name in adapter_model.safetensors, which does not contain the adapter's name."""
    name = name.replace(".modules_to_save.default", "").replace(".default", "")
    return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name


def groups():
    ratio = 16.0
    model = adapted(use_dora=True, bias="lora_only", modules_to_save=["lm_head", "norm"])
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=ratio)
    rate = {id(p): group["lr"] / 1e-3 for group in optimizer.param_groups for p in group["params"]}
    args = TrainingArguments(output_dir="/tmp/unused", use_cpu=True, report_to=[])
    decay = set(Trainer(model=model, args=args).get_decay_parameter_names(model))
    return {
        "ratio": ratio,
        "tensors": [
            {"name": on_disk(name), "shape": list(p.shape), "rate": rate[id(p)], "decay": name in decay}
            for name, p in sorted(model.named_parameters())
            if p.requires_grad
        ],
    }


def lora_plus():
    model = adapted()
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=1e-2, loraplus_lr_ratio=4.0, loraplus_weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8,
    )
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    trained.sort(key=lambda pair: on_disk(pair[0]))
    tensors = [
        {"name": on_disk(name), "shape": list(p.shape), "before": p.detach().flatten().tolist(), "gradients": []}
        for name, p in trained
    ]
    for _ in range(3):
        for tensor, (_, p) in zip(tensors, trained):
            p.grad = torch.randn_like(p)
            tensor["gradients"].append(p.grad.flatten().tolist())
        optimizer.step()
    for tensor, (_, p) in zip(tensors, trained):
        tensor["after"] = p.detach().flatten().tolist()
    settings = {"learningRate": 1e-2, "loraPlusRatio": 4.0, "weightDecay": 0.1, "betas": [0.9, 0.95], "epsilon": 1e-8}
    return {"settings": settings, "tensors": tensors}


found = {
    "versions": {name: __import__(name).__version__ for name in ("torch", "transformers", "peft")},
    "schedules": schedules(),
    "warmup": warmup(),
    "labelSmoothing": label_smoothing(),
    "neftune": neftune(),
    "groups": groups(),
    "loraPlus": lora_plus(),
}
Path(sys.argv[1], "training.json").write_text(json.dumps(found, indent=1) + "\n")
