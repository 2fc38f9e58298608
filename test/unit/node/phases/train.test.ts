import { describe, expect, it } from 'vitest';
import type { TrainProgress } from '../../../../lora/train/trainer.ts';
import { FetchTurns } from '../../../../node/blobs/fetch-turns.ts';
import type { Work } from '../../../../node/machine/work.ts';
import type { ReadyPort } from '../../../../node/phases/port.ts';
import { train } from '../../../../node/phases/train.ts';
import type { TrainTask } from '../../../../node/trainer/trainer.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

/** Returns the task that the node gives its trainer. The data is stored, moments are not. */
async function taskFor(change: Partial<Work>): Promise<TrainTask> {
  const { manifest, layout, job, blobs, initial } = toyJob(signerOf(1), {
    rounds: { localSteps: 4, count: 10 },
  });
  const stored = new Map(blobs.map((bytes) => [sha256(bytes), bytes]));
  const tasks: TrainTask[] = [];
  const context = {
    job,
    manifest,
    layout,
    onDownload: () => {},
    deps: {
      blobs: {
        has: async (digest: string) => stored.has(digest),
        get: async (digest: string) => stored.get(digest)!,
      },
      store: { job: () => ({ optimizer: null }), origins: { has: () => true } },
      fetchTurns: new FetchTurns({ clock: new VirtualClock(0) }),
      trainer: {
        train: async (task: TrainTask) => {
          tasks.push(task);
          return { adapter: task.adapter, optimizer: task.optimizer, result: { tokens: 1 } };
        },
      },
    },
  } as unknown as ReadyPort;
  const adapter = sha256(initial);
  const work: Work = {
    term: 1,
    round: 1,
    committed: 0,
    parent: 'p'.repeat(64),
    adapter,
    preset: 'dense',
    start: 0,
    end: 16,
    steps: 4,
    learningRate: null,
    count: null,
    ...change,
  };
  const onProgress = (_: TrainProgress): void => {};
  const held = { checkpoint: work.parent, digest: adapter, tensors: [] };
  await train(context, work, held, { signal: new AbortController().signal, onProgress });
  return tasks[0]!;
}

describe('the position in the learning-rate schedule', () => {
  it('follows the checkpoints of the job, not the steps of the node', async () => {
    expect((await taskFor({})).position).toEqual({ start: 0, perStep: 1 });
    // A node that joined late has fresh moments but the job's position.
    const late = await taskFor({ round: 8, committed: 7 });
    expect(late.position).toEqual({ start: 28, perStep: 1 });
    expect(late.optimizer.step).toBe(0);
  });

  it('does not move with null rounds', async () => {
    expect((await taskFor({ round: 8, committed: 2 })).position).toEqual({ start: 8, perStep: 1 });
  });

  it('has the learning rate and the number of rounds that the head announces', async () => {
    const { position } = await taskFor({ learningRate: 1e-4, count: 50 });
    expect(position!.schedule).toEqual({ learningRate: 1e-4, totalSteps: 50 * 4 });
  });

  it('ends a round at the same point with fewer steps', async () => {
    const { steps, position } = await taskFor({ round: 3, committed: 2, steps: 2 });
    expect(position!.start + steps * position!.perStep).toBe(3 * 4);
  });
});
