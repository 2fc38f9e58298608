import { describe, expect, it } from 'vitest';
import { oneDeviceCompute } from '../../../cli/engine.ts';
import { parseCompute } from '../../../lora/train/compute.ts';
import { withCode } from '../../utils/codes.ts';

describe('the engine of a command that uses one device', () => {
  it('is the one of the flag, else of SWARM_ENGINE, else auto', () => {
    const environment = { SWARM_ENGINE: 'tfjs' };
    const devices = (...given: Parameters<typeof oneDeviceCompute>) =>
      parseCompute(oneDeviceCompute(...given)).devices;
    expect(devices({ engine: 'onnx-webgpu' }, environment)).toEqual([{ engine: 'onnx-webgpu' }]);
    expect(devices({}, environment)).toEqual([{ engine: 'tfjs' }]);
    expect(devices({}, { SWARM_ENGINE: '' })).toBe('auto');
    expect(devices({ engine: 'auto' }, environment)).toBe('auto');
  });

  it.each(['onnx-cpu,tfjs', 'onnx-cuda:1'])('is not %s', (engine) => {
    const refused = withCode('USAGE');
    expect(() => oneDeviceCompute({ engine }, {})).toThrow(refused);
    expect(() => oneDeviceCompute({}, { SWARM_ENGINE: engine })).toThrow(refused);
  });
});
