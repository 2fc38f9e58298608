import { describe, expect, it } from 'vitest';
import { parseConfigFile } from '../../../../lora/finetune/config-file.ts';
import { withCode } from '../../../utils/codes.ts';

describe('a config file', () => {
  const parse = (text: string) => parseConfigFile(text, '/there/config.yaml');

  it('sets how the machine computes, as the flags do', () => {
    expect(parse('engine: onnx-cpu\nbaseBits: 4\n').compute).toMatchObject({
      engine: 'onnx-cpu',
      baseBits: 4,
    });
    expect(parse('precision: float16\n').compute).toMatchObject({ precision: 'float16' });
    expect(() => parse('precision: bfloat16\n')).toThrow(withCode('JOB_SPEC'));
    expect(parse('gradientCheckpointing: false\n').compute).toMatchObject({ gradientCheckpointing: false });
    expect(() => parse('gradientCheckpointing: maybe\n')).toThrow(withCode('JOB_SPEC'));
    expect(() => parse('baseBits: 16\n')).toThrow(withCode('JOB_SPEC'));
    expect(parse('engine: onnx-cuda:0,onnx-cpu\n').compute.engine).toBe('onnx-cuda:0,onnx-cpu');
    // A checkpoint has the engine that auto chose, and that choice stays.
    expect(parse('engine: auto\n')).toMatchObject({
      compute: { engine: undefined },
      computeDefaults: { engine: 'auto' },
    });
    expect(() => parse('engine: cuda\n')).toThrow(
      withCode('JOB_SPEC', { field: 'engine', line: 1, column: 9 }),
    );
  });

  it('has the keys of a job file, paths relative to itself, and no defaults', () => {
    expect(
      parse(`
base: ../nano
output: out
data: { train: a.jsonl, heldOut: [b.jsonl], trainOn: all }
lora: { rank: 8, rankPattern: { q_proj: 4 } }
training: { learningRate: 2e-4, warmupSteps: 5 }
run: { epochs: 3, patience: 2 }
seed: 7
`),
    ).toEqual({
      output: '/there/out',
      compute: {},
      computeDefaults: {},
      layer: {
        base: '/nano',
        data: { train: ['/there/a.jsonl'], heldOut: ['/there/b.jsonl'], trainOn: 'all' },
        lora: { rank: 8, rankPattern: { q_proj: 4 } },
        training: { learningRate: 2e-4, warmupSteps: 5, warmupRatio: null },
        run: { epochs: 3, patience: 2 },
        seed: 7,
      },
    });
  });

  it('names a template file relative to itself, or a built-in template', () => {
    const template = (value: string) => parse(`data: { train: d, template: ${value} }`).layer.data!.template;
    expect([template('null'), template('chatml'), template('my.jinja')]).toEqual([
      null,
      'chatml',
      '/there/my.jinja',
    ]);
  });

  it('may be a job file, whose keys for a swarm are ignored', () => {
    const job = 'name: x\nbase: m\ndata: {train: d, heldOut: h}\nrounds: {count: 3}\nadmission: invite\n';
    expect(Object.keys(parse(job).layer).sort()).toEqual(['base', 'data', 'training']);
    expect(parse('')).toMatchObject({});
    expect(parse('data: {train: d, heldOut: 0.05}').layer.data!.heldOut).toBe(0.05);
  });

  it('is refused if it has the setting name of another tool, and the error gives ours', () => {
    const refusal = (text: string) => {
      try {
        parse(text);
      } catch (error) {
        return error as { code: string; values: { problems: string[] } };
      }
      return null;
    };
    for (const [text, own] of [
      ['lora_r: 8', 'lora.rank'],
      ['learning_rate: 1e-4', 'training.learningRate'],
      ['lora: {r: 8}', 'lora.rank'],
      ['training: {gradient_accumulation_steps: 4}', 'training.batchSize'],
      ['num_train_epochs: 3', 'run.epochs'],
    ] as const) {
      const error = refusal(text);
      expect(error?.code, text).toBe('JOB_SPEC');
      expect(error?.values.problems[0], text).toContain(own);
    }
    expect(refusal('seed: 1\nlora:\n  lora_r: 8')?.values).toMatchObject({ line: 3, column: 11 });
    expect(refusal('seed: 1\ntraining: { batchSize: 0 }')?.values).toMatchObject({
      field: 'training.batchSize',
      line: 2,
    });
    expect(refusal('lora: {bias: all}')).toBeNull();
    for (const text of [
      'lora: {rnak: 8}',
      'traning: {}',
      'lora: {rank: 0}',
      'a: [',
      'data: {train: x, heldOut: 1}',
    ]) {
      expect(refusal(text)?.code, text).toBe('JOB_SPEC');
    }
  });
});
