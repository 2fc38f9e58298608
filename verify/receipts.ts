import { z } from 'zod';
import { isSwarmError } from '../common/errors.ts';
import { digestSchema, peerIdSchema } from '../protocol/ids.ts';
import { counts } from '../protocol/receipts.ts';
import { verifyMessage } from '../protocol/signing.ts';
import { verifyError } from './errors.ts';

/** Maximum size of a file of receipts, in bytes. A thousand receipts, the most that a coordinator writes, take 1 MB. */
export const RECEIPTS_FILE_BYTES = 4 * 1024 * 1024;

const fileSchema = z.object({
  schemaVersion: z.literal(1),
  type: z.literal('lora-swarm-receipts'),
  job: digestSchema,
  name: z.string(),
  coordinator: peerIdSchema,
  peer: peerIdSchema,
  receipts: z.array(z.base64()),
});

/**
 * Signed receipts of a node, as the public page of a coordinator offers them. Job, coordinator and node are claims of
 * the file, which each receipt must confirm.
 */
export type ReceiptsFile = z.infer<typeof fileSchema>;

/** Result of checking the receipts of a node. */
export interface ReceiptsReport {
  readonly job: string;
  readonly name: string;
  readonly coordinator: string;
  readonly peer: string;
  /** Number of updates that the coordinator accepted. */
  readonly updates: number;
  /** The first and the last round of these updates; null if there are none. */
  readonly rounds: readonly [first: number, last: number] | null;
}

/**
 * Checks a file of receipts: the coordinator signed each receipt for this job and node, each receipt accepts an update,
 * and no update occurs twice.
 * @param options `job`: digest that the job must have; null for any job
 * @throws SwarmError RECEIPTS_MALFORMED, JOB_DIFFERS, VERIFY_RECEIPT
 */
export function verifyReceipts(text: string, { job = null }: { job?: string | null } = {}): ReceiptsReport {
  const file = parse(text);
  const { coordinator, peer } = file;
  if (job !== null && file.job !== job) {
    const found = `the receipts are of job ${file.job}, not of job ${job}`;
    throw verifyError('JOB_DIFFERS', found, { job: file.job, expected: job });
  }
  const updates = new Set<string>();
  const rounds: number[] = [];
  for (const [i, encoded] of file.receipts.entries()) {
    const fail = (reason: string) =>
      verifyError('VERIFY_RECEIPT', `receipt ${i + 1} ${reason}`, { receipt: i + 1, peer });
    const { author, message } = signed(encoded, fail);
    if (author !== coordinator) throw fail(`is signed by ${author}, not by the coordinator`);
    if (message.job !== file.job) throw fail(`is of job ${message.job}`);
    if (message.peer !== peer) throw fail(`is of node ${message.peer}`);
    if (!counts(message.code)) throw fail(`has the code ${message.code}, so its update does not count`);
    if (updates.has(message.update)) throw fail(`repeats the update ${message.update}`);
    updates.add(message.update);
    rounds.push(message.round);
  }
  rounds.sort((a, b) => a - b);
  const { name } = file;
  const span = rounds.length === 0 ? null : ([rounds[0]!, rounds.at(-1)!] as const);
  return { job: file.job, name, coordinator, peer, updates: updates.size, rounds: span };
}

function signed(encoded: string, fail: (reason: string) => Error) {
  try {
    return verifyMessage('receipt', new Uint8Array(Buffer.from(encoded, 'base64')));
  } catch (error) {
    if (isSwarmError(error)) throw fail(`is not valid: ${error.message}`);
    throw error;
  }
}

function parse(text: string): ReceiptsFile {
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw verifyError('RECEIPTS_MALFORMED', 'the file holds no receipts of a node', {}, { cause });
  }
}
