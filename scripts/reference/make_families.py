"""Tiny random models of every family with reference values from transformers + PEFT, for the tests of lora/models.

Usage: python make_families.py OUTPUT_DIR     (versions: requirements.txt; runs on the CPU in float32)

For each variant OUTPUT_DIR/NAME holds a Hugging Face model folder, `adapter/` as PEFT saves it (all linear modules), and
  reference.json         rows (ids, segments, labels: already shifted, -100 = not trained), settings, losses
  reference.safetensors  CASE.logits [B*T, V], CASE.gradients.TENSOR, CASE.trained.TENSOR for the cases 'padded' (a row
                         padded on the right, masked by transformers itself) and 'packed' (several documents in a
                         row); full.TENSOR, the gradients of all parameters of the base over the padded rows
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import torch
from common import (
    adapted_reference,
    adapter_parameters,
    block_mask,
    check_packing,
    column,
    disturb,
    loss_of,
    packed_logits,
    random_rows,
    settings,
)
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 47
LENGTH = 23
# Starts of the documents in each packed row, and the length of the second padded row.
STARTS = [[0, 5, 16], [0, 11]]
PADDED_FROM = 15
LORA = dict(r=2, lora_alpha=6)

SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=None,
    bos_token_id=0,
    eos_token_id=1,
)
GPT2_SIZES = dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=1)

YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16)
GEMMA_ROPE = dict(
    full_attention=dict(rope_type="linear", rope_theta=1e4, factor=8.0),
    sliding_attention=dict(rope_type="default", rope_theta=1e2),
)

# `window`: attention window in tokens, of the layers that have one. `masks`: whether the model expects one mask per layer type.
VARIANTS = {
    "llama-biases": dict(
        type="llama",
        config=dict(
            attention_bias=True,
            mlp_bias=True,
            rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=2.0),
            tie_word_embeddings=False,
        ),
    ),
    "mistral": dict(
        type="mistral", window=6, config=dict(sliding_window=6, head_dim=6, rms_norm_eps=1e-5, tie_word_embeddings=False)
    ),
    "mistral-tied": dict(
        type="mistral",
        config=dict(sliding_window=None, num_attention_heads=3, num_key_value_heads=1, head_dim=4, tie_word_embeddings=True),
    ),
    "qwen2": dict(
        type="qwen2",
        window=5,
        masks=True,
        config=dict(use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=False),
    ),
    "qwen2-tied": dict(type="qwen2", masks=True, config=dict(rope_parameters=YARN, tie_word_embeddings=True)),
    "qwen3": dict(type="qwen3", masks=True, config=dict(head_dim=6, attention_bias=True, tie_word_embeddings=False)),
    "qwen3-tied": dict(
        type="qwen3",
        window=4,
        masks=True,
        config=dict(
            head_dim=8,
            use_sliding_window=True,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
            tie_word_embeddings=True,
        ),
    ),
    "gemma3": dict(
        type="gemma3_text",
        window=5,
        masks=True,
        config=dict(
            num_hidden_layers=3,
            head_dim=6,
            sliding_window=5,
            sliding_window_pattern=2,
            query_pre_attn_scalar=9,
            rope_parameters=GEMMA_ROPE,
            tie_word_embeddings=True,
        ),
    ),
    "gemma3-untied": dict(
        type="gemma3_text",
        window=7,
        masks=True,
        config=dict(
            head_dim=8,
            sliding_window=7,
            layer_types=["full_attention", "sliding_attention"],
            attention_bias=True,
            tie_word_embeddings=False,
        ),
    ),
    "gpt2": dict(type="gpt2", bare=True, config=dict()),
    "gpt2-untied": dict(
        type="gpt2",
        config=dict(n_inner=18, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False),
    ),
}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    # PEFT warns that it sets fan_in_fan_out for Conv1D.
    warnings.filterwarnings("ignore", message="fan_in_fan_out")
    for index, (name, variant) in enumerate(VARIANTS.items()):
        torch.manual_seed(100 + index)
        make_variant(out / name, **variant)


def make_variant(folder: Path, type: str, config: dict, window=None, masks=False, bare=False) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    Tokenizer(models.WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0")).save(str(folder / "tokenizer.json"))
    sizes = GPT2_SIZES if type == "gpt2" else SIZES
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(type, **{**sizes, **config}))
    disturb(base)
    base.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if bare:
        write_as_openai_did(folder / "model.safetensors")

    padded = padded_rows()
    packed = random_rows(VOCABULARY, LENGTH, STARTS)
    tensors, losses = {}, {}
    loss_of(padded_logits(base, padded), padded).backward()
    for name, tensor in base.named_parameters():
        tensors[f"full.{name}"] = tensor.grad.clone()
        tensor.grad = None

    lora = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=type == "gpt2", **LORA)
    model = get_peft_model(base, lora)
    trained = adapter_parameters(model)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    named_after_folder(folder / "adapter" / "adapter_config.json", folder.name)

    mask = block_mask(packed, None if masks else window)
    if masks:
        mask = {"full_attention": mask, "sliding_attention": block_mask(packed, window)}
    adapted_reference(tensors, losses, "padded", trained, lambda: padded_logits(model, padded), padded)
    adapted_reference(tensors, losses, "packed", trained, lambda: packed_logits(model, packed, mask), packed)
    check_packing(model, packed, STARTS, tensors["packed.logits"])

    save_file(tensors, folder / "reference.safetensors", metadata={"format": "pt"})
    cases = {"padded": padded, "packed": packed}
    reference = {"rows": cases, "losses": losses, "settings": settings(len(STARTS), LENGTH, LORA)}
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


def padded_rows():
    """Two documents, the second shorter than its row; segment 0 is padding."""
    rows = random_rows(VOCABULARY, LENGTH, [[0], [0]])
    short = rows[1]
    for t in range(PADDED_FROM, LENGTH):
        short["ids"][t] = 0
        short["segments"][t] = 0
    for t in range(PADDED_FROM - 1, LENGTH):
        short["labels"][t] = -100
    return rows


def padded_logits(model, rows) -> torch.Tensor:
    mask = (column(rows, "segments") != 0).long()
    return model(input_ids=column(rows, "ids"), attention_mask=mask, use_cache=False).logits.flatten(0, 1)


def write_as_openai_did(path: Path) -> None:
    """Removes `transformer.` from the names and adds causal masks, as in OpenAI's file."""
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    size = GPT2_SIZES["n_positions"]
    for layer in range(GPT2_SIZES["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(size, size, dtype=torch.uint8).tril()[None, None]
    save_file(tensors, path, metadata={"format": "pt"})


def named_after_folder(path: Path, name: str) -> None:
    """Removes the local path from the config."""
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = name
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
