"""Writes blocks.gguf: random blocks of every quantised type, with their weights by gguf's own code.

Usage: make_gguf.py FOLDER. Needs gguf 0.19.0 and numpy 2.4.6 (requirements.txt).
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES

# Byte positions of the halves in a block: scales, and minimums.
HALVES = {
    Q.Q4_0: [0],
    Q.Q4_1: [0, 2],
    Q.Q5_0: [0],
    Q.Q5_1: [0, 2],
    Q.Q8_0: [0],
    Q.Q4_K: [0, 2],
    Q.Q5_K: [0, 2],
    Q.Q6_K: [208],
}
ROWS = 3
BLOCKS_PER_ROW = 2


def random_blocks(random, kind):
    _, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (ROWS, BLOCKS_PER_ROW, size), dtype=np.uint8)
    for at in HALVES[kind]:
        values = random.normal(0, 0.02, (ROWS, BLOCKS_PER_ROW)).astype(np.float16)
        # A subnormal scale, and a scale of zero.
        values[0, 0] = 3e-6
        values[1, 1] = 0
        blocks[:, :, at : at + 2] = values.view(np.uint8).reshape(ROWS, BLOCKS_PER_ROW, 2)
    return blocks.reshape(ROWS, -1)


def hard_weights(random):
    """Rows for Q8_0: usual weights, zeros, ties between two integers, tiny and large magnitudes."""
    rows = random.normal(0, 0.05, (6, 64)).astype(np.float32)
    rows[1] = 0
    rows[2] = (np.arange(64) - 31.5) / 127 * 4
    rows[3] *= np.float32(1e-7)
    rows[4] *= np.float32(1e4)
    rows[5, :32] = np.where(np.arange(32) % 2, -127, 126.5)
    return rows


def main(folder: Path) -> None:
    random = np.random.default_rng(12)
    writer = GGUFWriter(folder / "blocks.gguf", "llama")
    writer.add_string("test.text", "a ▁ text")
    writer.add_array("test.list", ["one", "two", ""])
    writer.add_array("test.numbers", [1.5, -2.0])
    writer.add_uint64("test.large", 2**63)
    writer.add_bool("test.flag", True)
    for kind in HALVES:
        blocks = random_blocks(random, kind)
        writer.add_tensor(f"{kind.name}.blocks", blocks, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.weights", dequantize(blocks, kind))
    for kind in [Q.F16, Q.BF16]:
        data = quantize(random.normal(0, 1, (ROWS, 8)).astype(np.float32), kind)
        writer.add_tensor(f"{kind.name}.blocks", data, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.weights", dequantize(data, kind))
    weights = hard_weights(random)
    writer.add_tensor("quantised.weights", weights)
    writer.add_tensor("quantised.blocks", quantize(weights, Q.Q8_0), raw_dtype=Q.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
