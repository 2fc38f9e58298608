import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { SwarmError } from '../../../../common/errors.ts';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { parseCompute, processorCompute } from '../../../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../../../lora/train/config.ts';
import { tryDevice } from '../../../../lora/train/devices/probe.ts';
import { estimateTraining } from '../../../../lora/train/memory/estimate.ts';
import { freshOptimizer } from '../../../../lora/train/optimizer/optimizer-state.ts';
import { zeros } from '../../../../lora/update/format.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { TrainingProcessDeps } from '../../../../node/trainer/base-trainer.ts';
import { chooseDevices } from '../../../../node/trainer/job-to-train.ts';
import { RoundSlices } from '../../../../node/trainer/round-slices.ts';
import type { TrainTask } from '../../../../node/trainer/trainer.ts';
import { TrainingProcess } from '../../../../node/trainer/training-process.ts';
import type { Manifest } from '../../../../protocol/job/manifest.ts';
import { childrenOf } from '../../../utils/children.ts';
import { maxDifference } from '../../../utils/models/reference.ts';
import { measureGoneGpu, type TinyBase, tinyBase } from '../../../utils/models/tiny-base.ts';

const onProcessor = parseCompute({ engine: 'onnx-cpu', threads: 1 });
const onTwo = parseCompute({ engine: 'onnx-cpu,onnx-cpu', threads: 1 });

interface Bench extends TinyBase {
  deps: TrainingProcessDeps;
  trainer: TrainingProcess;
  /** Codes of the restarts so far. */
  restarts: string[];
  steps: () => number;
  task: (steps: number) => TrainTask;
}

let bench: Bench;
beforeEach(async () => {
  const base = await tinyBase();
  const { home, blobs, layout, rows } = base;
  let steps = 0;
  const restarts: string[] = [];
  const deps: TrainingProcessDeps = {
    blobs,
    clock: systemClock,
    log: silentLogger,
    random: () => 0,
    meter: { stepMade: () => steps++, trainerRestarted: (code) => restarts.push(code) },
  };
  const trainer = new TrainingProcess({ home, compute: onProcessor }, deps);
  onTestFinished(() => trainer.stop());
  bench = {
    ...base,
    deps,
    trainer,
    restarts,
    steps: () => steps,
    task: (steps) => ({
      adapter: zeros(layout),
      rows: Array.from({ length: 2 * steps }, (_, i) => rows[i % rows.length]!),
      steps,
      optimizer: freshOptimizer(layout),
    }),
  };
});

const live = () => new AbortController().signal;
const quiet = { onProgress: () => {} };

