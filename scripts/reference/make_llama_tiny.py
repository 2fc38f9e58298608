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
from common import (
    adapted_reference,
    adapter_parameters,
    block_mask,
    check_packing,
    disturb,
    loss_of,
    packed_logits,
    random_rows,
    settings,
)
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BATCH, LENGTH = 2, 24
LORA = dict(r=4, lora_alpha=12)

LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)

# The scaling of Llama 3.2, and of Qwen 2.5 beyond its original context.
LLAMA_32_ROPE = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=32.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)
QWEN_25_ROPE = dict(rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=32768)

VARIANTS = {
    # head_dim = hidden / heads, unscaled positions, every linear module adapted.
    "tied": dict(
        config=dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
        targets="all-linear",
        dtype=torch.float32,
        shard="5GB",
    ),
    # head_dim from the config, scaled positions, some modules adapted, 16-bit weights in several shards.
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

# Starts of the documents in each row.
CASES = {"plain": [[0], [0]], "packed": [[0, 5, 16], [0, 11]]}


def main(out: Path) -> None:
    torch.manual_seed(7)
    torch.set_num_threads(1)
    for name, variant in VARIANTS.items():
        make_variant(out / f"llama-tiny-{name}", **variant)
    make_rope(out / "rope-llama3.json", **LLAMA_32_ROPE)
    make_rope(out / "rope-yarn.json", **QWEN_25_ROPE)
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
    disturb(base)
    base.to(dtype).save_pretrained(folder, max_shard_size=shard)
    # Reloaded, because the cast above also rounded the rotary frequencies, which a loaded model keeps in float32.
    base = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")

    cases = {case: random_rows(vocabulary, LENGTH, starts) for case, starts in CASES.items()}
    tensors, losses = {}, {}
    if dtype == torch.float32:
        loss_of(packed_logits(base, cases["plain"], block_mask(cases["plain"])), cases["plain"]).backward()
        for name, tensor in base.named_parameters():
            tensors[f"plain.full.{name}"] = tensor.grad.clone()
            tensor.grad = None

    model = get_peft_model(base, LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **LORA))
    trained = adapter_parameters(model)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    for case, rows in cases.items():
        adapted_reference(
            tensors, losses, case, trained, lambda: packed_logits(model, rows, block_mask(rows)), rows
        )
    check_packing(model, cases["packed"], CASES["packed"], tensors["packed.logits"])

    save_file(tensors, folder / "reference.safetensors", metadata={"format": "pt"})
    reference = {"rows": cases, "losses": losses, "settings": settings(BATCH, LENGTH, LORA)}
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


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


def make_rope(path: Path, **parameters) -> None:
    """Writes the rotary frequencies and the factor of cos and sin that transformers computes."""
    config = LlamaConfig(
        hidden_size=2048,
        num_attention_heads=32,
        head_dim=64,
        max_position_embeddings=131072,
        rope_parameters=parameters,
    )
    frequencies, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, device="cpu")
    path.write_text(
        json.dumps(
            {"headDim": 64, "rope": config.rope_parameters, "factor": factor, "frequencies": frequencies.tolist()}
        )
        + "\n"
    )


def make_targets(path: Path, folder: Path) -> None:
    """Lists the modules that PEFT adapts for a given `target_modules`."""
    cases = []
    for targets in TARGETS:
        base = LlamaForCausalLM.from_pretrained(folder)
        model = get_peft_model(base, LoraConfig(target_modules=targets, task_type="CAUSAL_LM", r=1))
        cases.append({"targets": targets, "modules": sorted(model.targeted_module_names)})
    path.write_text(json.dumps({"model": folder.name, "cases": cases}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
