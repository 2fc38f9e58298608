import { describe, expect, test } from 'vitest';
import type { EngineChoice } from '../../../lora/engines/names.ts';
import { type Load, lighter, onlyOn } from '../../../lora/train/lighter.ts';
import { SwarmError } from '../../../protocol/errors.ts';

const died = (signal: string | null, code: number | null = null) =>
  new SwarmError('TRAINER_DIED', `the trainer process was killed by ${signal}`, { signal, code });
const run = (message: string) => new SwarmError('ENGINE_RUN', message, {});
const asked = (engine: EngineChoice, microBatch = 8) => ({ engine, microBatch });

describe('after a device failed, a trainer starts', () => {
  test.each<[string, unknown, Load, Load | null]>([
    [
      'with half the rows where the system took it away',
      died('SIGKILL'),
      { engine: 'onnx-cpu', microBatch: 8 },
      { engine: 'onnx-cpu', microBatch: 4 },
    ],
    [
      'with half of an odd number',
      died('SIGABRT'),
      { engine: 'onnx-cpu', microBatch: 3 },
      { engine: 'onnx-cpu', microBatch: 1 },
    ],
    [
      'with half the rows where a GPU has no more memory',
      run('out of memory'),
      { engine: 'onnx-cuda', microBatch: 2 },
      { engine: 'onnx-cuda', microBatch: 1 },
    ],
    [
      'with half the rows where a tensor is too large for WebGPU',
      run('Too many storage buffers in shader. Current: 24, Max is 16'),
      { engine: 'onnx-webgpu', microBatch: 4 },
      { engine: 'onnx-webgpu', microBatch: 2 },
    ],
    [
      'with half the rows where an allocation failed',
      run('Failed to allocate memory for requested buffer of size 9'),
      { engine: 'onnx-cpu', microBatch: 2 },
      { engine: 'onnx-cpu', microBatch: 1 },
    ],
    [
      'on the processor where one row is too much',
      run('std::bad_alloc'),
      { engine: 'onnx-cuda', microBatch: 1 },
      { engine: 'onnx-cpu', microBatch: 8 },
    ],
    [
      'on the processor where the device is lost',
      run('Device is lost'),
      { engine: 'onnx-webgpu', microBatch: 8 },
      { engine: 'onnx-cpu', microBatch: 8 },
    ],
    [
      'on the processor where a driver crashed',
      died('SIGSEGV'),
      { engine: 'onnx-webgpu', microBatch: 8 },
      { engine: 'onnx-cpu', microBatch: 8 },
    ],
    ['as before where nothing lighter is left', died('SIGKILL'), { engine: 'onnx-cpu', microBatch: 1 }, null],
    [
      'as before after a crash of the processor engine',
      died('SIGSEGV'),
      { engine: 'onnx-cpu', microBatch: 8 },
      null,
    ],
    [
      'as before after an error of the data',
      new SwarmError('DATA_TOKEN', 'no such token', {}),
      { engine: 'onnx-webgpu', microBatch: 8 },
      null,
    ],
    [
      'as before after anything else',
      new Error('out of memory'),
      { engine: 'onnx-webgpu', microBatch: 8 },
      null,
    ],
  ])('%s', (_, error, now, expected) => {
    const found = lighter(asked('auto'), now, error);
    if (expected === null) expect(found).toBeNull();
    else expect(found).toMatchObject(expected);
  });

  test('and says what happened, and with what it goes on', () => {
    const { because } = lighter(asked('auto'), { engine: 'onnx-cuda', microBatch: 4 }, run('out of memory'))!;
    expect(because).toBe(
      'with 4 rows at a time on onnx-cuda: out of memory; going on with 2, in batches as before',
    );
  });

  test('on the processor where what was chosen has gone, but not where it was named', () => {
    const gone = new SwarmError('ENGINE_UNAVAILABLE', 'no device', {});
    const now: Load = { engine: 'onnx-webgpu', microBatch: 8 };
    expect(lighter(asked('auto'), now, gone)).toMatchObject({ engine: 'onnx-cpu', microBatch: 8 });
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
    let load: Load | null = { engine: 'onnx-webgpu', microBatch: 64 };
    const loads: string[] = [];
    for (; load !== null && loads.length < 100; load = lighter(asked('auto', 64), load, died('SIGKILL'))) {
      loads.push(`${load.engine} ${load.microBatch}`);
    }
    expect(loads).toHaveLength(14);
    expect(loads.at(-1)).toBe('onnx-cpu 1');
  });
});
