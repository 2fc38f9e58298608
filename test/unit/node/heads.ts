import type { Head } from '../../../protocol/messages.ts';
import { signerFromSeed } from '../../../protocol/signing.ts';

export const SELF = signerFromSeed(new Uint8Array(32).fill(1)).peerId;
export const OTHER = signerFromSeed(new Uint8Array(32).fill(2)).peerId;
export const JOB = 'a'.repeat(64);

/** Returns a digest that is unique for its kind and number. */
export function digest(kind: string, number: number): string {
  return Buffer.from(`${kind}-${number}`).toString('hex').padEnd(64, '0').slice(0, 64);
}

export interface HeadPlan {
  sequence: number;
  round: number;
  /** The round that made the checkpoint. @default round − 1 */
  checkpoint?: number;
  phase?: Head['phase'];
  /** @default true */
  assigned?: boolean;
  included?: string[];
  term?: number;
}

export function makeHead({ sequence, round, phase = 'training', assigned = true, ...plan }: HeadPlan): Head {
  const { checkpoint = round - 1, included = [], term = 1 } = plan;
  return {
    job: JOB,
    term,
    sequence,
    phase,
    round,
    checkpoint: {
      digest: digest('checkpoint', checkpoint),
      round: checkpoint,
      ordinal: checkpoint,
      adapter: { digest: digest('adapter', checkpoint), size: 8 },
      delta: null,
      heldOutLoss: null,
    },
    preset: 'dense',
    assignments: phase === 'training' && assigned ? [{ peer: SELF, start: 0, end: 8, steps: 2 }] : [],
    deadlineMs: 1000,
    included: included.map((update) => ({ peer: SELF, update })),
    reason: '',
    issuedAt: 0,
  };
}
