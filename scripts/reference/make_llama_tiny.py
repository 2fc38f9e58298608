"""Tiny random Llamas with reference values from transformers + PEFT, for the tests of lora/models and lora/train.

Usage: python make_llama_tiny.py OUTPUT_DIR     (versions: requirements.txt; runs on the CPU in float32)

For each variant OUTPUT_DIR/llama-tiny-NAME holds a Hugging Face model folder, `adapter/` as PEFT saves it, and
  reference.json         rows (ids, segments, labels: already shifted, -100 = not trained), settings, losses
  reference.safetensors  CASE.logits [B*T, V], CASE.gradients.TENSOR, CASE.trained.TENSOR for the cases
                         'plain' and 'packed'; for the tied variant also plain.full.TENSOR, the gradients of
                         all parameters of the base without an adapter
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BATCH, LENGTH = 2, 24
LORA = dict(r=4, lora_alpha=12)
STEPS = 3
ADAMW = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
CLIP_NORM = 1.0

LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)

VARIANTS = {
    # head_dim = hidden / heads, plain positions, every linear module adapted.
    "tied": dict(
        config=dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
        targets="all-linear",
        dtype=torch.float32,
        shard="5GB",
    ),
    # head_dim of its own, stretched positions, some modules adapted, 16-bit weights in several shards.
    "untied": dict(
        config=dict(
            hidden_size=24,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=8,
            tie_word_embeddings=False,
            rope_parameters=LLAMA3,
        ),
        targets=["q_proj", "v_proj", "down_proj"],
        dtype=torch.bfloat16,
        shard="20KB",
    ),
}

TARGETS = [
    "all-linear",
    "All-Linear",
    ["q_proj"],
    ["q_proj", "lm_head"],
    ["self_attn.q_proj", "1.mlp.up_proj"],
    ["model.layers.0.self_attn.o_proj", "k_proj", "c_attn"],
    ["layers.1.self_attn.v_proj"],
    "lm_head",
    r".*\.(q|v)_proj",
    r"model\.layers\.[1-9]\.mlp\.(gate|up|down)_proj",
    r".*layers.0.*_proj",
    r"(?P<start>.*)\.self_attn\.[kv]_proj",
]

# Where the packed rows' documents begin.
SEGMENT_STARTS = [[0, 5, 16], [0, 11]]


def main(out: Path) -> None:
    torch.manual_seed(7)
    torch.set_num_threads(1)
    for name, variant in VARIANTS.items():
        make_variant(out / f"llama-tiny-{name}", **variant)
    make_rope(out / "rope-llama3.json")
    make_targets(out / "peft-targets.json", out / "llama-tiny-untied")


def make_variant(folder: Path, config, targets, dtype, shard) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = save_tokenizer(folder)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            intermediate_size=40,
            num_hidden_layers=2,
            max_position_embeddings=64,
            rms_norm_eps=1e-5,
            bos_token_id=0,
            eos_token_id=1,
            **config,
        )
    )
    with torch.no_grad():
        # Larger than the usual start, so that attention is far from uniform and errors show.
        for tensor in base.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.15)
    base.to(dtype).save_pretrained(folder, max_shard_size=shard)
    # Read back: the cast above also rounds the rotary frequencies, which a loaded model keeps in float32.
    base = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")

    reference = {"rows": make_rows(vocabulary), "losses": {}, "settings": settings()}
    tensors = {}
    if dtype == torch.float32:
        rows = reference["rows"]["plain"]
        _, loss = forward(base, rows)
        loss.backward()
        for name, tensor in base.named_parameters():
            tensors[f"plain.full.{name}"] = tensor.grad.clone()
            tensor.grad = None

    model = get_peft_model(base, LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **LORA))
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    with torch.no_grad():
        for name, tensor in trained:
            if "lora_B" in name:
                tensor.normal_(0, 0.2)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    start = [tensor.detach().clone() for _, tensor in trained]

    for case, rows in reference["rows"].items():
        logits, loss = forward(model, rows)
        tensors[f"{case}.logits"] = logits.detach()
        loss.backward()
        for name, tensor in trained:
            tensors[f"{case}.gradients.{on_disk(name)}"] = tensor.grad.clone()
        reference["losses"][case] = train(model, [tensor for _, tensor in trained], rows)
        for (name, tensor), value in zip(trained, start):
            tensors[f"{case}.trained.{on_disk(name)}"] = tensor.detach().clone()
            tensor.data.copy_(value)
    check_packing(model, reference["rows"]["packed"], tensors["packed.logits"])

    save_file(tensors, folder / "reference.safetensors", metadata={"format": "pt"})
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


def settings():
    return {**LORA, **ADAMW, "clipNorm": CLIP_NORM, "steps": STEPS, "batch": BATCH, "length": LENGTH}


def on_disk(name: str) -> str:
    return name.replace(".default.", ".")


def make_rows(vocabulary: int):
    cases = {}
    for case, starts in (("plain", [[0], [0]]), ("packed", SEGMENT_STARTS)):
        rows = []
        for row_starts in starts:
            ids = torch.randint(0, vocabulary, (LENGTH,)).tolist()
            segments = [sum(t >= start for start in row_starts) for t in range(LENGTH)]
            # A document's last token predicts nothing, and a few others are masked as prompts would be.
            ends = {start - 1 for start in row_starts} | {LENGTH - 1}
            labels = [-100 if t in ends or t % 7 == 3 else ids[t + 1] for t in range(LENGTH)]
            rows.append({"ids": ids, "segments": segments, "labels": labels})
        cases[case] = rows
    return cases


def forward(model, rows):
    ids = torch.tensor([row["ids"] for row in rows])
    segments = torch.tensor([row["segments"] for row in rows])
    labels = torch.tensor([row["labels"] for row in rows]).reshape(-1)
    positions = torch.zeros_like(ids)
    for t in range(1, LENGTH):
        positions[:, t] = torch.where(segments[:, t] == segments[:, t - 1], positions[:, t - 1] + 1, 0)
    visible = (segments[:, :, None] == segments[:, None, :]) & torch.ones(LENGTH, LENGTH).tril().bool()
    mask = torch.where(visible[:, None], 0.0, torch.finfo(torch.float32).min)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    logits = logits.reshape(BATCH * LENGTH, -1)
    return logits, torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)


def train(model, parameters, rows):
    optimizer = torch.optim.AdamW(parameters, **ADAMW)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        _, loss = forward(model, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        losses.append(loss.item())
    optimizer.zero_grad()
    return losses


def check_packing(model, rows, logits) -> None:
    """The packed logits are those of each document alone, without any mask or positions given."""
    for r, row in enumerate(rows):
        starts = SEGMENT_STARTS[r] + [LENGTH]
        for start, end in zip(starts, starts[1:]):
            alone = model(input_ids=torch.tensor([row["ids"][start:end]]), use_cache=False).logits[0]
            packed = logits[r * LENGTH + start : r * LENGTH + end]
            assert (alone - packed).abs().max() < 1e-5, (r, start)


def save_tokenizer(folder: Path) -> int:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=272,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the ship and the sea and the whale in the water"] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return tokenizer.get_vocab_size()


def make_rope(path: Path) -> None:
    """Rotary frequencies of Llama 3.2 1B as transformers computes them."""
    config = LlamaConfig(
        hidden_size=2048,
        num_attention_heads=32,
        head_dim=64,
        max_position_embeddings=131072,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=500000.0,
            factor=32.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    )
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    path.write_text(
        json.dumps({"headDim": 64, "rope": config.rope_parameters, "frequencies": frequencies.tolist()}) + "\n"
    )


def make_targets(path: Path, folder: Path) -> None:
    """Which modules PEFT adapts for a given `target_modules`."""
    cases = []
    for targets in TARGETS:
        base = LlamaForCausalLM.from_pretrained(folder)
        model = get_peft_model(base, LoraConfig(target_modules=targets, task_type="CAUSAL_LM", r=1))
        cases.append({"targets": targets, "modules": sorted(model.targeted_module_names)})
    path.write_text(json.dumps({"model": folder.name, "cases": cases}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
