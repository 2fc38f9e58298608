import { randomBytes } from 'node:crypto';
import { decryptHead, encryptHead } from '../../protocol/access/job-key.ts';
import { type SealContext, SealingKey, seal } from '../../protocol/access/sealing.ts';
import { INLINE_UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Heartbeat } from '../../protocol/messages.ts';
import { signerFromSeed, signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { cpuMilliseconds } from './cpu-time.ts';

export const name = 'sealing';
export const about =
  'time to seal and open a message of a node, and to encrypt and decrypt a head (10 seconds)';

const JOB = 'ab'.repeat(32);
/** Size of a head with the assignments of about 100 nodes. */
const HEAD_BYTES = 16 * 1024;
/** Number of times that each measurement is made. The fastest one counts, because other load can only add time. */
const REPEATS = 7;
const MESSAGES = 500;

/**
 * Compares the cost of sealing and encryption with the cost of verifying a signature. A coordinator verifies
 * a signature for each message of a member.
 */
export async function run(report: (row: BenchRow) => void, { quick }: BenchOptions): Promise<void> {
  const signer = signerFromSeed(randomBytes(32));
  const key = new SealingKey(randomBytes(32));
  const context: SealContext = { kind: 'heartbeat', job: JOB, author: signer.peerId };
  const idle = { round: 1, step: 1, steps: 9, tokensPerSecond: 1000, bytesSent: 1e6, bytesReceived: 1e6 };
  const about = {
    job: JOB,
    name: 'otter',
    agent: 'lora-swarm/0',
    engine: 'onnx-cpu',
    state: 'training',
  } as const;
  const signed = signMessage('heartbeat', { ...about, ...idle, issuedAt: 1 } satisfies Heartbeat, signer);
  const update = randomBytes(INLINE_UPDATE_BYTES);
  const sealed = seal(signed, key.publicKey, context, randomBytes(32));
  const sealedUpdate = seal(update, key.publicKey, context, randomBytes(32));
  const head = randomBytes(HEAD_BYTES);
  const jobKey = { id: 1, key: randomBytes(32) };
  const encrypted = encryptHead(head, JOB, jobKey, randomBytes(12));
  const measure = (what: string, once: () => void): void => {
    const count = quick ? 10 : MESSAGES;
    let best = Number.POSITIVE_INFINITY;
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      const start = cpuMilliseconds();
      for (let i = 0; i < count; i++) once();
      best = Math.min(best, (cpuMilliseconds() - start) / count);
    }
    const reference = `the fastest of ${REPEATS} times ${count} messages`;
    report({
      name: `sealing ${what}`,
      value: best * 1000,
      unit: 'CPU µs',
      target: null,
      met: null,
      reference,
    });
  };
  measure('verify a heartbeat', () => verifyMessage('heartbeat', signed));
  measure('seal a heartbeat', () => seal(signed, key.publicKey, context, randomBytes(32)));
  measure('open a heartbeat', () => key.open(sealed, context));
  measure('seal 256 KiB', () => seal(update, key.publicKey, context, randomBytes(32)));
  measure('open 256 KiB', () => key.open(sealedUpdate, context));
  measure('encrypt a head of 16 KiB', () => encryptHead(head, JOB, jobKey, randomBytes(12)));
  measure('decrypt a head of 16 KiB', () => decryptHead(encrypted, JOB, jobKey));
}
