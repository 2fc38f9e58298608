import { describe, expect, it } from 'vitest';
import type { EngineName } from '../../../lora/engines/names.ts';
import { memoryOfTrainers } from '../../../lora/train/trainers.ts';

const one = { runtime: 1, weights: 100, activations: 1000, adapter: 10, total: 1111 };
const together = (engines: EngineName[], baseBits: 32 | 8 = 32) =>
  memoryOfTrainers(
    one,
    engines.map((engine) => ({ engine })),
    baseBits,
  );

describe('the memory of all trainers together', () => {
  it('is that of the trainer where there is one', () => {
    for (const engine of ['onnx-cpu', 'onnx-cuda', 'tfjs'] as const) expect(together([engine])).toEqual(one);
  });

  it('on the processor is a process, an adapter and activations for each, and one mapped base', () => {
    const expected = { runtime: 3, weights: 100, activations: 3000, adapter: 30, total: 3133 };
    expect(together(['onnx-cpu', 'onnx-cpu', 'onnx-cpu'])).toEqual(expected);
    // Packed, the base is each process's own.
    expect(together(['onnx-cpu', 'onnx-cpu'], 8).weights).toBe(200);
  });

  it('has no activations of a GPU beside a processor, as they are in its own memory', () => {
    const expected = { runtime: 2, weights: 100, activations: 1000, adapter: 20, total: 1122 };
    expect(together(['onnx-cuda', 'onnx-cpu'])).toEqual(expected);
    expect(together(['onnx-cuda', 'onnx-cpu', 'onnx-cpu']).activations).toBe(2000);
    // How much GPUs have is not known: what is told of them is what one needs.
    expect(together(['onnx-cuda', 'onnx-cuda']).activations).toBe(1000);
    expect(together(['onnx-cpu', 'tfjs']).weights).toBe(200);
  });
});
