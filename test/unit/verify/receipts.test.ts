import { beforeAll, describe, expect, test } from 'vitest';
import { receiptsFile } from '../../../coordinator/public/receipts-file.ts';
import type { Receipt } from '../../../protocol/messages.ts';
import { type Signer, signerFromSeed, signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { type ReceiptsFile, verifyReceipts } from '../../../verify/receipts.ts';
import { withCode } from '../../utils/source/codes.ts';
import { COORDINATOR } from '../coordinator/world.ts';
import { flipped, playedJob } from './forged-job.ts';

const FORGER = signerFromSeed(new Uint8Array(32).fill(77));

let file: ReceiptsFile;
beforeAll(async () => {
  const { swarm, kept } = await playedJob();
  const { contributors } = verifyMessage('checkpoint', kept.records.at(-1)!.checkpoint).message;
  file = receiptsFile(swarm.world.run, contributors[0]!.peer)!;
});

const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'));
const base64 = (content: Uint8Array) => Buffer.from(content).toString('base64');
const verified = (changes: Partial<ReceiptsFile> = {}) =>
  verifyReceipts(JSON.stringify({ ...file, ...changes }));

/** Returns the file as a forger with another key would make it. */
function signedBy(signer: Signer, change: Partial<Receipt> = {}): Partial<ReceiptsFile> {
  const receipts = file.receipts.map((one) => {
    const { message } = verifyMessage('receipt', bytes(one));
    return base64(signMessage('receipt', { ...message, ...change }, signer));
  });
  return { coordinator: signer.peerId, receipts };
}

describe('a file of receipts', () => {
  test('shows the updates that the coordinator of the job accepted', () => {
    expect(verified()).toMatchObject({
      ...{ job: file.job, coordinator: COORDINATOR.peerId, name: 'toy', peer: file.peer },
      ...{ namesCoordinator: true, updates: 3, rounds: [1, 3] },
    });
  });

  test('takes the name of the job from the manifest', () => {
    expect(verified({ name: 'another' }).name).toBe('toy');
  });

  test('is refused if its receipts are signed with another key than the manifest of the job', () => {
    expect(() => verified(signedBy(FORGER))).toThrow(withCode('RECEIPTS_SIGNER'));
  });

  test('is refused if the forger signed the manifest of the job too', () => {
    const { message } = verifyMessage('manifest', bytes(file.manifest));
    const manifest = base64(signMessage('manifest', message, FORGER));
    expect(() => verified({ ...signedBy(FORGER), manifest })).toThrow(withCode('RECEIPTS_SIGNER'));
  });

  test('of an older job, whose manifest names no coordinator, can be checked against a peer id', () => {
    const { coordinator: _, ...older } = verifyMessage('manifest', bytes(file.manifest)).message;
    const manifest = signMessage('manifest', older, FORGER);
    const job = verifyMessage('manifest', manifest).digest;
    const forged = { ...signedBy(FORGER, { job }), job, manifest: base64(manifest) };
    expect(verified(forged)).toMatchObject({ coordinator: FORGER.peerId, namesCoordinator: false });
    expect(() =>
      verifyReceipts(JSON.stringify({ ...file, ...forged }), { job, coordinator: COORDINATOR.peerId }),
    ).toThrow(withCode('COORDINATOR_DIFFERS'));
  });

  test('is refused if the manifest is of another job, damaged or missing', () => {
    const { message } = verifyMessage('manifest', bytes(file.manifest));
    const other = base64(signMessage('manifest', { ...message, name: 'other' }, COORDINATOR));
    for (const manifest of [other, base64(flipped(bytes(file.manifest))), ''])
      expect(() => verified({ manifest })).toThrow(withCode('RECEIPTS_SIGNER'));
  });

  test('of version 1 is refused with the advice to download it again', () => {
    const { manifest: _, ...old } = file;
    const check = () => verifyReceipts(JSON.stringify({ ...old, schemaVersion: 1 }));
    expect(check).toThrow(withCode('RECEIPTS_OLD'));
    expect(check).toThrow(expect.objectContaining({ next: expect.stringContaining('download') }));
  });
});
