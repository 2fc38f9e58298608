import { defineErrors, isSwarmError, messageOf, REPORT } from '../common/errors.ts';

const ASK_OPERATOR = 'ask the operator to create the job again';

export const nodeError = defineErrors({
  POLICY_BASE: { kind: 'refused', next: 'raise --max-base, or choose another job' },
  POLICY_DISK: { kind: 'refused', next: 'raise --max-disk, or choose another job' },
  POLICY_MEMORY: { kind: 'refused', next: 'raise --max-memory, or choose another job' },
  ADAPTER_TOO_LARGE: 'failed',
  COORDINATOR_BEHIND: { kind: 'failed', next: 'wait; the node tries again automatically' },
  COPY_DAMAGED: {
    kind: 'failed',
    next: 'wait until a node with a whole copy connects, or tell the operator of the job; the status of the coordinator shows the damage',
  },
  DELTA_MISMATCH: 'failed',
  EVALUATION_BASE_BITS: {
    kind: 'refused',
    next: 'start the node with the option --base-bits that the coordinator has',
  },
  EVALUATION_BUSY: 'refused',
  EVALUATION_ENDED: 'failed',
  HEAD_MISMATCH: 'failed',
  LIMITS_DAMAGED: { kind: 'failed', next: 'correct the file, or delete it to use the default limits' },
  MANIFEST_MISMATCH: { kind: 'failed', next: 'ask the operator for a new invite' },
  EVALUATION_MEMORY: { kind: 'failed', next: 'end other programs, or start the node with fewer --base-bits' },
  NOTHING_TRAINED: { kind: 'failed', next: ASK_OPERATOR },
  CHECKPOINT_UNTRUSTED: 'failed',
  JOB_NOT_FOUND: 'notFound',
  JOB_COORDINATOR: {
    kind: 'conflict',
    next: 'if you trust the new coordinator, start another node for its invite, with an empty folder as --home',
  },
  JOB_TWICE: { kind: 'conflict', next: 'give the node one invite for each job' },
  JOB_NOT_READABLE: 'refused',
  NODE_TRAFFIC_USED: 'failed',
  NOT_EVALUATING: 'refused',
  NOT_RECALLED: 'refused',
  NOT_SCORING: 'refused',
  NO_ADDRESS: {
    kind: 'failed',
    next: 'start the node with an invite: lora-swarm node -, and paste the invite',
  },
  NO_OPEN_JOB: 'failed',
  RECEIPT_MISMATCH: 'failed',
  TRAINER_NOT_PREPARED: { kind: 'failed', next: REPORT },
  TRAINER_STOPPED: 'failed',
  UPDATE_ENDED: 'failed',
  UPDATE_EXISTS: 'conflict',
  UPDATE_UNKNOWN: 'notFound',
  WITNESS_DISK: {
    kind: 'refused',
    next: 'raise --max-disk, or delete proofs in the folder witness/ of the home',
  },
  WITNESS_MEMORY: {
    kind: 'refused',
    next: 'raise --max-memory, or verify the job on another machine with "lora-swarm verify"',
  },
  WORK_TOO_LARGE: 'failed',
  WRONG_SCALE: 'failed',
  WRONG_ADAPTER: { kind: 'failed', next: REPORT },
});

/** Advice for errors whose own advice is for a command. Unlike a command, a node tries again by itself. */
const ADVICE: Readonly<Record<string, string>> = {
  STORE_FULL: 'free disk space, and the node continues by itself',
};

/** Returns a text for people: the message of an error, followed by advice if there is any. */
export function reasonOf(error: unknown): string {
  const next = isSwarmError(error) ? (ADVICE[error.code] ?? error.next) : null;
  return next === null ? messageOf(error) : `${messageOf(error)}; ${next}`;
}

/** Returns the fields of a log line about an error. */
export function errorFields(error: unknown): object {
  const reason = reasonOf(error);
  if (!isSwarmError(error)) return { reason };
  const { code, values } = error;
  return code === 'RPC_REFUSED' ? { code, refusal: values.code, reason } : { code, reason };
}
