import { describe, expect, it } from 'vitest';
import { givenCompute } from '../../../../cli/options/engine.ts';
import { parseOneDevice } from '../../../../lora/train/compute.ts';
import { withCode } from '../../../utils/source/codes.ts';

describe('the engine of a command that uses one device', () => {
  it('is the one of the flag, else of SWARM_ENGINE, else auto', () => {
    const environment = { SWARM_ENGINE: 'tfjs' };
    const devices = (...given: Parameters<typeof givenCompute>) =>
      parseOneDevice(givenCompute(...given)).devices;
    expect(devices({ engine: 'onnx-webgpu' }, environment)).toEqual([{ engine: 'onnx-webgpu' }]);
    expect(devices({}, environment)).toEqual([{ engine: 'tfjs' }]);
    expect(devices({}, { SWARM_ENGINE: '' })).toBe('auto');
    expect(devices({ engine: 'auto' }, environment)).toBe('auto');
  });

  it('may have a number', () => {
    const { devices } = parseOneDevice(givenCompute({ engine: 'onnx-cuda:1' }, {}));
    expect(devices).toEqual([{ engine: 'onnx-cuda', device: 1 }]);
  });

  it('cannot be several', () => {
    const refused = withCode('USAGE', { devices: 2 });
    const engine = 'onnx-cpu,tfjs';
    expect(() => parseOneDevice(givenCompute({ engine }, {}))).toThrow(refused);
    expect(() => parseOneDevice(givenCompute({}, { SWARM_ENGINE: engine }))).toThrow(refused);
  });
});
