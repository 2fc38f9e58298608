import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { registerTrain } from '../../../../cli/commands/train.ts';
import type { Context } from '../../../../cli/context.ts';
import {
  adapterLayer,
  addAdapterOptions,
  addOptimizerOptions,
  optimizerLayer,
} from '../../../../cli/options/training.ts';
import { createProgram } from '../../../../cli/program.ts';
import { flagLayer, type TrainFlags } from '../../../../cli/train/flag-layer.ts';
import { mergeLayers, resolveSpec, runSchema } from '../../../../lora/finetune/settings/settings.ts';
import { loraSchema, trainingSchema } from '../../../../protocol/job/manifest.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { withCode } from '../../../utils/source/codes.ts';

function parse(...args: string[]): TrainFlags {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addOptimizerOptions(addAdapterOptions(command)).parse(args, { from: 'user' });
  return command.opts();
}

const spec = (...args: string[]) =>
  resolveSpec(mergeLayers({ base: '/b', data: { train: ['/d'] } }, flagLayer(parse(...args), '/')));

describe('the name of the adapter', () => {
  it('is checked before a run begins, unless the run adds no version', async () => {
    const train = (...flags: string[]) => {
      const { context } = fakeContext({ cwd: '/nowhere' });
      const run = ['train', '--model', 'no-model', '--data', 'd', '--dry-run', ...flags];
      return createProgram(context).parseAsync(run, { from: 'user' });
    };
    const next = expect.stringContaining('--name');
    const refused = { code: 'VERSION_NAME', values: { name: 'base' }, next };
    await expect(train('--output', 'runs/Base')).rejects.toMatchObject(refused);
    for (const flags of [['--name', 'other'], ['--no-publish']])
      await expect(train('--output', 'runs/base', ...flags)).rejects.not.toMatchObject(refused);
    await expect(train('--output', 'runs/other', '--name', 'base')).rejects.toThrow(/base/);
  });
});

describe('flags of the adapter and the training', () => {
  it('cover every setting of a job', () => {
    expect(Object.keys(adapterLayer({})).sort()).toEqual(Object.keys(loraSchema.shape).sort());
    expect(Object.keys(optimizerLayer({})).sort()).toEqual(Object.keys(trainingSchema.shape).sort());
    expect(Object.keys(flagLayer({}, '/').run!).sort()).toEqual(Object.keys(runSchema.shape).sort());
  });

  it('leave the defaults where they are not given', () => {
    expect(spec().lora).toEqual(loraSchema.parse({}));
    expect(spec().training).toEqual(trainingSchema.parse({}));
  });

  it('become settings', () => {
    const { lora, training } = spec(
      ...['--rank', '8', '--target', 'q_proj', '--target', 'v_proj', '--exclude', 'k_proj', '--layer', '1'],
      ...['--rank-pattern', 'layers\\.0=.*q_proj=4', '--alpha-pattern', 'v_proj=9', '--rslora', '--dora'],
      ...[
        '--dropout',
        '0.1',
        '--save-module',
        'lm_head',
        '--bias',
        'lora_only',
        '--freeze-a',
        '--init',
        'gaussian',
      ],
      ...['--learning-rate', '2e-4', '--schedule', 'linear', '--final-fraction', '0', '--warmup', '7'],
      ...['--betas', '0.8,0.9', '--epsilon', '1e-6', '--weight-decay', '0.1', '--decay-group', 'magnitude'],
      ...['--lora-plus', '16', '--neftune', '5', '--label-smoothing', '0.1', '--clip-norm', '0.5'],
      ...['--batch-size', '4', '--micro-batch', '2', '--sequence-length', '64'],
    );
    expect(lora).toEqual({
      rank: 8,
      alpha: 16,
      targets: ['q_proj', 'v_proj'],
      excludeModules: ['k_proj'],
      layersToTransform: [1],
      rankPattern: [['layers\\.0=.*q_proj', 4]],
      alphaPattern: [['v_proj', 9]],
      useRslora: true,
      useDora: true,
      dropout: 0.1,
      modulesToSave: ['lm_head'],
      bias: 'lora_only',
      freezeA: true,
      initLoraWeights: 'gaussian',
    });
    expect(training).toEqual({
      learningRate: 2e-4,
      schedule: 'linear',
      finalFraction: 0,
      warmupSteps: 7,
      warmupRatio: null,
      betas: [0.8, 0.9],
      epsilon: 1e-6,
      weightDecay: 0.1,
      weightDecayGroups: ['magnitude'],
      loraPlusRatio: 16,
      neftuneAlpha: 5,
      labelSmoothing: 0.1,
      clipNorm: 0.5,
      batchSize: 4,
      microBatch: 2,
      sequenceLength: 64,
    });
    expect(spec('--init', 'uniform').lora.initLoraWeights).toBe(true);
  });

  it('name targets one by one, all at once, or by a regular expression', () => {
    const targets = (...args: string[]) => adapterLayer(parse(...args));
    expect(targets('--target', 'q_proj').targets).toEqual(['q_proj']);
    expect(targets('--target', 'layers.1.mlp.up_proj').targets).toEqual(['layers.1.mlp.up_proj']);
    expect(targets('--target', 'all-linear').targets).toBe('all-linear');
    expect(targets('--target', '.*\\.(q|v)_proj').targets).toBe('.*\\.(q|v)_proj');
    expect(targets('--exclude', '.*\\.0\\..*').excludeModules).toBe('.*\\.0\\..*');
  });

  it('override a file that gives the length in the other unit', () => {
    const run = (...args: string[]) => {
      const command = new Command();
      registerTrain(command, {} as Context);
      const train = command.commands[0]!;
      train
        .exitOverride()
        .configureOutput({ writeErr: () => {} })
        .action(() => {});
      train.parse(args, { from: 'user' });
      const given = flagLayer(train.opts(), '/');
      return resolveSpec(mergeLayers({ base: '/b', data: { train: ['/d'] }, run: { steps: 100 } }, given))
        .run;
    };
    expect(run('--epochs', '3')).toMatchObject({ steps: null, epochs: 3 });
    expect(run('--steps', '3')).toMatchObject({ steps: 3 });
    expect(run()).toMatchObject({ steps: 100 });
    for (const both of [
      ['--steps', '3', '--epochs', '3'],
      ['--warmup', '3', '--warmup-ratio', '0.1'],
    ]) {
      expect(() => run(...both), both[0]).toThrow(withCode('commander.conflictingOption'));
    }
  });

  it('are refused out of range', () => {
    for (const wrong of [
      ['--betas', '0.9'],
      ['--betas', '0.9,1'],
      ['--rank-pattern', 'x'],
      ['--rank-pattern', 'x=zero'],
      ['--dropout', '1'],
      ['--bias', 'some'],
      ['--schedule', 'exponential'],
      ['--layer', '-1'],
    ]) {
      expect(() => parse(...wrong), wrong.join(' ')).toThrow(expect.objectContaining({ exitCode: 1 }));
    }
  });
});
