/** Copies of jobs, and changes while they run, on a real coordinator in this process. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { readSweepFile } from '../../coordinator/client/sweep-jobs.ts';
import { startCoordinator } from '../../coordinator/daemon.ts';
import { cloneJob, connect, createJob, sweepJobs } from '../../index.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';

const MINIMAL_PAIRS = fileURLToPath(new URL('../../examples/tasks/minimal-pairs.yaml', import.meta.url));

test('a copy of a job needs no file of the operator, and its checkpoints are evaluated on tasks', async () => {
  const folder = await temporaryFolder();
  const train = join(folder, 'train.jsonl');
  const texts = Array.from({ length: 20 }, (_, i) => JSON.stringify({ text: TINY_TEXT.slice(i, i + 200) }));
  await writeFile(train, texts.join('\n'));
  const coordinator = await startCoordinator({ home: join(folder, 'home'), mdns: false });
  try {
    const spec = {
      name: 'tale',
      base: await makeTinyModel(join(folder, 'model')),
      data: { train, heldOut: 0.3 },
      lora: { rank: 4 },
      training: { sequenceLength: 32, batchSize: 4, microBatch: 4 },
      tasks: { files: MINIMAL_PAIRS, every: 3, metric: 'minimal_pairs.acc', limit: 4 },
      samples: { prompts: ['It was'], heldOut: 2, maxTokens: 5 },
    };
    const wrong = createJob(coordinator, { ...spec, tasks: { ...spec.tasks, metric: 'minimal_pairs.f1' } });
    await expect(wrong).rejects.toMatchObject({ code: 'TASK_METRIC' });
    const first = await createJob(coordinator, spec);
    const same = await cloneJob(coordinator, 'tale');
    const other = await cloneJob(coordinator, 'tale', {
      name: 'wide',
      changes: { 'lora.rank': 8, seed: 5 },
      priority: 3,
      after: same.job,
    });
    const api = await connect(coordinator);
    const [job, copy, wide] = await Promise.all([first, same, other].map(({ job }) => api.job(job)));
    expect(same.name).toBe('tale-2');
    expect(copy!.manifest).toEqual({ ...job!.manifest, name: 'tale-2', createdAt: copy!.createdAt });
    expect(wide).toMatchObject({ phase: 'queued', priority: 3, after: { name: 'tale-2' } });
    expect(wide!.manifest.adapter.parameters).toBe(2 * job!.manifest.adapter.parameters);
    expect(wide!.manifest.data).toEqual(job!.manifest.data);
    expect(job!.tasks).toMatchObject({ every: 3, metric: 'minimal_pairs.acc,none' });
    await expect
      .poll(async () => (await api.checkpoints('tale'))[0]!.tasks, { timeout: 60_000 })
      .toMatchObject({ reason: '', value: expect.any(Number) });
    expect(await api.samples('tale')).toEqual({ hasPrompts: true, rounds: [], result: null });
    const file = join(folder, 'sweep.yaml');
    await writeFile(join(folder, 'more.jsonl'), [...texts, JSON.stringify({ text: 'more' })].join('\n'));
    const variants = ['{}', '{ training.learningRate: 1e-4 }', '{ data.train: more.jsonl }'];
    await writeFile(file, `name: race\njob: tale\nvariants: [${variants.join(', ')}]\njobs: [wide]\n`);
    const sweep = await readSweepFile(file);
    const { sweep: started, jobs } = await sweepJobs(coordinator, sweep);
    expect(jobs.map(({ name }) => name)).toEqual(['race-1', 'race-2', 'race-3']);
    expect(started.jobs.map(({ variant }) => variant)).toEqual([
      expect.stringMatching(/^[^=]+$/),
      'training.learningRate=0.0001',
      expect.stringContaining(JSON.stringify(join(folder, 'more.jsonl'))),
      '',
    ]);
    const { data } = (await api.job(jobs[2]!.job)).manifest;
    expect(data.heldOut).toEqual(job!.manifest.data.heldOut);
    // The third job trains on the samples that the job `tale` trains on, and on the text "more". It does not train on
    // held-out samples.
    const { tokens } = job!.manifest.data;
    expect(data.tokens).toBeGreaterThan(tokens);
    expect(data.tokens).toBeLessThanOrEqual(tokens + 'more'.length + 1);
    // After an interruption, the command can be repeated: the second call creates no jobs.
    expect((await sweepJobs(coordinator, sweep)).sweep).toEqual(started);
    // B is zero at the start. An untrained adapter of any rank therefore changes nothing.
    expect(wide!.baseLoss).toBeCloseTo(job!.baseLoss!, 6);
  } finally {
    await coordinator.stop();
  }
});