describe('the trainer of a node', () => {
  test('trains from blobs, starting from the given moments', async () => {
    const { trainer, manifest, task } = bench;
    const layout = await trainer.prepare(manifest, { signal: live() });
    expect(layout.length).toBeGreaterThan(0);
    const first = await trainer.train(task(2), { signal: live(), ...quiet });
    expect(first.result.steps).toBe(2);
    expect(first.optimizer.step).toBe(2);
    expect(bench.steps()).toBe(2);
    expect(trainer.queue).toBe(0);
    // The moments left in the process from the first call have no effect.
    const second = await trainer.train(task(2), { signal: live(), ...quiet });
    expect(second.adapter).toEqual(first.adapter);
  });

  test('gives the same adapter for a round in slices as for the whole round', async () => {
    const { trainer, task } = bench;
    // The noise of a slice must continue the noise of the slice before.
    const manifest = { ...bench.manifest, training: { ...bench.manifest.training, neftuneAlpha: 5 } };
    await trainer.prepare(manifest, { signal: live() });
    const whole = { ...task(4), position: { start: 8, perStep: 2 } };
    const expected = await trainer.train(whole, { signal: live(), ...quiet });
    const slices = new RoundSlices(whole, 2);
    for (const most of [1, 2, 2]) {
      const slice = slices.next(most);
      slices.add(slice, await trainer.train(slice, { signal: live(), ...quiet }));
    }
    expect(slices.left).toBe(0);
    const { adapter, optimizer, result } = slices.round();
    expect(adapter).toEqual(expected.adapter);
    expect(optimizer).toEqual(expected.optimizer);
    const { seconds: _, lossMean, ...same } = expected.result;
    expect(result).toMatchObject(same);
    expect(result.lossMean).toBeCloseTo(lossMean, 6);
  });

  test('loses the round when it is killed, and trains the next one', async () => {
    const { trainer, manifest, task, restarts } = bench;
    await trainer.prepare(manifest, { signal: live() });
    const before = trainer.pid!;
    const training = trainer.train(task(2000), {
      signal: live(),
      onProgress: ({ step }) => step === 1 && process.kill(before, 'SIGKILL'),
    });
    const died = (await training.catch((error: unknown) => error)) as SwarmError;
    expect(died).toMatchObject({ code: 'TRAINER_DIED', next: expect.stringContaining('--base-bits 4') });
    // A node has neither of these options.
    expect(died.next).not.toMatch(/--resume|--sequence-length/);
    expect(restarts).toEqual(['TRAINER_DIED']);
    expect(trainer.restarts).toBe(1);
    const { result } = await trainer.train(task(1), { signal: live(), ...quiet });
    expect(result.steps).toBe(1);
    expect(trainer.pid).not.toBe(before);
    // A SIGKILL may mean that memory ran out, so the fallback saves memory.
    expect(trainer.note).toMatch(/2 rows .*onnx-cpu.*SIGKILL.*gradient checkpointing/);
  });

  test.each([
    ['a 4-bit base', { baseBits: 4 }, /gradient checkpointing\b.*\b4-bit\b/],
    [
      'a 4-bit base with gradient checkpointing switched off',
      { baseBits: 4, checkpointing: false },
      /^(?!.*gradient checkpointing)/,
    ],
    ['a limit of one byte of memory', { memoryLimit: 1 }, /gradient checkpointing\b.*\b0\.0 GB\b/],
  ] as const)('says whether it turned gradient checkpointing on: %s', async (_, options, note) => {
    const { home, deps, manifest, task } = bench;
    const trainer = new TrainingProcess({ home, compute: { ...onProcessor, ...options } }, deps);
    onTestFinished(() => trainer.stop());
    await trainer.prepare(manifest, { signal: live() });
    expect(trainer.note).toMatch(note);
    const { result } = await trainer.train(task(1), { signal: live(), ...quiet });
    expect(result.steps).toBe(1);
  });

  test('keeps one copy of the base on disk, that of its own base bits', async () => {
    const { home, deps, manifest } = bench;
    for (const [baseBits, copy] of [
      [32, /\.f32$/],
      [8, /\.q8v\d+$/],
      [4, /\.q4v\d+$/],
    ] as const) {
      const trainer = new TrainingProcess({ home, compute: { ...onProcessor, baseBits } }, deps);
      await trainer.prepare(manifest, { signal: live() });
      await trainer.stop();
      const copies = (await readdir(join(home, 'cache'))).filter((name) => /^[0-9a-f]{64}\./.test(name));
      expect(copies).toEqual([expect.stringMatching(copy)]);
    }
  });

  test('makes the micro-batch smaller until training fits into the memory limit with its activations', async () => {
    const { home, deps, manifest, model, task } = bench;
    const training = { ...manifest.training, batchSize: 8, microBatch: 8 };
    const wide = { ...manifest, training };
    const needed = (microBatch: number): number => {
      const config = { ...training, microBatch, totalSteps: 1, seed: manifest.seed };
      const compute = { ...processorCompute(), checkpointing: true };
      const parsed = trainingConfigSchema.parse(config);
      return estimateTraining(model, { lora: manifest.lora, training: parsed, compute }).memory.total;
    };
    const warnings: unknown[] = [];
    const log: typeof deps.log = { ...deps.log, warn: (...entry: unknown[]) => warnings.push(entry[1]) };
    const noteWith = async (memoryLimit: number) => {
      const trainer = new TrainingProcess(
        { home, compute: { ...onProcessor, memoryLimit } },
        { ...deps, log },
      );
      onTestFinished(() => trainer.stop());
      await trainer.prepare(wide, { signal: live() });
      const rows = Array.from({ length: 8 }, (_, i) => bench.rows[i % bench.rows.length]!);
      const { result } = await trainer.train({ ...task(1), rows }, { signal: live(), ...quiet });
      expect(result.steps).toBe(1);
      return trainer.note;
    };
    expect(await noteWith(1.25 * needed(8))).not.toMatch(/rows of a batch/);
    expect(await noteWith(1.25 * needed(2))).toMatch(/\b2 of the 8 rows\b/);
    expect(warnings).toEqual([]);
    expect(await noteWith(1.25 * needed(1) - 1)).toMatch(/\b1 row\b.*--max-memory/);
    // The terminal shows a warning whole. It cuts the note.
    expect(warnings).toEqual(['memory-above-limit']);
  });

  test('counts the memory of all devices when it decides on gradient checkpointing', async () => {
    const { home, deps, manifest, model } = bench;
    const { lora, seed } = manifest;
    const training = trainingConfigSchema.parse({ ...manifest.training, totalSteps: 1, seed });
    const enoughForOne =
      1.25 * estimateTraining(model, { lora, training, compute: processorCompute() }).memory.total;
    const noteWith = async (compute: typeof onProcessor) => {
      const options = { home, compute: { ...compute, memoryLimit: enoughForOne } };
      const trainer = new TrainingProcess(options, deps);
      onTestFinished(() => trainer.stop());
      await trainer.prepare(manifest, { signal: live() });
      return trainer.note;
    };
    expect(await noteWith(onProcessor)).not.toContain('gradient checkpointing');
    expect(await noteWith(onTwo)).toMatch(/gradient checkpointing\b.*\b2\b/);
  });

  describe('with several jobs on one base', () => {
    /** Another job: other learning rate and batch, and the given settings of the adapter. */
    const another = (lora: Partial<Manifest['lora']> = {}): Manifest => ({
      ...bench.manifest,
      name: 'another',
      seed: 9,
      lora: { ...bench.manifest.lora, ...lora },
      training: { ...bench.manifest.training, learningRate: 5e-3, batchSize: 4, microBatch: 2 },
    });
    const taskOf = (manifest: Manifest, steps: number): TrainTask => {
      const layout = adapterLayout(bench.model, manifest.lora);
      const { batchSize } = manifest.training;
      const rows = Array.from({ length: batchSize * steps }, (_, i) => bench.rows[i % bench.rows.length]!);
      return { adapter: initialMatrices(layout, 3), rows, steps, optimizer: freshOptimizer(layout) };
    };
    const trained = async (trainer: TrainingProcess, manifest: Manifest, steps = 2) => {
      await trainer.prepare(manifest, { signal: live() });
      return (await trainer.train(taskOf(manifest, steps), { signal: live(), ...quiet })).adapter;
    };
    const alone = async (manifest: Manifest) => {
      const trainer = new TrainingProcess({ home: bench.home, compute: onProcessor }, bench.deps);
      onTestFinished(() => trainer.stop());
      return trained(trainer, manifest);
    };

    test.each([
      ['the same adapter', {}],
      ['another rank', { rank: 3 }],
      ['dropout', { dropout: 0.2 }],
    ])(
      'turns to a job with %s in the same process, with the results of a process of its own',
      async (_, lora) => {
        const { trainer, manifest } = bench;
        const other = another(lora);
        const first = await trained(trainer, manifest);
        const { pid } = trainer;
        expect(await trained(trainer, other)).toEqual(await alone(other));
        expect(await trained(trainer, manifest)).toEqual(first);
        expect(trainer.pid).toBe(pid);
      },
    );

    test('turns to another job on several devices', async () => {
      const trainer = new TrainingProcess({ home: bench.home, compute: onTwo }, bench.deps);
      onTestFinished(() => trainer.stop());
      const other = another({ rank: 3, dropout: 0.2 });
      await trained(trainer, bench.manifest);
      const together = await trained(trainer, other);
      for (const [i, tensor] of (await alone(other)).entries()) {
        expect(maxDifference(tensor, together[i]!)).toBeLessThan(1e-5);
      }
    });

    test('keeps the fallback of a job when it turns to another job and back', async () => {
      const { trainer, manifest } = bench;
      await trainer.prepare(manifest, { signal: live() });
      const training = trainer.train(taskOf(manifest, 2000), {
        signal: live(),
        onProgress: ({ step }) => step === 1 && process.kill(trainer.pid!, 'SIGKILL'),
      });
      await expect(training).rejects.toMatchObject({ code: 'TRAINER_DIED' });
      const other = another();
      expect(await trained(trainer, other)).toEqual(await alone(other));
      const { pid } = trainer;
      await trained(trainer, manifest);
      expect(trainer.pid).toBe(pid);
      expect(trainer.note).toMatch(/SIGKILL.*gradient checkpointing/);
    });

    test('refuses a job that does not fit the base, and goes on with the other', async () => {
      const { trainer, manifest } = bench;
      const first = await trained(trainer, manifest);
      const { pid } = trainer;
      const wrong = another({ targets: ['no_such_module'] });
      await expect(trainer.prepare(wrong, { signal: live() })).rejects.toMatchObject({
        code: 'LORA_TARGETS',
      });
      expect(await trained(trainer, manifest)).toEqual(first);
      expect(trainer.pid).toBe(pid);
    });
  });

  describe('with jobs on different bases', () => {
    /** Trains jobs of two bases in turns. Returns the adapters and the process of each round. */
    const inTurns = async (trainer: TrainingProcess, turns: readonly Manifest[]) => {
      const rounds: { adapter: readonly Float32Array[]; pid: number }[] = [];
      for (const manifest of turns) {
        await trainer.prepare(manifest, { signal: live() });
        const { adapter } = await trainer.train(bench.task(1), { signal: live(), ...quiet });
        rounds.push({ adapter, pid: trainer.pid! });
      }
      return rounds;
    };
    const trainerWith = (
      compute: Partial<typeof onProcessor>,
      deps: Partial<typeof bench.deps & { memoryLimit: () => number }> = {},
    ): TrainingProcess => {
      const trainer = new TrainingProcess(
        { home: bench.home, compute: { ...onProcessor, ...compute } },
        { ...bench.deps, ...deps },
      );
      onTestFinished(() => trainer.stop());
      return trainer;
    };
    let a: Manifest;
    let b: Manifest;
    beforeEach(async () => {
      a = bench.manifest;
      b = (await tinyBase({ seed: 2, home: bench.home })).manifest;
    });

    test('keeps both bases loaded, and computes as with one base at a time', async () => {
      const { memory } = estimateTraining(bench.model, {
        lora: a.lora,
        training: trainingConfigSchema.parse({ ...a.training, totalSteps: 1, seed: a.seed }),
        compute: processorCompute(),
      });
      const [both, one] = [2.6, 1.3].map((bases) => trainerWith({ memoryLimit: bases * memory.total }));
      const kept = await inTurns(both!, [a, b, a, b]);
      const reloaded = await inTurns(one!, [a, b, a]);
      expect(kept.map(({ adapter }) => adapter).slice(0, 3)).toEqual(reloaded.map(({ adapter }) => adapter));
      // With memory for both bases, rounds 3 and 4 run in the processes of rounds 1 and 2.
      expect(kept.map(({ pid }) => kept.findIndex((round) => round.pid === pid))).toEqual([0, 1, 0, 1]);
      // With memory for one base, each change of the base starts a new process.
      expect(new Set(reloaded.map(({ pid }) => pid)).size).toBe(3);
      expect(both!.use!.residentBytes).toBeGreaterThan(1.5 * one!.use!.residentBytes);
      expect(one!.note).not.toContain('gradient checkpointing');
    });

    test('ends the process of a base that is no longer needed', async () => {
      const trainer = trainerWith({});
      const [first, second] = await inTurns(trainer, [a, b]);
      await trainer.keepBases(new Set([b.base.digest]));
      expect(() => process.kill(first!.pid, 0)).toThrow();
      const [third] = await inTurns(trainer, [b]);
      expect(third!.pid).toBe(second!.pid);
    });

    test('keeps as many bases as fit into a lowered memory limit', async () => {
      let memoryLimit = Number.POSITIVE_INFINITY;
      const trainer = trainerWith({}, { memoryLimit: () => memoryLimit });
      const both = new Set([a.base.digest, b.base.digest]);
      const [first, second] = await inTurns(trainer, [a, b]);
      await trainer.releaseMemory(both);
      expect(() => process.kill(first!.pid, 0)).not.toThrow();
      memoryLimit = 0.8 * trainer.loaded!.memoryBytes;
      await trainer.releaseMemory(both);
      expect(() => process.kill(first!.pid, 0)).toThrow();
      expect(trainer.loaded).toMatchObject({ bases: [b.base.digest], compute: { memoryLimit } });
      expect(trainer.pid).toBe(second!.pid);
      await inTurns(trainer, [a]);
      expect(trainer.loaded!.bases).toEqual([a.base.digest]);
    });

    test('ends the other base when memory runs out, and keeps the settings of the job', async () => {
      const trainer = trainerWith({});
      const [first] = await inTurns(trainer, [a, b]);
      const training = trainer.train(bench.task(2000), {
        signal: live(),
        onProgress: ({ step }) => step === 1 && process.kill(trainer.pid!, 'SIGKILL'),
      });
      await expect(training).rejects.toMatchObject({ code: 'TRAINER_DIED' });
      await inTurns(trainer, [b]);
      expect(() => process.kill(first!.pid, 0)).toThrow();
      expect(trainer.note).not.toContain('SIGKILL');
    });
  });

  test('is replaced before the next round when it is killed between two rounds', async () => {
    const { trainer, manifest, task } = bench;
    await trainer.prepare(manifest, { signal: live() });
    const before = trainer.pid!;
    process.kill(before, 'SIGKILL');
    await expect
      .poll(
        () =>
          trainer.train(task(1), { signal: live(), ...quiet }).then(
            () => trainer.pid !== before,
            () => false,
          ),
        { timeout: 20_000 },
      )
      .toBe(true);
  });

  test('says that the named engine found only a software driver', async () => {
    const { home, model } = bench;
    const signal = live();
    const compute = parseCompute({ threads: 1, engine: 'onnx-webgpu' });
    const { software } = await tryDevice({ engine: 'onnx-webgpu', threads: 1, signal });
    const about = { home, modelDir: model.dir, compute, now: 0, signal };
    const { reason } = await chooseDevices(about, silentLogger);
    expect(reason.includes('software driver')).toBe(software);
  });

  test('falls back to the processor when the chosen engine no longer exists', async () => {
    const { home, manifest, task, restarts, deps } = bench;
    const trainer = new TrainingProcess({ home, compute: parseCompute({ threads: 1 }) }, deps);
    onTestFinished(() => trainer.stop());
    await measureGoneGpu(bench);
    await expect(trainer.prepare(manifest, { signal: live() })).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      values: { engine: 'onnx-cuda' },
    });
    expect(restarts).toEqual(['ENGINE_UNAVAILABLE']);
    expect(trainer.engine).toBe('onnx-cpu');
    expect(trainer.note).toMatch(/onnx-cuda.*onnx-cpu$/);
    await trainer.prepare(manifest, { signal: live() });
    expect((await trainer.train(task(1), { signal: live(), ...quiet })).result.steps).toBe(1);
  });

  test('trains with several devices as with one', async () => {
    const { home, manifest, task, deps } = bench;
    const trainer = new TrainingProcess({ home, compute: onTwo }, deps);
    onTestFinished(() => trainer.stop());
    await trainer.prepare(manifest, { signal: live() });
    expect(trainer.engine).toBe('onnx-cpu, onnx-cpu');
    const together = await trainer.train(task(3), { signal: live(), ...quiet });
    await bench.trainer.prepare(manifest, { signal: live() });
    const alone = await bench.trainer.train(task(3), { signal: live(), ...quiet });
    expect(together.result).toMatchObject({ steps: 3, tokens: alone.result.tokens });
    for (const [i, tensor] of together.adapter.entries()) {
      expect(maxDifference(tensor, alone.adapter[i]!)).toBeLessThan(1e-5);
    }
  });

  test.skipIf(process.platform !== 'linux')(
    'divides a batch among devices although the job does not',
    async () => {
      const { home, manifest, task, deps } = bench;
      const trainer = new TrainingProcess({ home, compute: onTwo }, deps);
      onTestFinished(() => trainer.stop());
      expect(manifest.training).toMatchObject({ batchSize: 2, microBatch: 2 });
      await trainer.prepare(manifest, { signal: live() });
      expect(trainer.note).toMatch(/\b1\b.*\b2 rows\b/);
      // Only the trainer that gives the helper its part of the work notices that the helper has died.
      const helpers = await childrenOf(trainer.pid!);
      expect(helpers).toHaveLength(1);
      process.kill(helpers[0]!, 'SIGKILL');
      const { result } = await trainer.train(task(1), { signal: live(), ...quiet });
      expect(result.steps).toBe(1);
      expect(trainer.note).toMatch(/\bonnx-cpu\b.*\bSIGKILL\b/);
    },
  );

  test('returns at once when aborted, and trains the next round', async () => {
    const { trainer, manifest, task } = bench;
    await trainer.prepare(manifest, { signal: live() });
    const stop = new AbortController();
    const stale = new Error('stale');
    const training = trainer.train(task(2000), {
      signal: stop.signal,
      onProgress: () => stop.abort(stale),
    });
    await expect(training).rejects.toBe(stale);
    const { result } = await trainer.train(task(1), { signal: live(), ...quiet });
    expect(result.steps).toBe(1);
  });

  test('refuses a base whose files do not have its digest', async () => {
    const { trainer, manifest } = bench;
    const files = manifest.base.files.slice(1);
    const wrong = { ...manifest, base: { ...manifest.base, files } };
    await expect(trainer.prepare(wrong, { signal: live() })).rejects.toMatchObject({ code: 'BASE_DIGEST' });
  });

  test('deletes the files of bases that are no longer needed, and creates them again', async () => {
    const { trainer, manifest, home, restarts } = bench;
    await trainer.prepare(manifest, { signal: live() });
    const lying = async (): Promise<string[]> => [
      ...(await readdir(join(home, 'bases'))),
      ...(await readdir(join(home, 'cache'))),
    ];
    const { digest } = manifest.base;
    await trainer.keepBases(new Set([digest]));
    expect(await lying()).toEqual([digest, `${digest}.f32`]);
    const { pid } = trainer;
    await trainer.releaseMemory(new Set());
    expect(await lying()).toEqual([digest, `${digest}.f32`]);
    expect(() => process.kill(pid!, 0)).toThrow();
    expect(trainer.use).toBeNull();
    await trainer.prepare(manifest, { signal: live() });
    await trainer.keepBases(new Set());
    expect(await lying()).toEqual([]);
    await trainer.prepare(manifest, { signal: live() });
    expect(await lying()).toEqual([digest, `${digest}.f32`]);
    expect(restarts).toEqual([]);
  });
});
