import { availableParallelism } from 'node:os';
import { describe, expect, it, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import { parseCompute } from '../../../../lora/train/compute.ts';

function errorOf(run: () => unknown) {
  try {
    run();
  } catch (error) {
    if (isSwarmError(error)) return error;
    throw error;
  }
  return null;
}

describe('a compute', () => {
  it('has a default for every setting', () => {
    expect(parseCompute()).toEqual({
      devices: 'auto',
      threads: availableParallelism(),
      baseBits: 32,
      precision: 'float32',
      checkpointing: 'auto',
      memoryLimit: Number.POSITIVE_INFINITY,
    });
  });

  it('takes each setting from the first place that sets it', () => {
    const flags = { engine: undefined, baseBits: 8, gradientCheckpointing: false } as const;
    const file = { engine: 'onnx-cuda:1', baseBits: 4, threads: 3 } as const;
    const environment = { engine: 'tfjs', origin: 'SWARM_ENGINE' };
    expect(parseCompute(flags, file, environment)).toMatchObject({
      devices: [{ engine: 'onnx-cuda', device: 1 }],
      threads: 3,
      baseBits: 8,
      checkpointing: false,
    });
  });

  it('may name several devices, which share each batch', () => {
    expect(parseCompute({ engine: 'onnx-cuda:0,onnx-cuda:1,onnx-cpu' }).devices).toEqual([
      { engine: 'onnx-cuda', device: 0 },
      { engine: 'onnx-cuda', device: 1 },
      { engine: 'onnx-cpu' },
    ]);
  });

  test.each([
    'abacus',
    '',
    'auto,onnx-cpu',
    'onnx-cpu,auto',
    'onnx-cpu,',
    'onnx-cuda:',
    'onnx-cuda:x',
    'onnx-cuda:1:2',
    'onnx-cuda:-1',
    'onnx-cuda:1000',
  ])('refuses the engine %j', (engine) => {
    expect(errorOf(() => parseCompute({ engine }))).toMatchObject({ code: 'ENGINE_UNKNOWN', kind: 'usage' });
  });

  it('suggests the engine whose name contains the text, if there is only one', () => {
    const nextFor = (engine: string) => errorOf(() => parseCompute({ engine }))?.next;
    expect(nextFor('cuda')).toMatch(/onnx-cuda\?.*"lora-swarm doctor"/);
    expect(nextFor('WebGPU')).toContain('onnx-webgpu?');
    expect(nextFor('onnx')).not.toContain('?');
  });

  it('names the environment variable that a wrong engine came from', () => {
    const error = errorOf(() => parseCompute({}, { engine: 'gpu', origin: 'SWARM_ENGINE' }));
    expect(error).toMatchObject({ code: 'ENGINE_UNKNOWN', values: { name: 'gpu' } });
    expect(error?.message).toContain('SWARM_ENGINE');
  });

  it('refuses a device number with an engine other than onnx-cuda', () => {
    expect(errorOf(() => parseCompute({ engine: 'onnx-webgpu:1' }))).toMatchObject({
      code: 'USAGE',
      values: { name: 'onnx-webgpu:1' },
    });
  });

  it('refuses formats that a named engine lacks, with the exit code of a usage error', () => {
    const engine = 'onnx-cpu,tfjs';
    expect(errorOf(() => parseCompute({ engine, baseBits: 4 }))).toMatchObject({
      code: 'BASE_BITS',
      kind: 'usage',
      values: { engine: 'tfjs' },
    });
    expect(errorOf(() => parseCompute({ engine, precision: 'float16' }))).toMatchObject({
      code: 'PRECISION',
      kind: 'usage',
      values: { engine: 'onnx-cpu' },
    });
    expect(parseCompute({ engine: 'onnx-cuda', precision: 'float16', baseBits: 4 }).devices).toHaveLength(1);
  });
});
