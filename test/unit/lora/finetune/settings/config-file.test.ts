import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { readConfigFile } from '../../../../../lora/finetune/settings/config-file.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

describe('a config file', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await temporaryFolder();
  });
  const parse = async (text: string) => {
    await writeFile(join(dir, 'config.yaml'), text);
    return readConfigFile(join(dir, 'config.yaml'));
  };

  it('sets how the machine computes, as the flags do', async () => {
    const { compute } = await parse('engine: onnx-cpu\nbaseBits: 4\n');
    expect(compute).toMatchObject({ engine: 'onnx-cpu', baseBits: 4 });
    expect((await parse('precision: float16\n')).compute).toMatchObject({ precision: 'float16' });
    expect((await parse('gradientCheckpointing: false\n')).compute).toMatchObject({
      gradientCheckpointing: false,
    });
    expect((await parse('engine: onnx-cuda:0,onnx-cpu\n')).compute.engine).toBe('onnx-cuda:0,onnx-cpu');
    // `auto` is only a default: a resumed run keeps the engine that `auto` chose before, which its checkpoint has.
    expect(await parse('engine: auto\n')).toMatchObject({
      compute: { engine: undefined },
      computeDefaults: { engine: 'auto' },
    });
    for (const wrong of ['precision: bfloat16\n', 'gradientCheckpointing: maybe\n', 'baseBits: 16\n']) {
      await expect(parse(wrong), wrong).rejects.toMatchObject({ code: 'JOB_SPEC' });
    }
    await expect(parse('engine: cuda\n')).rejects.toMatchObject({
      code: 'JOB_SPEC',
      values: { field: 'engine', line: 1, column: 9 },
    });
  });

  it('has the keys of a job file, paths relative to itself, and no defaults', async () => {
    expect(
      await parse(`
base: ../nano
output: out
data: { train: a.jsonl, heldOut: [b.jsonl], trainOn: all }
lora: { rank: 8, rankPattern: { q_proj: 4 } }
training: { learningRate: 2e-4, warmupSteps: 5 }
run: { epochs: 3, patience: 2 }
seed: 7
`),
    ).toEqual({
      output: join(dir, 'out'),
      compute: {},
      computeDefaults: {},
      layer: {
        base: join(dir, '../nano'),
        data: { train: [join(dir, 'a.jsonl')], heldOut: [join(dir, 'b.jsonl')], trainOn: 'all' },
        lora: { rank: 8, rankPattern: { q_proj: 4 } },
        training: { learningRate: 2e-4, warmupSteps: 5, warmupRatio: null },
        run: { epochs: 3, patience: 2 },
        seed: 7,
      },
    });
  });

  it('names a template file relative to itself, or a built-in template', async () => {
    const template = async (value: string) =>
      (await parse(`data: { train: d, template: ${value} }`)).layer.data!.template;
    expect(await template('null')).toBe(null);
    expect(await template('chatml')).toBe('chatml');
    expect(await template('my.jinja')).toBe(join(dir, 'my.jinja'));
  });

  it('may be a job file, whose keys for a swarm are ignored', async () => {
    const job = 'name: x\nbase: m\ndata: {train: d, heldOut: h}\nrounds: {count: 3}\nadmission: invite\n';
    expect(Object.keys((await parse(job)).layer).sort()).toEqual(['base', 'data', 'training']);
    expect(await parse('')).toMatchObject({});
    expect((await parse('data: {train: d, heldOut: 0.05}')).layer.data!.heldOut).toBe(0.05);
  });

  it('is refused if it has the setting name of another tool, and the error gives ours', async () => {
    const refusal = (text: string) =>
      parse(text).then(
        () => null,
        (error: { code: string; values: { problems: string[] } }) => error,
      );
    for (const [text, own] of [
      ['lora_r: 8', 'lora.rank'],
      ['learning_rate: 1e-4', 'training.learningRate'],
      ['lora: {r: 8}', 'lora.rank'],
      ['training: {gradient_accumulation_steps: 4}', 'training.batchSize'],
      ['num_train_epochs: 3', 'run.epochs'],
    ] as const) {
      const error = await refusal(text);
      expect(error?.code, text).toBe('JOB_SPEC');
      expect(error?.values.problems[0], text).toContain(own);
    }
    expect((await refusal('seed: 1\nlora:\n  lora_r: 8'))?.values).toMatchObject({ line: 3, column: 11 });
    expect((await refusal('seed: 1\ntraining: { batchSize: 0 }'))?.values).toMatchObject({
      field: 'training.batchSize',
      line: 2,
    });
    expect(await refusal('lora: {bias: all}')).toBeNull();
    for (const text of [
      'lora: {rnak: 8}',
      'traning: {}',
      'lora: {rank: 0}',
      'a: [',
      'data: {train: x, heldOut: 1}',
    ]) {
      expect((await refusal(text))?.code, text).toBe('JOB_SPEC');
    }
  });
});
