"""PyTorch's contestant of the train-step benchmark: the step of train-step-worker.ts, written in plain PyTorch.

Model, LoRA, weights and tokens are the same. transformers and PEFT are not used.

Usage: python3 train_step.py fp32|bf16
Reads the setup (JSON) from the first line of standard input, then takes one step for every further line and answers
with a line of JSON: {milliseconds, cpuMilliseconds, loss, peakBytes}. A step is forward and backward; no contestant
measures the optimiser. Set OMP_WAIT_POLICY=passive in the environment: with as many threads as cores, threads that spin
between operations make PyTorch several times slower.
"""

import json
import resource
import sys
import time

import numpy
import torch
from torch.nn import functional

dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[1]]
setup = json.loads(sys.stdin.readline())
config = setup["config"]
ROWS, TOKENS, LAYERS = setup["rows"], setup["rowTokens"], config["layers"]
HEADS, KV_HEADS, WIDTH = config["heads"], config["keyValueHeads"], config["headDim"]
torch.set_num_threads(setup["threads"])


def load():
    tensors = {}
    for name, place in setup["entries"]:
        data = numpy.fromfile(setup["path"], numpy.float32, place["length"] // 4, offset=place["offset"])
        tensor = torch.from_numpy(data).reshape(place["shape"]).to(dtype)
        tensors[name] = tensor.requires_grad_("lora" in name)
    return tensors


tensors = load()
trained = [tensor for tensor in tensors.values() if tensor.requires_grad]
positions = torch.arange(TOKENS).float()
frequencies = config["rope"]["theta"] ** (-torch.arange(0, WIDTH, 2).float() / WIDTH)
angles = torch.outer(positions, frequencies).repeat(1, 2)
cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
index = torch.arange(ROWS * TOKENS)
ids = (index * 7919 % config["vocabularySize"]).view(ROWS, TOKENS)
labels = (index + 1) * 104729 % config["vocabularySize"]


def linear(name, x):
    adapter = f"base_model.model.{name}.lora_"
    low = functional.linear(x, tensors[adapter + "A.weight"])
    base = functional.linear(x, tensors[name + ".weight"], tensors.get(name + ".bias"))
    return base + functional.linear(low, tensors[adapter + "B.weight"])


def norm(name, x):
    return functional.rms_norm(x, x.shape[-1:], tensors[name + ".weight"], config["normEpsilon"])


def split(x, heads):
    return x.view(ROWS, TOKENS, heads, WIDTH).transpose(1, 2)


def rotate(x):
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat([-second, first], -1) * sine


def block(layer, x):
    name = f"model.layers.{layer}."
    h = norm(name + "input_layernorm", x)
    q = rotate(split(linear(name + "self_attn.q_proj", h), HEADS))
    k = rotate(split(linear(name + "self_attn.k_proj", h), KV_HEADS))
    v = split(linear(name + "self_attn.v_proj", h), KV_HEADS)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    x = x + linear(name + "self_attn.o_proj", mixed.transpose(1, 2).flatten(2))
    h = norm(name + "post_attention_layernorm", x)
    gate = functional.silu(linear(name + "mlp.gate_proj", h))
    return x + linear(name + "mlp.down_proj", gate * linear(name + "mlp.up_proj", h))


def loss_of_batch():
    table = tensors["model.embed_tokens.weight"]
    x = functional.embedding(ids, table)
    for layer in range(LAYERS):
        x = block(layer, x)
    logits = functional.linear(norm("model.norm", x), table)
    return functional.cross_entropy(logits.flatten(0, 1).float(), labels)


for _ in sys.stdin:
    for tensor in trained:
        tensor.grad = None
    start, cpu = time.perf_counter(), time.process_time()
    loss = loss_of_batch()
    loss.backward()
    milliseconds = (time.perf_counter() - start) * 1e3
    cpu_milliseconds = (time.process_time() - cpu) * 1e3
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    step = {"milliseconds": milliseconds, "cpuMilliseconds": cpu_milliseconds, "loss": loss.item(), "peakBytes": peak}
    print(json.dumps(step), flush=True)
