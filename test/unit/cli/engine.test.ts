import { describe, expect, it } from 'vitest';
import { oneDeviceCompute } from '../../../cli/engine.ts';

describe('the engine of a command that uses one device', () => {
  it('is the one of the flag, else of SWARM_ENGINE, else auto', () => {
    const environment = { SWARM_ENGINE: 'tfjs' };
    expect(oneDeviceCompute({ engine: 'onnx-webgpu' }, environment).devices).toEqual([
      { engine: 'onnx-webgpu' },
    ]);
    expect(oneDeviceCompute({}, environment).devices).toEqual([{ engine: 'tfjs' }]);
    expect(oneDeviceCompute({}, { SWARM_ENGINE: '' }).devices).toBe('auto');
    expect(oneDeviceCompute({ engine: 'auto' }, environment).devices).toBe('auto');
  });

  it.each(['onnx-cpu,tfjs', 'onnx-cuda:1'])('is not %s', (engine) => {
    const refused = expect.objectContaining({ code: 'USAGE' });
    expect(() => oneDeviceCompute({ engine }, {})).toThrow(refused);
    expect(() => oneDeviceCompute({}, { SWARM_ENGINE: engine })).toThrow(refused);
  });
});
