import { expect, test } from 'vitest';
import type { Head, SettingsRecord } from '../../../protocol/messages.ts';
import {
  settingsAt,
  verifyHeadSettings,
  verifyOneSettings,
  verifySettings,
} from '../../../protocol/settings-chain.ts';
import { signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { withCode } from '../../utils/source/codes.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { makeHead } from '../node/heads.ts';

const coordinator = signerOf(1);
const job = 'ab'.repeat(32);
const values = { learningRate: 1e-3, count: 8, minPeers: 2, maxSeconds: 60 };

const first: SettingsRecord = {
  job,
  term: 2,
  sequence: 1,
  previous: null,
  fromRound: 3,
  values,
  reason: '',
  issuedAt: 0,
};

function chain(change: Partial<SettingsRecord> = {}, signer = coordinator): Uint8Array[] {
  const start = signMessage('settings', first, coordinator);
  const previous = verifyMessage('settings', start).digest;
  const second = { ...first, sequence: 2, previous, fromRound: 5, ...change };
  return [start, signMessage('settings', second, signer)];
}

const verify = (envelopes: readonly Uint8Array[]) =>
  verifySettings(envelopes, { job, coordinator: coordinator.peerId });

test('the settings of a round are those of the last change that has begun', () => {
  const changes = verify(chain());
  const sequences = [2, 3, 4, 5, 9].map((round) => settingsAt(changes, round)?.record.sequence ?? null);
  expect(sequences).toEqual([null, 1, 1, 2, 2]);
});

test('a change that does not continue the one before it is refused', () => {
  const wrong: Partial<SettingsRecord>[] = [
    { previous: 'cd'.repeat(32) },
    { previous: null },
    { sequence: 3 },
    { fromRound: 2 },
    { term: 1 },
    { job: 'cd'.repeat(32) },
  ];
  for (const change of wrong) expect(() => verify(chain(change))).toThrow(withCode('SETTINGS_CHAIN'));
  expect(() => verify(chain({}, signerOf(2)))).toThrow(withCode('SETTINGS_CHAIN'));
  expect(() => verify(chain().slice(1))).toThrow(withCode('SETTINGS_CHAIN'));
});

test('a change is verified by itself, with its digest, job and author', () => {
  const [envelope] = chain() as [Uint8Array];
  const { digest } = verifyMessage('settings', envelope);
  const expected = { job, coordinator: coordinator.peerId, digest };
  expect(verifyOneSettings(envelope, expected)).toEqual({ digest, record: first });
  const wrong = [{ job: 'cd'.repeat(32) }, { coordinator: signerOf(2).peerId }, { digest: 'cd'.repeat(32) }];
  for (const change of wrong) {
    expect(() => verifyOneSettings(envelope, { ...expected, ...change })).toThrow(
      withCode('SETTINGS_MISMATCH'),
    );
  }
});

test('a head has the values of the change that it names, not before its first round, and not in a lower term', () => {
  const [change] = verify(chain());
  const record = change!.digest;
  const head = { ...makeHead({ sequence: 9, round: 3, term: 2 }), job, settings: { record, values } };
  verifyHeadSettings(head, change!);
  const wrong: Partial<Head>[] = [
    { settings: { record, values: { ...values, learningRate: 1 } } },
    { settings: { record: 'cd'.repeat(32), values } },
    { round: 2 },
    { term: 1 },
  ];
  for (const other of wrong) {
    expect(() => verifyHeadSettings({ ...head, ...other }, change!)).toThrow(withCode('SETTINGS_MISMATCH'));
  }
});
