import { describe, expect, test } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import type { EngineChoice, EngineName } from '../../../../lora/engines/names.ts';
import { type Load, lighter, onlyOn } from '../../../../lora/train/fallback.ts';

const died = (signal: string | null, code: number | null = null) =>
  new SwarmError('TRAINER_DIED', `the trainer process was killed by ${signal}`, { signal, code });
const run = (message: string) => new SwarmError('ENGINE_RUN', message, {});
const asked = (engine: EngineChoice, microBatch = 8) =>
  ({ engine, microBatch, checkpointing: 'auto' }) as const;
/** With gradient checkpointing, which is tried first. */
const load = (engine: EngineName, microBatch: number): Load => ({ engine, microBatch, checkpointing: true });

describe('after a device failed, a trainer starts', () => {
  test.each<[string, unknown, Load, Load | null]>([
    [
      'with half the rows where the system took it away',
      died('SIGKILL'),
      load('onnx-cpu', 8),
      load('onnx-cpu', 4),
    ],
    ['with half of an odd number', died('SIGABRT'), load('onnx-cpu', 3), load('onnx-cpu', 1)],
    [
      'with half the rows where a GPU has no more memory',
      run('out of memory'),
      load('onnx-cuda', 2),
      load('onnx-cuda', 1),
    ],
    [
      'with half the rows where a tensor is too large for WebGPU',
      run('Too many storage buffers in shader. Current: 24, Max is 16'),
      load('onnx-webgpu', 4),
      load('onnx-webgpu', 2),
    ],
    [
      'with half the rows where an allocation failed',
      run('Failed to allocate memory for requested buffer of size 9'),
      load('onnx-cpu', 2),
      load('onnx-cpu', 1),
    ],
    [
      'on the processor where one row is too much',
      run('std::bad_alloc'),
      load('onnx-cuda', 1),
      load('onnx-cpu', 8),
    ],
    [
      'on the processor where the device is lost',
      run('Device is lost'),
      load('onnx-webgpu', 8),
      load('onnx-cpu', 8),
    ],
    ['on the processor where a driver crashed', died('SIGSEGV'), load('onnx-webgpu', 8), load('onnx-cpu', 8)],
    ['as before where nothing lighter is left', died('SIGKILL'), load('onnx-cpu', 1), null],
    ['as before after a crash of the processor engine', died('SIGSEGV'), load('onnx-cpu', 8), null],
    [
      'as before after an error of the data',
      new SwarmError('DATA_TOKEN', 'no such token', {}),
      load('onnx-webgpu', 8),
      null,
    ],
    ['as before after anything else', new Error('out of memory'), load('onnx-webgpu', 8), null],
    [
      'with the same settings where its process has created all the tensors it can',
      new SwarmError('ENGINE_EXHAUSTED', 'tfjs has created 9 tensors in this process', {}),
      load('tfjs', 8),
      load('tfjs', 8),
    ],
  ])('%s', (_, error, now, expected) => {
    const found = lighter(asked('auto'), now, error);
    if (expected === null) expect(found).toBeNull();
    else expect(found).toMatchObject(expected);
  });

  test('and says what happened, and with what it goes on', () => {
    const { because } = lighter(asked('auto'), load('onnx-cuda', 4), run('out of memory'))!;
    expect(because).toBe(
      'with 4 rows at a time on onnx-cuda: out of memory; going on with 2 at a time, in batches as before',
    );
  });

  describe('with gradient checkpointing first', () => {
    const without = { ...load('onnx-cpu', 4), checkpointing: false };

    test('where memory ran out without it: the same rows at a time, and it says so', () => {
      const less = lighter(asked('auto'), without, died('SIGKILL'))!;
      expect(less).toMatchObject({ ...without, checkpointing: true });
      expect(less.because).toContain('going on with gradient checkpointing');
      expect(lighter(asked('auto'), less, died('SIGKILL'))).toMatchObject(load('onnx-cpu', 2));
    });

    test('also with one row, before another engine', () => {
      const one = { ...load('onnx-cuda', 1), checkpointing: false };
      expect(lighter(asked('auto'), one, run('out of memory'))).toMatchObject(load('onnx-cuda', 1));
    });

    test('but not where it was asked to stay off, or where something else went wrong', () => {
      const never = { ...asked('auto'), checkpointing: false };
      const half = { ...without, microBatch: 2 };
      expect(lighter(never, without, died('SIGKILL'))).toMatchObject(half);
      expect(lighter(asked('auto'), without, died('SIGSEGV'))).toBeNull();
      const lost = { ...without, engine: 'onnx-webgpu' } as const;
      expect(lighter(asked('auto'), lost, run('Device is lost'))).toMatchObject({
        ...without,
        microBatch: 8,
      });
    });
  });

  test('on the processor where what was chosen has gone, but not where it was named', () => {
    const gone = new SwarmError('ENGINE_UNAVAILABLE', 'no device', {});
    const now: Load = load('onnx-webgpu', 8);
    expect(lighter(asked('auto'), now, gone)).toMatchObject(load('onnx-cpu', 8));
    expect(lighter(asked('onnx-webgpu'), now, gone)).toBeNull();
  });

  test('on another engine alone, in float32', () => {
    const devices = {
      engine: 'onnx-cuda',
      device: 1,
      alongside: [{ engine: 'onnx-webgpu' }],
      precision: 'float16',
    } as const;
    expect(onlyOn('onnx-cuda', devices)).toEqual(devices);
    expect(onlyOn('onnx-cpu', devices)).toEqual({ engine: 'onnx-cpu', alongside: [], precision: 'float32' });
  });

  test('until nothing is left: it always ends', () => {
    let now: Load | null = { ...load('onnx-webgpu', 64), checkpointing: false };
    const loads: string[] = [];
    for (; now !== null && loads.length < 100; now = lighter(asked('auto', 64), now, died('SIGKILL'))) {
      loads.push(`${now.engine} ${now.microBatch}`);
    }
    expect(loads).toHaveLength(15);
    expect(loads.at(-1)).toBe('onnx-cpu 1');
  });
});
