import { expect, test } from 'vitest';
import { CHECKED_CHANGES, HeadSettings } from '../../../../node/contact/head-settings.ts';
import type { Head, SettingsRecord } from '../../../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../../../protocol/signing.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { JOB, makeHead } from '../heads.ts';

const coordinator = signerOf(1);
const { signal } = new AbortController();
const values = { learningRate: 1e-3, count: 8, minPeers: 2, maxSeconds: 60 };

function setUp() {
  const changes = new Map<string, Uint8Array>();
  const kept: { sequence: number; digest: string }[] = [];
  const changed: { digest: string; before: object | null }[] = [];
  let fetched = 0;
  const settings = new HeadSettings(
    { job: JOB, coordinator: coordinator.peerId },
    {
      fetch: async (digest) => {
        fetched++;
        return changes.get(digest) ?? null;
      },
      keep: ({ sequence, digest }) => kept.push({ sequence, digest }),
      onChange: ({ digest, before }) => changed.push({ digest, before }),
    },
  );
  const sign = (sequence: number, previous: string | null, more: Partial<SettingsRecord> = {}): string => {
    const record = { job: JOB, term: 1, sequence, previous, fromRound: 1, values, reason: '', issuedAt: 0 };
    const envelope = signMessage('settings', { ...record, ...more }, coordinator);
    const { digest } = verifyMessage('settings', envelope);
    changes.set(digest, envelope);
    return digest;
  };
  /** Signs changes 1 to `count`. Returns their digests. */
  const chain = (count: number): string[] => {
    const digests: string[] = [];
    for (let i = 1; i <= count; i++) digests.push(sign(i, digests.at(-1) ?? null));
    return digests;
  };
  let sequence = 0;
  const head = (record: string | null, more: Partial<Head> = {}): Head => ({
    ...makeHead({ sequence: ++sequence, round: 5, term: 2 }),
    ...(record !== null && { settings: { record, values } }),
    ...more,
  });
  const check = (of: Head) => settings.check(of, signal);
  return { changes, kept, changed, settings, sign, chain, head, check, fetched: () => fetched };
}

test('a change is fetched and verified once', async () => {
  const { chain, kept, changed, settings, head, check, fetched } = setUp();
  const [first] = chain(1) as [string];
  await check(head(null));
  expect(fetched()).toBe(0);
  await check(head(first));
  await check(head(first));
  expect(fetched()).toBe(1);
  expect(kept).toEqual([{ sequence: 1, digest: first }]);
  expect(changed).toEqual([{ digest: first, before: null }]);
  expect(settings.newest).toMatchObject({ digest: first, before: null });
});

test('the settings before a change are those of the previous change', async () => {
  const { sign, changed, settings, head, check } = setUp();
  const first = sign(1, null, { values: { ...values, count: 6 } });
  const second = sign(2, first, { reason: 'more data' });
  expect(settings.newest).toBeNull();
  await check(head(second));
  expect(changed).toEqual([{ digest: second, before: { ...values, count: 6 } }]);
  expect(settings.newest?.record.reason).toBe('more data');
});

test('a head with other values than its change, or with a change that is missing, is refused', async () => {
  const { changes, chain, head, check } = setUp();
  const [first] = chain(1) as [string];
  const other = { record: first, values: { ...values, count: 9 } };
  await expect(check(head(first, { settings: other }))).rejects.toEqual(withCode('SETTINGS_MISMATCH'));
  await check(head(first));
  // The node knows the change now. It still compares its values with those of the head.
  await expect(check(head(first, { settings: other }))).rejects.toEqual(withCode('SETTINGS_MISMATCH'));
  const missing = 'cd'.repeat(32);
  expect(changes.has(missing)).toBe(false);
  await expect(check(head(missing))).rejects.toEqual(withCode('SETTINGS_MISMATCH'));
});

test('a change must continue the changes that the node knows', async () => {
  const { sign, chain, head, check } = setUp();
  const [first, second, third] = chain(3) as [string, string, string];
  await check(head(second));
  const reason = 'fork';
  for (const broken of [
    sign(2, first, { reason }),
    sign(3, first, { reason }),
    sign(4, second),
    sign(4, sign(3, sign(2, first, { reason }))),
  ]) {
    await expect(check(head(broken)), broken).rejects.toEqual(withCode('SETTINGS_CHAIN'));
  }
  const late = sign(4, third, { fromRound: 5, term: 2 });
  await check(head(late));
  for (const broken of [sign(5, late, { fromRound: 4, term: 2 }), sign(5, late, { fromRound: 5 })]) {
    await expect(check(head(broken)), broken).rejects.toEqual(withCode('SETTINGS_CHAIN'));
  }
  // A newer head without settings would hide a change of the settings that applies to its round.
  await expect(check(head(null))).rejects.toEqual(withCode('SETTINGS_CHAIN'));
});

test('a restored coordinator may replace the changes that it has lost, because its term is higher', async () => {
  const { sign, chain, head, check } = setUp();
  const [first, second] = chain(3) as [string, string, string];
  const lost = sign(3, second, { reason: 'lost' });
  await check(head(lost));
  const restored = { term: 3 };
  const replaced = sign(3, second, { reason: 'made after the restore', ...restored });
  await expect(check(head(replaced))).rejects.toEqual(withCode('SETTINGS_MISMATCH'));
  await check(head(replaced, restored));
  // In the new term, the change that was replaced no longer fits.
  await expect(check(head(lost, restored))).rejects.toEqual(withCode('SETTINGS_CHAIN'));
  // A change that does not continue the changes before it is refused in any term.
  const broken = head(sign(3, first), { term: 4 });
  await expect(check(broken)).rejects.toEqual(withCode('SETTINGS_CHAIN'));
  await check(head(second, { term: 4 }));
});

test('a restored coordinator may have lost all changes', async () => {
  const { sign, chain, head, check } = setUp();
  const [first] = chain(1) as [string];
  await check(head(first));
  await expect(check(head(null))).rejects.toEqual(withCode('SETTINGS_CHAIN'));
  await check(head(null, { term: 3 }));
  await check(head(sign(1, null, { term: 3, reason: 'made after the restore' }), { term: 3 }));
});

test('a head that is older than the newest checked one is not checked', async () => {
  const { chain, head, check, fetched } = setUp();
  const [first] = chain(1) as [string];
  const old = head(null);
  await check(head(first));
  await check(old);
  expect(fetched()).toBe(1);
});

test('a long list of changes is checked in part', async () => {
  const { chain, head, check, fetched } = setUp();
  const digests = chain(3 * CHECKED_CHANGES);
  await check(head(digests.at(-1)!));
  expect(fetched()).toBe(1 + CHECKED_CHANGES);
});
