import { counts } from '../../protocol/receipts.ts';
import type { ReceiptsFile } from '../../verify/receipts.ts';
import type { JobRun } from '../job-run.ts';

/**
 * Maximum number of receipts that are read for one file. Each receipt is signed again, which takes about 0.05
 * ms, so a full file takes about 50 ms.
 */
const READ_RECEIPTS = 1000;

/**
 * Returns signed receipts for the newest updates of a node. Leaves out each update that, by its newest receipt, does
 * not count. Returns null if no update is left.
 */
export function receiptsFile({ context, receipts }: JobRun, peer: string): ReceiptsFile | null {
  const { job, stored, deps } = context;
  const newest = new Map<string, Parameters<typeof receipts.sign>[0]>();
  for (const receipt of deps.store.updates.receipts(job, peer, READ_RECEIPTS)) {
    if (!newest.has(receipt.digest)) newest.set(receipt.digest, receipt);
  }
  const counted = [...newest.values()].filter(({ code }) => counts(code)).sort((a, b) => a.round - b.round);
  if (counted.length === 0) return null;
  return {
    schemaVersion: 2,
    type: 'lora-swarm-receipts',
    job,
    name: stored.name,
    coordinator: deps.network.signer.peerId,
    manifest: Buffer.from(stored.manifest).toString('base64'),
    peer,
    receipts: counted.map((receipt) => Buffer.from(receipts.sign(receipt)).toString('base64')),
  };
}
