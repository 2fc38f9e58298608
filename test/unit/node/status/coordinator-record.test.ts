import { expect, test } from 'vitest';
import { nodeError } from '../../../../node/errors.ts';
import { coordinatorRecord } from '../../../../node/status/coordinator-record.ts';
import type { Messages } from '../../../../protocol/messages.ts';
import { signMessage } from '../../../../protocol/signing.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const COORDINATOR = signerOf(1);
const NODE = signerOf(2);
const JOB = 'ab'.repeat(32);
const UPDATE = 'cd'.repeat(32);
const fields = { job: JOB, term: 1 };

const receipt: Messages['receipt'] = {
  ...{ ...fields, round: 3, peer: NODE.peerId, update: UPDATE },
  ...{ code: 'late', detail: 'by 2 s', issuedAt: 1_000 },
};
const figures: Messages['figures'] = {
  ...{ ...fields, round: 4, parent: JOB, seed: null, assignedEnd: 8, issuedAt: 2_000 },
  updates: [
    {
      ...{ peer: NODE.peerId, round: 3, update: UPDATE, preset: 'dense', parent: JOB },
      ...{ start: 0, end: 8, steps: 2, share: 0.5, belief: 0.75, harmful: false },
      score: { effect: 0.01, effectError: 0.001, gain: 0.002, exact: null, ownRows: 4 },
      audit: { closeness: 0.9, balance: 1, passed: true, decidedRound: 5 },
    },
  ],
};

/** Asks a coordinator that answers as given. */
function ask(answers: Record<string, (body: { round?: number }) => object>, connected = true) {
  const network = {
    signer: NODE,
    request: async (_peer: string, method: string, body: { round?: number }) => {
      const answer = answers[method];
      if (answer === undefined) throw nodeError('NO_ADDRESS', 'no such method', {});
      return answer(body);
    },
  };
  const store = { update: () => ({ update: UPDATE }) };
  const job = { job: JOB } as never;
  const coordinator = { addresses: [], peer: COORDINATOR.peerId, connected, unreachable: null };
  const deps = { network, store, clock: new ManualClock() } as never;
  return coordinatorRecord({ job: JOB, round: 3 }, [{ job, coordinator }], deps);
}

test('has the signed receipt and the score of the update, also from the next merge', async () => {
  const record = await ask({
    receipt: () => ({ receipt: signMessage('receipt', receipt, COORDINATOR) }),
    figures: ({ round }) => ({
      figures: round === 4 ? signMessage('figures', figures, COORDINATOR) : null,
    }),
  });
  expect(record).toEqual({
    receipt: { code: 'late', detail: 'by 2 s', at: 1_000 },
    figures: {
      ...{ merge: 4, effect: 0.01, gain: 0.002, share: 0.5, belief: 0.75, harmful: false },
      audit: 'passed',
    },
  });
});

test('has no messages that another peer has signed, and none that the coordinator does not send', async () => {
  const forged = await ask({
    receipt: () => ({ receipt: signMessage('receipt', receipt, NODE) }),
    figures: () => ({ figures: signMessage('figures', figures, NODE) }),
  });
  expect(forged).toEqual({ receipt: null, figures: null });
  expect(await ask({})).toEqual({ receipt: null, figures: null });
});

test('is missing while the coordinator is not connected', async () => {
  expect(await ask({}, false)).toBeNull();
});
