import { describe, expect, it } from 'vitest';
import { parseConfigFile } from '../../../../cli/train/config-file.ts';
import {
  differences,
  mergeLayers,
  type RunSettings,
  resolveSpec,
  shareRows,
} from '../../../../lora/finetune/settings.ts';
import { trainingState } from '../../../utils/checkpoints.ts';

const least = { base: '/base', data: { train: ['/data'] } };

describe('settings of a run', () => {
  it('have the defaults of a job', () => {
    const { lora, training, run } = resolveSpec(least);
    expect(lora).toMatchObject({ rank: 16, alpha: 32, targets: 'all-linear' });
    expect(training).toMatchObject({
      learningRate: 1e-3,
      schedule: 'constant',
      warmupSteps: 20,
      weightDecay: 0,
    });
    expect(run).toMatchObject({
      epochs: 1,
      steps: null,
      evaluateEvery: 0,
      checkpointEvery: 100,
      final: 'best',
    });
  });

  it('alpha follows the rank, rows at a time the batch, unless they are given', () => {
    expect(resolveSpec({ ...least, lora: { rank: 8 } }).lora.alpha).toBe(16);
    expect(resolveSpec({ ...least, lora: { rank: 8, alpha: 5 } }).lora.alpha).toBe(5);
    expect(resolveSpec({ ...least, training: { batchSize: 32 } }).training.microBatch).toBe(32);
    expect(resolveSpec({ ...least, training: { batchSize: 2, microBatch: 8 } }).training.microBatch).toBe(2);
  });

  it('rows at a time are a share of the batch for each of several devices, unless they are given', () => {
    const shared = (training: Record<string, number>, devices: number) => {
      const layer = { ...least, training };
      const { spec, reason } = shareRows(layer, resolveSpec(layer), devices);
      return [spec.training.microBatch, reason !== null];
    };
    expect(shared({}, 2)).toEqual([4, true]);
    expect(shared({ batchSize: 32 }, 2)).toEqual([16, true]);
    expect(shared({ microBatch: 8 }, 2)).toEqual([8, false]);
    expect(shared({}, 1)).toEqual([8, false]);
  });

  it('come from layers, key by key; what a layer leaves undefined it does not say', () => {
    const preset = { lora: { rank: 4, alpha: 32 }, training: { learningRate: 1, batchSize: 2 } };
    const file = { training: { learningRate: 2, schedule: 'cosine' } };
    const flags = { lora: { rank: 8, alpha: undefined }, training: { learningRate: 3 }, seed: undefined };
    expect(mergeLayers(preset, file, flags)).toEqual({
      lora: { rank: 8, alpha: 32 },
      training: { learningRate: 3, batchSize: 2, schedule: 'cosine' },
    });
  });

  it('that make no sense together are refused', () => {
    const refused = { code: 'USAGE' };
    for (const wrong of [
      { ...least, run: { evaluateEvery: 5 } },
      { ...least, run: { patience: 2 } },
      { ...least, training: { learningRate: -1 } },
      { ...least, lora: { dropout: 1 } },
      // Biases never decay.
      { ...least, training: { weightDecayGroups: ['bias'] } },
      { ...least, preset: 'best' },
    ]) {
      expect(() => resolveSpec(wrong)).toThrow(expect.objectContaining(refused));
    }
  });
});

