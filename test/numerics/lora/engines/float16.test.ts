import { expect, test } from 'vitest';
import type { Engine } from '../../../../lora/engines/engine.ts';
import { hasFloat16, requireFloat16 } from '../../../../lora/engines/float16.ts';

test('the graph that tests float16 is disposed of, whether the device has float16 or not', async () => {
  for (const found of [true, false]) {
    let compiled = 0;
    let released = 0;
    const engine: Engine = {
      name: 'onnx-webgpu',
      compile: async () => {
        compiled++;
        return {
          run: () => (found ? Promise.resolve({}) : Promise.reject(new Error('requires f16'))),
          dispose: async () => void released++,
        };
      },
    };
    expect(await hasFloat16(engine)).toBe(found);
    const tried = requireFloat16(engine);
    await (found ? tried : expect(tried).rejects.toMatchObject({ code: 'PRECISION' }));
    expect({ compiled, released }).toEqual({ compiled: 2, released: 2 });
  }
});
