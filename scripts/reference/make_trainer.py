"""Makes a reference training run with transformers' Trainer: python make_trainer.py test/fixtures

Trains the adapter of test/fixtures/llama-tiny-untied on its base for six steps. A step accumulates gradients over two
micro-batches of two rows. Rows differ in length. The run uses a linear schedule, weight decay, label smoothing and
clipped gradients. Writes <folder>/trainer.json (settings, rows, and the log of each step) and
<folder>/trainer.safetensors (the trained adapter).
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

torch.manual_seed(0)
torch.set_num_threads(1)

folder = Path(sys.argv[1])
BASE = folder / "llama-tiny-untied"
LENGTH = 24
ROWS = 24
IGNORED = -100

base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
model = PeftModel.from_pretrained(base, BASE / "adapter", is_trainable=True)
vocabulary = base.config.vocab_size

rows = []
for index in range(ROWS):
    # From nearly empty to full rows, with prompts that are not supervised.
    length = 4 + (7 * index) % (LENGTH - 4)
    tokens = torch.randint(0, vocabulary, (length,)).tolist()
    prompt = index % 3
    labels = [IGNORED] * prompt + tokens[prompt:]
    rows.append({"tokens": tokens, "labels": labels})


def padded(row):
    missing = LENGTH - len(row["tokens"])
    return {
        "input_ids": torch.tensor(row["tokens"] + [0] * missing),
        "attention_mask": torch.tensor([1] * len(row["tokens"]) + [0] * missing),
        "labels": torch.tensor(row["labels"] + [IGNORED] * missing),
    }


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


settings = {
    "learningRate": 5e-3,
    "schedule": "linear",
    "finalFraction": 0,
    "warmupSteps": 0,
    "betas": [0.9, 0.95],
    "epsilon": 1e-8,
    "weightDecay": 0.1,
    "labelSmoothing": 0.1,
    "clipNorm": 0.5,
    "batchSize": 4,
    "microBatch": 2,
    "sequenceLength": LENGTH,
    "totalSteps": ROWS // 4,
}
logged = []


class Keep(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            logged.append({key: float(logs[key]) for key in ("loss", "grad_norm", "learning_rate")})


trainer = InOrder(
    model=model,
    args=TrainingArguments(
        output_dir="/tmp/unused",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        num_train_epochs=1,
        per_device_train_batch_size=settings["microBatch"],
        gradient_accumulation_steps=settings["batchSize"] // settings["microBatch"],
        learning_rate=settings["learningRate"],
        lr_scheduler_type="linear",
        warmup_steps=0,
        adam_beta1=settings["betas"][0],
        adam_beta2=settings["betas"][1],
        adam_epsilon=settings["epsilon"],
        weight_decay=settings["weightDecay"],
        label_smoothing_factor=settings["labelSmoothing"],
        max_grad_norm=settings["clipNorm"],
        gradient_checkpointing=False,
    ),
    train_dataset=[padded(row) for row in rows],
    callbacks=[Keep()],
)
trainer.train()

tensors = {
    name.replace(".default", ""): p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad
}
save_file(tensors, folder / "trainer.safetensors", metadata={"format": "pt"})
found = {"settings": settings, "rows": rows, "steps": logged}
(folder / "trainer.json").write_text(json.dumps(found) + "\n")
print(len(tensors), logged)