describe('a config file', () => {
  const parse = (text: string) => parseConfigFile(text, '/there/config.yaml');

  it('says what this machine computes with, as the flags do', () => {
    expect(parse('engine: onnx-cpu\nbaseBits: 4\n')).toMatchObject({ engine: 'onnx-cpu', baseBits: 4 });
    expect(parse('precision: float16\n')).toMatchObject({ precision: 'float16' });
    expect(() => parse('precision: bfloat16\n')).toThrow(expect.objectContaining({ code: 'JOB_SPEC' }));
    expect(parse('gradientCheckpointing: false\n')).toMatchObject({ gradientCheckpointing: false });
    expect(() => parse('gradientCheckpointing: maybe\n')).toThrow(
      expect.objectContaining({ code: 'JOB_SPEC' }),
    );
    expect(() => parse('baseBits: 16\n')).toThrow(expect.objectContaining({ code: 'JOB_SPEC' }));
    expect(parse('engine: onnx-cuda:0,onnx-cpu\n').engine).toBe('onnx-cuda:0,onnx-cpu');
    expect(() => parse('engine: cuda\n')).toThrow(/:1:9: engine is "cuda": it must be auto, onnx-cpu,/);
  });

  it('has the keys of a job file; paths are taken from where it lies, and nothing is filled in', () => {
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
      base: '/nano',
      output: '/there/out',
      data: { train: ['/there/a.jsonl'], heldOut: ['/there/b.jsonl'], trainOn: 'all' },
      lora: { rank: 8, rankPattern: { q_proj: 4 } },
      training: { learningRate: 2e-4, warmupSteps: 5, warmupRatio: null },
      run: { epochs: 3, patience: 2 },
      seed: 7,
    });
  });

  it('finds a template of its own where it lies, and the built-in ones by their names', () => {
    const template = (value: string) => parse(`data: { train: d, template: ${value} }`).data!.template;
    expect([template('null'), template('chatml'), template('my.jinja')]).toEqual([
      null,
      'chatml',
      '/there/my.jinja',
    ]);
  });

  it('may be a job file: what only a swarm has is not used', () => {
    const job = 'name: x\nbase: m\ndata: {train: d, heldOut: h}\nrounds: {count: 3}\nadmission: invite\n';
    expect(Object.keys(parse(job)).sort()).toEqual(['base', 'data', 'output', 'training'].sort());
    expect(parse('')).toMatchObject({});
    expect(parse('data: {train: d, heldOut: 0.05}').data!.heldOut).toBe(0.05);
  });

  it('with the names of other tools says what they are called here', () => {
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

describe('resuming with other settings', () => {
  const before = trainingState(1).state.settings as RunSettings;
  const fields = (now: RunSettings) => differences(before, now).map(({ field }) => field);
  const spec = (change: object) => ({ ...before, spec: { ...before.spec, ...change } }) as RunSettings;

  it('tells what differs', () => {
    expect(fields(before)).toEqual([]);
    expect(fields(spec({ training: { ...before.spec.training, learningRate: 1 } }))).toEqual([
      'training.learningRate',
    ]);
    expect(fields({ ...before, rows: 'other' })).toEqual(['the data']);
    expect(fields({ ...before, base: 'other', heldOut: 'x', baseBits: 8 as const })).toEqual([
      'baseBits',
      'the base model',
      'the held-out text',
    ]);
  });

  it('what decides only what is kept, and how long it goes on, may change, and so may the place of things', () => {
    const kept = { checkpointEvery: 7, keepCheckpoints: 9, final: 'last' as const };
    const run = { ...before.spec.run, ...kept, steps: 7, epochs: 9 };
    const devices = { engine: 'onnx-cuda' as const, device: 1, alongside: [{ engine: 'onnx-cpu' as const }] };
    const machine = { ...devices, threads: 8, checkpointing: 'auto' as const, totalSteps: 5 };
    expect(fields({ ...spec({ run, base: '/elsewhere' }), ...machine })).toEqual([]);
    const moved = { ...before.spec.data, train: ['/other/place'] };
    expect(fields(spec({ data: moved }))).toEqual([]);
  });

  it('float16 may be left, not taken', () => {
    const inFloat16 = { ...before, precision: 'float16' as const };
    expect(differences(inFloat16, before)).toEqual([]);
    expect(differences(before, inFloat16)).toEqual([
      { field: 'precision', before: 'float32', now: 'float16' },
    ]);
  });
});
