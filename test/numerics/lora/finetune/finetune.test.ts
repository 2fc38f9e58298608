import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { estimateFinetune, type FinetuneOptions, finetune } from '../../../../lora/finetune/finetune.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

let options: FinetuneOptions;
beforeEach(async () => {
  const folder = await temporaryFolder();
  const train = join(folder, 'a.txt');
  await writeFile(train, TINY_TEXT);
  options = {
    settings: {
      base: await makeTinyModel(join(folder, 'model')),
      data: { train: [train], heldOut: [train] },
      lora: { rank: 2 },
      training: { sequenceLength: 16, batchSize: 2 },
      run: { steps: 2 },
    },
    output: join(folder, 'out'),
    cacheDir: join(folder, 'cache'),
    compute: { engine: 'onnx-cpu', threads: 1 },
    now: 0,
    signal: new AbortController().signal,
  };
});

describe('finetune()', () => {
  it('trains from plain settings, reports steps, and returns the result', async () => {
    const steps: number[] = [];
    const result = await finetune(options, { onStep: ({ step }) => steps.push(step) });
    expect(steps).toEqual([1, 2]);
    expect(result).toMatchObject({ step: 2, adapterStep: 2, finished: 'steps' });
    expect(result.lossAfter).toBeLessThan(result.lossBefore!);
    expect(await readdir(options.output)).toContain('adapter_model.safetensors');
  });

  it("throws its signal's reason in every stage, and what a callback throws", async () => {
    const reason = new Error('enough');
    await expect(finetune({ ...options, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    for (const stage of ['onPacking', 'onMeasuring', 'onPlan', 'onStep', 'onCheckpoint'] as const) {
      const controller = new AbortController();
      const once = { ...options, signal: controller.signal, output: `${options.output}-${stage}` };
      await expect(finetune(once, { [stage]: () => controller.abort(reason) })).rejects.toBe(reason);
      const thrown = new RangeError(stage);
      const fail = (): never => {
        throw thrown;
      };
      const failing = { ...options, output: `${options.output}-${stage}-throws` };
      const run = finetune({ ...failing, cacheDir: `${failing.output}-cache` }, { [stage]: fail });
      // A callback may throw while the data is read. The run then ends with an error about the file, and the callback's
      // error is its cause.
      await expect(run).rejects.toSatisfy((error: Error) => error === thrown || error.cause === thrown);
    }
  });

  it('begins a new run with resume if the folder has no checkpoint, and says so', async () => {
    const warnings: string[] = [];
    await finetune({ ...options, resume: true }, { onWarning: ({ code }) => warnings.push(code) });
    expect(warnings).toContain('NOTHING_TO_RESUME');
    expect(await readdir(options.output)).toContain('adapter_model.safetensors');
  });

  it('resumes a run with the settings of its checkpoint, without callbacks', async () => {
    await finetune(options);
    const { settings: _, ...rest } = options;
    const result = await finetune({ ...rest, settings: { run: { steps: 3 } }, resume: true });
    expect(result.step).toBe(3);
  });

  it('stops when its signal aborts', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const run = finetune(
      { ...options, signal: controller.signal },
      { onStep: () => controller.abort(reason) },
    );
    await expect(run).rejects.toBe(reason);
  });

  it('reports the trained adapter when the last measurement is interrupted', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const partial: unknown[] = [];
    let isLast = false;
    const run = finetune(
      { ...options, signal: controller.signal },
      {
        onCheckpoint: () => {
          isLast = true;
        },
        onMeasuring: () => {
          if (isLast) controller.abort(reason);
        },
        onPartial: (state) => partial.push(state),
      },
    );
    await expect(run).rejects.toBe(reason);
    expect(partial).toEqual([{ step: 2, resumable: true }]);
    expect(await readdir(options.output)).toContain('adapter_model.safetensors');
    const result = await finetune({ ...options, resume: true });
    expect(result).toMatchObject({ step: 2, finished: 'steps', lossAfter: expect.any(Number) });
  });

  it('fails before it reads data where a named engine does not run', async () => {
    // No machine that runs these tests has TensorFlow.
    const packed: number[] = [];
    const run = finetune(
      { ...options, compute: { engine: 'tfjs' } },
      { onPacking: (done) => packed.push(done) },
    );
    await expect(run).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    expect(packed).toEqual([]);
    expect(await readdir(options.output).catch(() => null)).toBeNull();
  });

  it.each([
    [{ settings: {} }, 'USAGE'],
    [{ settings: undefined }, 'USAGE'],
    [{ output: undefined }, 'USAGE'],
    [{ compute: { baseBits: 7 } }, 'USAGE'],
    [{ compute: { engines: 'onnx-cpu' } }, 'USAGE'],
    [{ compute: { gradientCheckpointing: 'yes' } }, 'USAGE'],
    [{ resume: true, force: true }, 'USAGE'],
    [{ compute: { engine: 'tfjs', baseBits: 8 } }, 'BASE_BITS'],
    [{ compute: { engine: 'onnx-cpu', precision: 'float16' } }, 'PRECISION'],
  ] as const)('refuses %j', async (change, code) => {
    await expect(finetune({ ...options, ...change } as FinetuneOptions)).rejects.toMatchObject({
      code,
      kind: 'usage',
    });
  });
});

it('an estimate writes nothing, and warns as a run does', async () => {
  const warnings: string[] = [];
  const { estimate, spec } = await estimateFinetune(options, {
    onWarning: ({ code }) => warnings.push(code),
  });
  expect(warnings).toEqual(['WARMUP_TOO_LONG']);
  expect(estimate).toMatchObject({ steps: 2, memory: { trainers: 1 } });
  expect(spec.lora).toMatchObject({ rank: 2, alpha: 4 });
  expect(await readdir(options.output).catch(() => null)).toBeNull();
  expect(await readdir(options.cacheDir!).catch(() => null)).toBeNull();
});

it('a run takes the chat template of the adapter that it starts from', async () => {
  await finetune(options);
  const folder = options.output;
  const template = join(folder, 'chat_template.jinja');
  await writeFile(template, '{{ messages }}');
  const { spec } = await estimateFinetune({ ...options, from: { folder } });
  expect(spec.data.template).toBe(template);
});
