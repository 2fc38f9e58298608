import { describe, expect, test } from 'vitest';
import { engineChoice, engineChoices } from '../../../cli/engine.ts';
import { failureLines, failureOf } from '../../../cli/errors.ts';
import { codeOf } from '../../utils/codes.ts';

describe('the engine that is asked for', () => {
  test('is that of the flag, else of the environment, else auto', () => {
    const environment = { SWARM_ENGINE: 'tfjs' };
    expect(engineChoice('onnx-webgpu', environment)).toBe('onnx-webgpu');
    expect(engineChoice(undefined, environment)).toBe('tfjs');
    expect(engineChoice(undefined, { SWARM_ENGINE: '' })).toBe('auto');
    expect(engineChoice('auto', environment)).toBe('auto');
  });

  test('may be several devices that share each batch', () => {
    expect(engineChoices('onnx-cuda:0,onnx-cuda:1,onnx-cpu', {})).toEqual({
      engine: 'onnx-cuda',
      device: 0,
      alongside: [{ engine: 'onnx-cuda', device: 1 }, { engine: 'onnx-cpu' }],
    });
    expect(codeOf(() => engineChoice('onnx-cpu,tfjs', {}))).toBe('USAGE');
    expect(codeOf(() => engineChoice('onnx-cuda:1', {}))).toBe('USAGE');
  });

  test.each([
    'abacus',
    '',
    'auto,onnx-cpu',
    'onnx-cpu,',
    'onnx-cuda:',
    'onnx-cuda:x',
    'onnx-cuda:1:2',
    'onnx-cuda:-1',
    'onnx-cuda:1000',
  ])('is refused as %j', (name) => {
    expect(codeOf(() => engineChoices(name, {}))).toBe('ENGINE_UNKNOWN');
  });

  test('that there is none of is refused with where it was said, and what may have been meant', () => {
    const refused = (said: string | undefined, environment = {}) => {
      try {
        engineChoices(said, environment);
      } catch (error) {
        return failureLines(failureOf(error)).join('\n');
      }
      return '';
    };
    expect(refused('cuda')).toMatch(
      /no engine is called "cuda"; take auto, .*\n +next: did you mean onnx-cuda\? "npx swarm doctor"/,
    );
    expect(refused('WebGPU')).toContain('did you mean onnx-webgpu?');
    expect(refused('onnx')).not.toContain('did you mean');
    expect(refused(undefined, { SWARM_ENGINE: 'gpu' })).toContain(
      'no engine is called "gpu", as SWARM_ENGINE says;',
    );
    expect(refused('onnx-cpu,auto')).toContain('shares no batch');
    expect(refused('onnx-webgpu:1')).toContain('"onnx-webgpu:1"');
  });

  test('has numbers for CUDA alone', () => {
    expect(codeOf(() => engineChoices('onnx-webgpu:1', {}))).toBe('USAGE');
  });
});
