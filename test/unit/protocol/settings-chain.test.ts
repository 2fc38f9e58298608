import { expect, test } from 'vitest';
import type { SettingsRecord } from '../../../protocol/messages.ts';
import { settingsAt, verifySettings } from '../../../protocol/settings-chain.ts';
import { signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { withCode } from '../../utils/codes.ts';
import { signerOf } from '../../utils/signers.ts';

const coordinator = signerOf(1);
const job = 'ab'.repeat(32);
const values = { learningRate: 1e-3, count: 8, minPeers: 2, maxSeconds: 60 };

const first: SettingsRecord = {
  job,
  term: 1,
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
    { job: 'cd'.repeat(32) },
  ];
  for (const change of wrong) expect(() => verify(chain(change))).toThrow(withCode('SETTINGS_CHAIN'));
  expect(() => verify(chain({}, signerOf(2)))).toThrow(withCode('SETTINGS_CHAIN'));
  expect(() => verify(chain().slice(1))).toThrow(withCode('SETTINGS_CHAIN'));
});
