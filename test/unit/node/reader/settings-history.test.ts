import { expect, test } from 'vitest';
import { fetchHistory } from '../../../../node/reader/settings-history.ts';
import { protocolError } from '../../../../protocol/errors.ts';
import { firstSettings, withSettings } from '../../../../protocol/job/settings.ts';
import type { Head } from '../../../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { toyJob } from '../../../utils/virtual/toy-job.ts';

const COORDINATOR = signerOf(1);
const JOB = 'ab'.repeat(32);
const { manifest } = toyJob(COORDINATOR, {});

/** Returns signed changes of the settings, each in another round, by their digests, and the newest digest. */
function chain(count: number) {
  const byDigest = new Map<string, Uint8Array>();
  let previous: string | null = null;
  for (let sequence = 1; sequence <= count; sequence++) {
    const values = { ...firstSettings(manifest), count: 100 + sequence };
    const about = { job: JOB, term: 1, sequence, fromRound: 5 * sequence, reason: '', issuedAt: 0 };
    const envelope: Uint8Array = signMessage('settings', { ...about, previous, values }, COORDINATOR);
    previous = verifyMessage('settings', envelope).digest;
    byDigest.set(previous, envelope);
  }
  return { byDigest, newest: previous! };
}

const values = { ...firstSettings(manifest), count: 999 };
const read = (record: string | null) => ({
  ...{ job: JOB, coordinator: COORDINATOR.peerId, manifest },
  head: (record === null ? {} : { settings: { record, values } }) as Head,
});

test('all changes are followed back to the manifest', async () => {
  const { byDigest, newest } = chain(3);
  const send = async ({ record }: { record: string }) => ({ settings: byDigest.get(record)! });
  const history = await fetchHistory(read(newest), send);
  expect(history.manifest).toEqual(manifest);
  expect(history.changes!.map(({ fromRound, values }) => [fromRound, values.count])).toEqual([
    [5, 101],
    [10, 102],
    [15, 103],
  ]);
  expect(await fetchHistory(read(null), send)).toEqual({ manifest });
});

test('without some of the changes, only the newest values are known', async () => {
  const { byDigest, newest } = chain(40);
  const answers = [
    (record: string) => byDigest.get(record)!,
    (record: string) => (record === newest ? byDigest.get(record)! : null),
    () => signMessage('settings', verifyMessage('settings', byDigest.get(newest)!).message, signerOf(2)),
    () => {
      throw protocolError('MESSAGE_INVALID', 'no', {});
    },
  ];
  for (const answer of answers) {
    const found = await fetchHistory(read(newest), async ({ record }) => ({ settings: answer(record) }));
    expect(found).toEqual({ manifest: withSettings(manifest, values) });
  }
});
