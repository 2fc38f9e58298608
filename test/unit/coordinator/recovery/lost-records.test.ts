import { expect, it } from 'vitest';
import { lostRecords } from '../../../../coordinator/recovery/lost-records.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
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
  const newest = first.checkpoint.digest;
  const initial = verifyMessage('checkpoint', checkpoints[0]!).message;
  const find = (digest: string) => (digest === newest ? { checkpoint: initial, ordinal: 0 } : null);
  const known = { self, job, head: first, newest, settings: [], find };
  return { known, head, checkpoints: checkpoints.slice(1) };
}

it('finds the newest head and the chain of checkpoints up to one that the database has', async () => {
  const { known, head, checkpoints } = await history();
  const [one, two, three] = checkpoints as [Uint8Array, Uint8Array, Uint8Array];
  const answers = [
    { head: null, checkpoints: [one], receipts: [], settings: [] },
    { head, checkpoints: [three, two], receipts: [], settings: [] },
  ];
  const lost = lostRecords(answers, known)[0]!;
  expect(lost.head.phase).toBe('finished');
  expect(lost.start).toMatchObject({ round: 3, ordinal: 3 });
  expect(lost.checkpoints.map(({ round }) => round)).toEqual([1, 2, 3]);
  expect(lost.ancestor).toBe(known.head.checkpoint.digest);
  const [gap] = lostRecords([{ head, checkpoints: [three], receipts: [], settings: [] }], known);
  expect(gap).toMatchObject({ ancestor: null, checkpoints: [{ round: 3 }], beforeGap: [] });
});

it('keeps the checkpoints between the database and a gap, if all are of the term of the first one after the gap', async () => {
  const { known, head, checkpoints } = await history();
  const [one, , three] = checkpoints as [Uint8Array, Uint8Array, Uint8Array];
  const below = (...all: Uint8Array[]) => {
    const [lost] = lostRecords([{ head, checkpoints: all, receipts: [], settings: [] }], known);
    return { rounds: lost!.beforeGap.map(({ round }) => round), reachesDatabase: lost!.ancestor !== null };
  };
  expect(below(one, three)).toEqual({ rounds: [1], reachesDatabase: false });
  expect(below(...checkpoints)).toEqual({ rounds: [], reachesDatabase: true });
  const { message } = verifyMessage('checkpoint', one);
  const signed = (changes: Partial<typeof message>) =>
    signMessage('checkpoint', { ...message, ...changes }, COORDINATOR);
  expect(below(signed({ term: 2 }), three).rounds).toEqual([]);
  // Two checkpoints continue the database, and one of them was dropped.
  expect(below(one, signed({ createdAt: message.createdAt + 1 }), three).rounds).toEqual([]);
});

it('keeps the newest head if no node has its checkpoint, and starts at the newest checkpoint that is known', async () => {
  const { known, head, checkpoints } = await history();
  const starts = (returned: readonly Uint8Array[]) =>
    lostRecords([{ head, checkpoints: [...returned], receipts: [], settings: [] }], known).map(
      ({ head: { sequence }, start: { round, ordinal }, checkpoints, ancestor }) => ({
        sequence,
        start: [round, ordinal],
        rounds: checkpoints.map(({ round }) => round),
        reachesDatabase: ancestor === known.newest,
      }),
    );
  const { sequence } = verifyMessage('head', head).message;
  const fromDatabase = { sequence, start: [0, 0], rounds: [], reachesDatabase: true };
  const fromFirst = { sequence, start: [1, 1], rounds: [1], reachesDatabase: true };
  const fromSecond = { sequence, start: [2, 2], rounds: [1, 2], reachesDatabase: true };
  expect(starts(checkpoints)).toEqual([
    { sequence, start: [3, 3], rounds: [1, 2, 3], reachesDatabase: true },
    fromSecond,
    fromFirst,
    fromDatabase,
  ]);
  expect(starts(checkpoints.slice(0, 2))).toEqual([fromSecond, fromFirst, fromDatabase]);
  expect(starts(checkpoints.slice(0, 1))).toEqual([fromFirst, fromDatabase]);
  expect(starts([])).toEqual([fromDatabase]);
});

it('ignores heads and checkpoints that another peer has signed, or that are damaged', async () => {
  const { known, head, checkpoints } = await history();
  const stranger = signerOf(77);
  const forged = signMessage('head', verifyMessage('head', head).message, stranger);
  expect(lostRecords([{ head: forged, checkpoints, receipts: [], settings: [] }], known)).toEqual([]);
  const damaged = head.slice();
  damaged[100]! ^= 1;
  expect(lostRecords([{ head: damaged, checkpoints, receipts: [], settings: [] }], known)).toEqual([]);
  const copies = checkpoints.map((bytes) =>
    signMessage('checkpoint', verifyMessage('checkpoint', bytes).message, stranger),
  );
  const lost = lostRecords([{ head, checkpoints: copies, receipts: [], settings: [] }], known);
  expect(lost.map(({ start }) => start.round)).toEqual([0]);
});

it('ignores heads that are not later, and heads of another job', async () => {
  const { known, head, checkpoints } = await history();
  const newest = verifyMessage('head', head).message;
  const answers = [{ head, checkpoints, receipts: [], settings: [] }];
  expect(lostRecords(answers, { ...known, head: newest })).toEqual([]);
  expect(lostRecords(answers, { ...known, job: '0'.repeat(64) })).toEqual([]);
});
