import { expect, it } from 'vitest';
import { type SignedChange, settingsOfHead } from '../../../../coordinator/recovery/lost-settings.ts';
import type { Checkpoint, Head } from '../../../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const values = { learningRate: 1e-3, count: 8, minPeers: 2, maxSeconds: 60 };

function change(before: SignedChange | null, fromRound: number, reason = ''): SignedChange {
  const sequence = (before?.record.sequence ?? 0) + 1;
  const previous = before?.digest ?? null;
  const record = {
    job: 'ab'.repeat(32),
    term: 1,
    sequence,
    previous,
    fromRound,
    values,
    reason,
    issuedAt: 0,
  };
  const envelope = signMessage('settings', record, signerOf(1));
  const { digest, message } = verifyMessage('settings', envelope);
  return { digest, record: message, envelope };
}

const one = change(null, 2);
const two = change(one, 4);
const three = change(two, 6);
const branch = change(one, 3, 'after the restore');

/** Returns the digests of the changes that fit a head of round 6. */
function found(
  named: SignedChange | null,
  { own, kept, before = null }: Record<'own' | 'kept', SignedChange[]> & { before?: SignedChange | null },
): string[] {
  const head = { round: 6, ...(named && { settings: { record: named.digest, values } }) } as Head;
  const checkpoints = [{ ...(before && { settings: before.digest }) } as Checkpoint];
  return settingsOfHead({ head, checkpoints }, { own, kept }).map(({ digest }) => digest);
}

const digests = (...changes: SignedChange[]): string[] => changes.map(({ digest }) => digest);

it('takes the changes that the head names from the database and from nodes', () => {
  expect(found(three, { own: [one], kept: [three, two] })).toEqual(digests(one, two, three));
  expect(found(three, { own: [], kept: [one, three, two] })).toEqual(digests(one, two, three));
});

it('drops changes of the database that the head contradicts', () => {
  expect(found(three, { own: [one, branch], kept: [two, three] })).toEqual(digests(one, two, three));
  expect(found(one, { own: [one, branch], kept: [] })).toEqual(digests(one));
  expect(found(null, { own: [one], kept: [] })).toEqual([]);
});

it('keeps changes of the database that apply only after the head', () => {
  const pending = change(one, 7);
  expect(found(one, { own: [one, pending], kept: [] })).toEqual(digests(one, pending));
  expect(found(null, { own: [change(null, 7)], kept: [] })).toHaveLength(1);
});

it('goes by the newest checkpoint whose changes are complete', () => {
  expect(found(three, { own: [one], kept: [two], before: two })).toEqual(digests(one, two));
  expect(found(three, { own: [one], kept: [three] })).toEqual(digests(one));
  const unfit = change(one, 1);
  expect(found(unfit, { own: [one], kept: [unfit] })).toEqual(digests(one));
});
