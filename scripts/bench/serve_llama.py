"""llama.cpp as a contestant of the bench `serve`: one JSON command per line of input, one JSON answer per line of output.

Usage: python serve_llama.py MODEL.gguf TYPE THREADS ROWS      (xllamacpp 2026.10.11549, gguf 0.19.0)

MODEL.gguf is in float32. TYPE is F32, Q8_0 or Q4_0. Before the first command, the matrices are rounded to TYPE. With Q4_0,
the embedding and the head are rounded to Q8_0 instead. The command {"requests": [[ids], ...], "tokens": n} continues all
prompts at the same time, each by n tokens. Its answer is {"ms": wall time, "memory": resident bytes}.
"""

import json
import os
import sys
import threading
import time

import gguf
import numpy as np
import xllamacpp


def rounded(path: str, name: str) -> str:
    if name == "F32":
        return path
    kind = gguf.GGMLQuantizationType[name]
    reader = gguf.GGUFReader(path)
    target = f"{path}.{name}"
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if is_array else None)
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        if data.ndim < 2:
            writer.add_tensor(tensor.name, data)
            continue
        is_table = tensor.name.startswith(("token_embd", "output"))
        own = gguf.GGMLQuantizationType.Q8_0 if is_table else kind
        writer.add_tensor(tensor.name, gguf.quants.quantize(data, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(path: str, name: str, threads: int, rows: int) -> None:
    # llama.cpp writes to standard output, which carries the answers here.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    params = xllamacpp.CommonParams()
    params.model.path = rounded(path, name)
    params.n_parallel = rows
    params.n_ctx = 1024 * rows
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)

    def complete(prompt, tokens):
        server.handle_completions(
            {"prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False, "ignore_eos": True}
        )

    for line in sys.stdin:
        command = json.loads(line)
        start = time.perf_counter()
        work = [threading.Thread(target=complete, args=(ids, command["tokens"])) for ids in command["requests"]]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        elapsed = 1000 * (time.perf_counter() - start)
        print(json.dumps({"ms": elapsed, "memory": memory()}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
