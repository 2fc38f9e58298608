"""Compares the GGUF files of write-gguf.ts with llama.cpp: greedy tokens, LoRA-only files, tokens of text, quantised weights.

Usage: check_gguf.py FOLDER. Needs gguf 0.19.0 and xllamacpp 2026.10.11549 (requirements.txt), and node on the PATH.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import xllamacpp as llama
from gguf import GGUFWriter, GGMLQuantizationType as Q
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

ROOT = Path(__file__).resolve().parents[2]
# Nats. llama.cpp adds in another order, which changes logits by about 1e-6, and reads GELU from a table of 16-bit floats.
TOLERANCE = 1e-3
# Nats, for the files in ROUNDS. If weights are quantised, llama.cpp rounds activations to 8 bits. If weights have 16 bits, it
# rounds activations to 16 bits.
ROUNDED = 0.2
ROUNDS = ("nano-q8_0", "nano-bf16", "quantised")


def server(path: Path, adapter: Path | None = None) -> llama.Server:
    params = llama.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.verbosity = 0
    params.warmup = False
    params.cache_type_k = llama.ggml_type.GGML_TYPE_F32
    params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter is not None:
        params.lora_adapters = [llama.CommonAdapterLoraInfo(str(adapter), 1.0)]
    return llama.Server(params)


def greedy(running, prompt, count) -> list[tuple[int, float]]:
    """Returns tokens with their log-probabilities."""
    answer = running.handle_completions(
        {"prompt": prompt, "temperature": 0, "n_predict": count, "n_probs": 1, "cache_prompt": False}
    )
    answer = json.loads(answer) if isinstance(answer, str) else answer
    return [(item["id"], item["logprob"]) for item in answer["choices"][0]["logprobs"]["content"]]


def check(name: str, found, expected, tolerance=TOLERANCE) -> bool:
    count = expected["compared"]
    tokens = [token for token, _ in found][:count]
    same = tokens == expected["ids"][:count]
    print(f"{name:40} {count:3} greedy tokens {'equal' if same else f'DIFFER: {tokens} {expected}'}", end="")
    difference = max(abs(a[1] - b) for a, b in zip(found[:count], expected["logProbabilities"]))
    print(f", {difference:.1e} nats")
    return same and difference < tolerance


def check_family(folder: Path) -> bool:
    expected = json.loads((folder / "expected.json").read_text())
    of = lambda running, case: greedy(running, expected[case]["prompt"], expected[case]["compared"])  # noqa: E731
    base = of(server(folder / "base.gguf"), "base")
    merged = of(server(folder / "merged.gguf"), "merged")
    alone = of(server(folder / "base.gguf", folder / "adapter.gguf"), "merged")
    good = check(f"{folder.name} base", base, expected["base"])
    good &= check(f"{folder.name} merged", merged, expected["merged"])
    good &= check(f"{folder.name} base and adapter", alone, expected["merged"])
    difference = max(abs(a[1] - b[1]) for a, b in zip(merged, alone))
    print(f"{folder.name:40} adapter alone against merged: {difference:.1e} nats")
    return good and difference < TOLERANCE


def write_quantised(folder: Path) -> None:
    """Writes a tiny Llama whose matrices have every quantised type, and a twin with the same weights as F32."""
    random = np.random.default_rng(7)
    hidden, inner, layers, heads = 256, 512, 4, 4
    kinds = [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K]
    halves = {Q.Q4_1: 2, Q.Q5_1: 2, Q.Q4_K: 2, Q.Q5_K: 2}
    characters = [chr(97 + i) for i in range(26)] + ["Ġ", "</s>"] + [chr(65 + i) for i in range(26)] + list(".,;:!?-") + ["th"]
    writers = [GGUFWriter(folder / name, "llama") for name in ("quantised.gguf", "dequantised.gguf")]

    def matrix(name, rows, columns, kind):
        weights, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (rows, columns // weights, size), dtype=np.uint8)
        # Scales that give weights of about 1 / sqrt(columns).
        usual = {Q.Q4_K: 2e-4, Q.Q5_K: 1e-4, Q.Q6_K: 3e-5}.get(kind, 3 / 2 ** (4 if "4" in kind.name else 7) / 16)
        for at in [208] if kind == Q.Q6_K else [0]:
            scale = (usual * random.uniform(0.5, 1.5, blocks.shape[:2])).astype(np.float16)
            blocks[:, :, at : at + 2] = scale.view(np.uint8).reshape(*blocks.shape[:2], 2)
            if kind in halves:
                middle = -8 if kind in (Q.Q4_1,) else -16 if kind == Q.Q5_1 else 8 if kind == Q.Q4_K else 16
                least = (scale.astype(np.float32) * middle).astype(np.float16)
                blocks[:, :, 2:4] = least.view(np.uint8).reshape(*blocks.shape[:2], 2)
        data = blocks.reshape(rows, -1)
        writers[0].add_tensor(name, data, raw_dtype=kind)
        writers[1].add_tensor(name, dequantize(data, kind))

    def vector(name, size):
        for writer in writers:
            writer.add_tensor(name, np.ones(size, dtype=np.float32))

    for writer in writers:
        writer.add_context_length(256)
        writer.add_embedding_length(hidden)
        writer.add_block_count(layers)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(heads)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(hidden // heads)
        writer.add_rope_freq_base(10000.0)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(characters)
        writer.add_token_types([3 if token == "</s>" else 1 for token in characters])
        writer.add_token_merges(["t h"])
        writer.add_eos_token_id(characters.index("</s>"))
    number = iter(range(1000))
    kind = lambda: kinds[next(number) % len(kinds)]  # noqa: E731
    matrix("token_embd.weight", len(characters), hidden, Q.Q8_0)
    vector("output_norm.weight", hidden)
    matrix("output.weight", len(characters), hidden, Q.Q6_K)
    for layer in range(layers):
        vector(f"blk.{layer}.attn_norm.weight", hidden)
        matrix(f"blk.{layer}.attn_q.weight", hidden, hidden, kind())
        matrix(f"blk.{layer}.attn_k.weight", hidden // 2, hidden, kind())
        matrix(f"blk.{layer}.attn_v.weight", hidden // 2, hidden, kind())
        matrix(f"blk.{layer}.attn_output.weight", hidden, hidden, kind())
        vector(f"blk.{layer}.ffn_norm.weight", hidden)
        matrix(f"blk.{layer}.ffn_gate.weight", inner, hidden, kind())
        matrix(f"blk.{layer}.ffn_up.weight", inner, hidden, kind())
        matrix(f"blk.{layer}.ffn_down.weight", hidden, inner, kind())
    for writer in writers:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def check_tokens(path: Path, expected) -> bool:
    """Compares the tokens of texts, without special tokens around them."""
    running = server(path)
    different = []
    for text, ids in zip(expected["texts"], expected["ids"]):
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(
            f"{running.listening_address}/tokenize", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            found = json.loads(answer.read())["tokens"]
        if found != ids:
            different.append((text, found, ids))
    print(f"{path.stem:40} {len(expected['texts'])} texts, {len(different)} with other tokens ({expected['omitted']} known)")
    for text, found, ids in different[:3]:
        print("   ", repr(text)[:70], found[:12], ids[:12])
    return not different


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_quantised(folder)
    subprocess.run(["node", ROOT / "scripts/reference/write-gguf.ts", folder], check=True)
    good = True
    for path in sorted(folder.glob("*/expected.json")):
        good &= check_family(path.parent)
    for path in sorted(folder.glob("*.json")):
        expected = json.loads(path.read_text())
        file = folder / f"{path.stem}.gguf"
        found = greedy(server(file), expected["prompt"], expected["compared"])
        good &= check(path.stem, found, expected, ROUNDED if path.stem in ROUNDS else TOLERANCE)
    for path in sorted(folder.glob("tokenizers/*.json")):
        expected = json.loads(path.read_text())
        good &= check_tokens(path.with_suffix(".gguf"), expected)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
