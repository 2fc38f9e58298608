import { expect, it } from 'vitest';
import { lostRecords } from '../../../../coordinator/recovery/lost-records.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/signers.ts';
import { ScriptedPeer } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

const self = COORDINATOR.peerId;

/** Returns what a node keeps of a job with three checkpoints, and the first head of the job. */
async function history() {
  const world = new World({ rounds: { count: 3, minPeers: 1, localSteps: 1 } });
  const checkpoints: Uint8Array[] = [];
  world.laidOut = ({ envelope }) => checkpoints.push(envelope);
  await world.start();
  const { job } = world.toy;
  const first = verifyMessage('head', world.store.jobs.head(job)!).message;
  const finished = (): boolean => world.run.driver.state.phase === 'finished';
  await new ScriptedPeer(1, world).work(() => 0.01, finished);
  await world.until(finished, 'the end of the job');
  const head = world.store.jobs.head(job)!;
  const has = (digest: string): boolean => digest === first.checkpoint.digest;
  return { known: { self, job, head: first, settings: [], has }, head, checkpoints: checkpoints.slice(1) };
}

it('finds the newest head and the chain of checkpoints up to one that the database has', async () => {
  const { known, head, checkpoints } = await history();
  const [one, two, three] = checkpoints as [Uint8Array, Uint8Array, Uint8Array];
  const answers = [
    { head: null, checkpoints: [one], receipts: [], settings: [] },
    { head, checkpoints: [three, two], receipts: [], settings: [] },
  ];
  const lost = lostRecords(answers, known)!;
  expect(lost.head.phase).toBe('finished');
  expect(lost.checkpoints.map(({ round }) => round)).toEqual([1, 2, 3]);
  expect(lost.ancestor).toBe(known.head.checkpoint.digest);
  const gap = lostRecords([{ head, checkpoints: [three], receipts: [], settings: [] }], known)!;
  expect(gap).toMatchObject({ ancestor: null, checkpoints: [{ round: 3 }] });
});

it('ignores heads and checkpoints that another peer has signed, or that are damaged', async () => {
  const { known, head, checkpoints } = await history();
  const stranger = signerOf(77);
  const forged = signMessage('head', verifyMessage('head', head).message, stranger);
  expect(lostRecords([{ head: forged, checkpoints, receipts: [], settings: [] }], known)).toBeNull();
  const damaged = head.slice();
  damaged[100]! ^= 1;
  expect(lostRecords([{ head: damaged, checkpoints, receipts: [], settings: [] }], known)).toBeNull();
  const copies = checkpoints.map((bytes) =>
    signMessage('checkpoint', verifyMessage('checkpoint', bytes).message, stranger),
  );
  expect(lostRecords([{ head, checkpoints: copies, receipts: [], settings: [] }], known)).toBeNull();
});

it('ignores heads that are not later, and heads of another job', async () => {
  const { known, head, checkpoints } = await history();
  const newest = verifyMessage('head', head).message;
  const answers = [{ head, checkpoints, receipts: [], settings: [] }];
  expect(lostRecords(answers, { ...known, head: newest })).toBeNull();
  expect(lostRecords(answers, { ...known, job: '0'.repeat(64) })).toBeNull();
});
