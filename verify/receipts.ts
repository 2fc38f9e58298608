import { z } from 'zod';
import { isSwarmError } from '../common/errors.ts';
import { digestSchema, peerIdSchema } from '../protocol/ids.ts';
import { counts } from '../protocol/receipts.ts';
import { type Verified, verifyMessage } from '../protocol/signing.ts';
import { verifyError } from './errors.ts';
import { checkWanted, type WantedJob } from './wanted-job.ts';

/**
 * Maximum size of a file of receipts, in bytes. A thousand receipts, the most that a coordinator writes, take 1 MB. The
 * manifest takes at most 350 kB.
 */
export const RECEIPTS_FILE_BYTES = 4 * 1024 * 1024;

const fileSchema = z.object({
  schemaVersion: z.literal(2),
  type: z.literal('lora-swarm-receipts'),
  job: digestSchema,
  name: z.string(),
  coordinator: peerIdSchema,
  /** Signed manifest of the job. Its digest is the id of the job, and its author is the coordinator. */
  manifest: z.base64(),
  peer: peerIdSchema,
  receipts: z.array(z.base64()),
});

/** A file of version 1, which has no manifest. */
const oldFileSchema = fileSchema.omit({ manifest: true }).extend({ schemaVersion: z.literal(1) });

/**
 * Signed receipts of a node, as the public page of a coordinator offers them. Job, coordinator and node are claims of
 * the file. The manifest must confirm job and coordinator, and each receipt must confirm all three.
 */
export type ReceiptsFile = z.infer<typeof fileSchema>;

/** Result of checking the receipts of a node. */
export interface ReceiptsReport {
  /** Digest of the signed manifest. */
  readonly job: string;
  /** Name of the job in the manifest. */
  readonly name: string;
  /** Peer id of the coordinator that signed the manifest. */
  readonly coordinator: string;
  /**
   * Whether the manifest names its coordinator. The manifest of an older job does not, so another coordinator can sign
   * a copy with the same digest.
   */
  readonly namesCoordinator: boolean;
  readonly peer: string;
  /** Number of updates that the coordinator accepted. */
  readonly updates: number;
  /** The first and the last round of these updates; null if there are none. */
  readonly rounds: readonly [first: number, last: number] | null;
}

/**
 * Checks a file of receipts: the coordinator signed the manifest of the job, and each receipt for this job and node.
 * Each receipt accepts an update, and no update occurs twice.
 * @throws SwarmError RECEIPTS_MALFORMED, RECEIPTS_OLD, RECEIPTS_SIGNER, JOB_DIFFERS, COORDINATOR_DIFFERS,
 *   VERIFY_RECEIPT
 */
export function verifyReceipts(text: string, wanted: WantedJob = {}): ReceiptsReport {
  const file = parse(text);
  const { coordinator, peer } = file;
  const manifest = manifestOf(file);
  checkWanted(manifest, wanted);
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
  const span = rounds.length === 0 ? null : ([rounds[0]!, rounds.at(-1)!] as const);
  const { name, coordinator: named } = manifest.message;
  const namesCoordinator = named !== undefined;
  return { job: file.job, name, coordinator, namesCoordinator, peer, updates: updates.size, rounds: span };
}

/**
 * Returns the manifest of a file. Checks that the manifest belongs to the job, and that the coordinator signed it.
 * Without this check, anyone could sign receipts for any job with their own key.
 */
function manifestOf({ manifest, job, coordinator }: ReceiptsFile): Verified<'manifest'> {
  const fail = (reason: string) =>
    verifyError('RECEIPTS_SIGNER', `the manifest in the file ${reason}`, { job, coordinator });
  let verified: Verified<'manifest'>;
  try {
    verified = verifyMessage('manifest', bytesOf(manifest));
  } catch (error) {
    if (isSwarmError(error)) throw fail(`is not valid: ${error.message}`);
    throw error;
  }
  const { author, digest } = verified;
  if (digest !== job) throw fail(`is of job ${digest}, but the receipts are for job ${job}`);
  if (author !== coordinator) throw fail(`is signed by ${author}, but the receipts by ${coordinator}`);
  return verified;
}

function bytesOf(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, 'base64'));
}

function signed(encoded: string, fail: (reason: string) => Error) {
  try {
    return verifyMessage('receipt', bytesOf(encoded));
  } catch (error) {
    if (isSwarmError(error)) throw fail(`is not valid: ${error.message}`);
    throw error;
  }
}

function parse(text: string): ReceiptsFile {
  let content: unknown;
  try {
    content = JSON.parse(text);
    return fileSchema.parse(content);
  } catch (cause) {
    if (oldFileSchema.safeParse(content).success) {
      const found =
        'the file has version 1, which does not show that the signer of the receipts runs the job';
      throw verifyError('RECEIPTS_OLD', found, {});
    }
    throw verifyError('RECEIPTS_MALFORMED', 'the file holds no receipts of a node', {}, { cause });
  }
}
