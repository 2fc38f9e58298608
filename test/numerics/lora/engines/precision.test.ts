import { describe, expect, test } from 'vitest';
import { createEngine, type Engine } from '../../../../lora/engines/engine.ts';
import { hasFloat16, requireFloat16 } from '../../../../lora/engines/float16.ts';
import { requirePrecision } from '../../../../lora/engines/precision.ts';
import { withCode } from '../../../utils/source/codes.ts';

const refused = withCode('PRECISION');

describe('float16', () => {
  test.each(['onnx-cpu', 'tfjs'] as const)('is refused on %s', (engine) => {
    expect(() => requirePrecision('float16', engine)).toThrow(refused);
    expect(() => requirePrecision('float32', engine)).not.toThrow();
  });

  test.each(['onnx-webgpu', 'onnx-cuda'] as const)('is accepted on %s', (engine) => {
    expect(() => requirePrecision('float16', engine)).not.toThrow();
  });

  test('is missing if a float16 product fails on the device', async () => {
    const cannot = new Error('Program Gemm requires f16 but the device does not support it.');
    const engine: Engine = {
      name: 'onnx-webgpu',
      compile: async () => ({ run: () => Promise.reject(cannot), dispose: async () => {} }),
    };
    await expect(requireFloat16(engine)).rejects.toMatchObject({
      code: 'PRECISION',
      values: { reason: cannot.message },
    });
    expect(await hasFloat16(engine)).toBe(false);
    expect(await hasFloat16(await createEngine('onnx-cpu', { threads: 1 }))).toBe(false);
  });
});
