import { describe, expect, test } from 'vitest';
import { SwarmError } from '../../../../../common/errors.ts';
import type { EngineName } from '../../../../../lora/engines/names.ts';
import { type Compute, processorCompute } from '../../../../../lora/train/compute.ts';
import { fallbackFor, type Workload } from '../../../../../lora/train/devices/fallback.ts';

const died = (signal: string | null, code: number | null = null) =>
  new SwarmError('TRAINER_DIED', `the trainer process was killed by ${signal}`, { signal, code });
const failed = (message: string) => new SwarmError('ENGINE_RUN', message, {});

const asked = (change: Partial<Compute> = {}, microBatch = 8) => ({
  compute: { ...processorCompute(), devices: 'auto' as const, checkpointing: 'auto' as const, ...change },
  microBatch,
});

/** Returns the workload of a run on one device. */
const load = (engine: EngineName, microBatch: number, checkpointing = true): Workload => ({
  compute: processorCompute({ devices: [{ engine }], checkpointing }),
  microBatch,
});

describe('after a device failed, a trainer restarts', () => {
  test.each<[string, unknown, Workload, Workload | null]>([
    [
      'with half the rows, where the system killed it for memory',
      died('SIGKILL'),
      load('onnx-cpu', 8),
      load('onnx-cpu', 4),
    ],
    ['with half of an odd number, rounded down', died('SIGABRT'), load('onnx-cpu', 3), load('onnx-cpu', 1)],
    [
      'with half the rows, where a GPU ran out of memory',
      failed('out of memory'),
      load('onnx-cuda', 2),
      load('onnx-cuda', 1),
    ],
    [
      'with half the rows, where a tensor is too large for WebGPU',
      failed('Too many storage buffers in shader. Current: 24, Max is 16'),
      load('onnx-webgpu', 4),
      load('onnx-webgpu', 2),
    ],
    [
      'with half the rows, where an allocation failed',
      failed('Failed to allocate memory for requested buffer of size 9'),
      load('onnx-cpu', 2),
      load('onnx-cpu', 1),
    ],
    [
      'on the processor, where a single row is too much',
      failed('std::bad_alloc'),
      load('onnx-cuda', 1),
      load('onnx-cpu', 8),
    ],
    [
      'on the processor, where the device is lost',
      failed('Device is lost'),
      load('onnx-webgpu', 8),
      load('onnx-cpu', 8),
    ],
    [
      'on the processor, where a driver crashed',
      died('SIGSEGV'),
      load('onnx-webgpu', 8),
      load('onnx-cpu', 8),
    ],
    ['unchanged, where nothing lighter is left', died('SIGKILL'), load('onnx-cpu', 1), null],
    ['unchanged, after a crash of the processor engine', died('SIGSEGV'), load('onnx-cpu', 8), null],
    [
      'unchanged, after an error in the data',
      new SwarmError('DATA_TOKEN', 'no such token', {}),
      load('onnx-webgpu', 8),
      null,
    ],
    ['unchanged, after any other error', new Error('out of memory'), load('onnx-webgpu', 8), null],
    [
      'with the same settings, where its process cannot create more tensors',
      new SwarmError('ENGINE_EXHAUSTED', 'tfjs has created 9 tensors in this process', {}),
      load('tfjs', 8),
      load('tfjs', 8),
    ],
  ])('%s', (_, error, now, expected) => {
    const found = fallbackFor(asked(), now, error);
    if (expected === null) expect(found).toBeNull();
    else expect(found).toMatchObject(expected);
  });

  test('and names the failure and the new settings', () => {
    const { reason } = fallbackFor(asked(), load('onnx-cuda', 4), failed('out of memory'))!;
    for (const fact of ['4 rows', 'onnx-cuda', 'out of memory', '2 rows']) expect(reason).toContain(fact);
  });

  describe('with gradient checkpointing first', () => {
    const without = load('onnx-cpu', 4, false);

    test('if memory ran out without it, with the same micro-batch', () => {
      const first = fallbackFor(asked(), without, died('SIGKILL'))!;
      expect(first).toMatchObject(load('onnx-cpu', 4));
      expect(first.reason).toContain('gradient checkpointing');
      expect(fallbackFor(asked(), first, died('SIGKILL'))).toMatchObject(load('onnx-cpu', 2));
    });

    test('also with a micro-batch of one row, before another engine', () => {
      const one = load('onnx-cuda', 1, false);
      expect(fallbackFor(asked(), one, failed('out of memory'))).toMatchObject(load('onnx-cuda', 1));
    });

    test('but not if the user turned it off, or after another fault', () => {
      const never = asked({ checkpointing: false });
      expect(fallbackFor(never, without, died('SIGKILL'))).toMatchObject(load('onnx-cpu', 2, false));
      expect(fallbackFor(asked(), without, died('SIGSEGV'))).toBeNull();
      const lost = fallbackFor(asked(), load('onnx-webgpu', 4, false), failed('Device is lost'));
      expect(lost).toMatchObject(load('onnx-cpu', 8, false));
    });
  });

  test('on the processor if the engine that auto chose is gone, but not if the user named it', () => {
    const gone = new SwarmError('ENGINE_UNAVAILABLE', 'no device', {});
    const now = load('onnx-webgpu', 8);
    expect(fallbackFor(asked(), now, gone)).toMatchObject(load('onnx-cpu', 8));
    expect(fallbackFor(asked({ devices: [{ engine: 'onnx-webgpu' }] }), now, gone)).toBeNull();
  });

  test('with all its devices, or on the processor alone and in float32', () => {
    const devices = [{ engine: 'onnx-cuda', device: 1 }, { engine: 'onnx-webgpu' }] as const;
    const compute = processorCompute({ devices, precision: 'float16', checkpointing: true, baseBits: 8 });
    const half = fallbackFor(asked(), { compute, microBatch: 4 }, failed('out of memory'))!;
    expect(half.compute).toEqual(compute);
    const lost = fallbackFor(asked(), { compute, microBatch: 4 }, failed('Device is lost'))!;
    expect(lost.compute).toEqual({
      ...compute,
      devices: [{ engine: 'onnx-cpu' }],
      precision: 'float32',
    });
  });

  test('a limited number of times', () => {
    let now: Workload | null = load('onnx-webgpu', 64, false);
    const loads: string[] = [];
    for (; now !== null && loads.length < 100; now = fallbackFor(asked({}, 64), now, died('SIGKILL'))) {
      loads.push(`${now.compute.devices[0].engine} ${now.microBatch}`);
    }
    expect(loads).toHaveLength(15);
    expect(loads.at(-1)).toBe('onnx-cpu 1');
  });
});
