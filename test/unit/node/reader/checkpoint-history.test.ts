import { expect, test } from 'vitest';
import { initialCheckpoint } from '../../../../coordinator/record/new-job.ts';
import { netError } from '../../../../net/errors.ts';
import { fetchCheckpointHistory } from '../../../../node/reader/checkpoint-history.ts';
import type { Head } from '../../../../protocol/messages.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const COORDINATOR = signerOf(1);
const JOB = 'ab'.repeat(32);
const { manifest } = toyJob(COORDINATOR, {});

/** Answers the request for a record. The loss follows from the number of the checkpoint. */
function record(ordinal: number, { signer = COORDINATOR, job = JOB } = {}) {
  const first = initialCheckpoint(job, { manifest, baseLoss: 4, baseTokens: 1 });
  const round = 2 * ordinal;
  const metrics = { ...first.metrics, heldOutLoss: 4 - ordinal / 100 };
  const checkpoint = signMessage('checkpoint', { ...first, round, metrics }, signer);
  return { checkpoint, residual: null, proofs: [] };
}

/** The head of a job with this number of checkpoints besides the initial one. */
function headOf(ordinal: number): Head {
  return { checkpoint: { ordinal, round: 2 * ordinal, heldOutLoss: 4 - ordinal / 100 } } as Head;
}

const read = (head: Head) => ({ job: JOB, coordinator: COORDINATOR.peerId, head });

test('a long history is thinned out, and its first and last points stay', async () => {
  const asked: number[] = [];
  const { curve } = await fetchCheckpointHistory(read(headOf(100)), async ({ ordinal }) => {
    asked.push(ordinal);
    return record(ordinal);
  });
  expect(asked).toEqual([0, 11, 22, 33, 44, 56, 67, 78, 89]);
  expect(curve).toHaveLength(10);
  expect(curve[0]).toEqual({ round: 0, heldOutLoss: 4 });
  expect(curve.at(-1)).toEqual({ round: 200, heldOutLoss: 3 });
});

test('a short history is complete, and a job without rounds has one point', async () => {
  const { curve: short } = await fetchCheckpointHistory(read(headOf(2)), async ({ ordinal }) =>
    record(ordinal),
  );
  expect(short.map(({ round }) => round)).toEqual([0, 2, 4]);
  expect(await fetchCheckpointHistory(read(headOf(0)), async () => record(0))).toEqual({
    curve: [{ round: 0, heldOutLoss: 4 }],
    rollBacks: [],
  });
});

test('the roll-backs up to the head are complete, also if the curve leaves their rounds out', async () => {
  const all = [7, 9, 150].map((round) => ({ round, restores: round - 2 }));
  const asked: (true | undefined)[] = [];
  const { rollBacks } = await fetchCheckpointHistory(read(headOf(60)), async ({ ordinal, rollBacks }) => {
    asked.push(rollBacks);
    return { ...record(ordinal), ...(rollBacks && { rollBacks: all }) };
  });
  expect(rollBacks).toEqual(all.slice(0, 2));
  expect(asked.filter((one) => one)).toHaveLength(1);
});

test('a coordinator that refuses, or signs for another job or peer, costs only the history', async () => {
  const answers = [
    () => record(0, { signer: signerOf(2) }),
    () => record(0, { job: 'cd'.repeat(32) }),
    () => ({ ...record(0), checkpoint: null }),
    () => {
      throw netError('RPC_REFUSED', 'no', { code: 'RPC_RATE_LIMITED' });
    },
  ];
  for (const answer of answers) {
    let requests = 0;
    const send = async () => {
      requests++;
      return answer();
    };
    const history = await fetchCheckpointHistory(read(headOf(5)), send);
    expect({ ...history, requests }).toEqual({ curve: [], rollBacks: [], requests: 1 });
  }
});
