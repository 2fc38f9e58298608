import { CheckpointViews } from '../../../coordinator/api/checkpoint-views.ts';
import type { JobRun } from '../../../coordinator/job-run.ts';
import { initialCheckpoint } from '../../../coordinator/record/new-job.ts';
import { Store } from '../../../coordinator/store/store.ts';
import { signerFromSeed, signMessage } from '../../../protocol/signing.ts';
import { toyJob } from '../virtual/toy-job.ts';
import { STORED_JOB } from './stored-job.ts';

/** Returns the views of a coordinator whose only job has `rounds` checkpoints after the initial one. */
export function viewsOfCheckpoints(path: string, rounds: number, nodes = 8) {
  const signer = signerFromSeed(new Uint8Array(32).fill(7));
  const toy = toyJob(signer);
  const { job } = toy;
  const store = new Store(path);
  const first = initialCheckpoint(job, { ...toy, baseLoss: 4.5, baseTokens: 1 });
  const contributors = Array.from({ length: nodes }, (_, node) => ({
    peer: signerFromSeed(new Uint8Array(32).fill(node + 1)).peerId,
    update: job,
    round: 1,
    tokens: 4_000,
    weight: 1 / nodes,
  }));
  store.transaction(() => {
    store.jobs.insert({ ...STORED_JOB, job, name: 'large', manifest: toy.envelope }, Uint8Array.of(0));
    for (let round = 0; round <= rounds; round++) {
      const heldOutLoss = 3 + 1 / (round + 1);
      const metrics = { ...first.metrics, heldOutLoss, tokens: 32_000 };
      const made = round === 0 ? first : { ...first, round, parent: job, contributors, metrics };
      const envelope = signMessage('checkpoint', made, signer);
      const digest = round.toString(16).padStart(64, '0');
      store.rounds.putCheckpoint(job, {
        round,
        digest,
        envelope,
        residual: null,
        heldOutLoss,
        restores: null,
      });
    }
  });
  const folders = { path: (name: string, round: number) => `${name}/${round}` };
  // The views read only these facts of a job.
  const run = { context: { job, stored: { name: 'large' } } } as unknown as JobRun;
  const views = new CheckpointViews({ store, folders: folders as never });
  return { store, run, views };
}
