import { defineErrors, REPORT } from '../common/errors.ts';

export const verifyError = defineErrors({
  BASE_DIFFERS: { kind: 'refused', next: 'name the folder of the base of this job with --model' },
  BUNDLE_INCOMPLETE: {
    kind: 'failed',
    next: 'use the bundle for all other checks, or connect a node that has these files and write another bundle',
  },
  BUNDLE_MALFORMED: {
    kind: 'failed',
    next: 'get the file again; it is incomplete, damaged, or not a bundle of a job',
  },
  BUNDLE_CHANGED: { kind: 'failed', next: 'run the same command again' },
  BUNDLE_TOO_LARGE: 'failed',
  COORDINATOR_DIFFERS: { kind: 'refused', next: 'check the peer id of the coordinator with its operator' },
  HELD_OUT_DIFFERS: {
    kind: 'refused',
    next: 'use the job file and the data files with which the job was created',
  },
  JOB_DIFFERS: { kind: 'refused', next: 'check the digest of the job with its operator' },
  RECEIPTS_MALFORMED: {
    kind: 'failed',
    next: 'get the file again, from the public page of the coordinator',
  },
  RECEIPTS_OLD: {
    kind: 'failed',
    next: 'download the file again; if it still has version 1, ask the operator of the coordinator to update lora-swarm',
  },
  RECEIPTS_SIGNER: {
    kind: 'failed',
    next: 'get the file again, from the public page of the coordinator; this file proves nothing, because anyone can make it',
  },
  RECORD_INCOMPLETE: { kind: 'failed', next: 'get a bundle of the job from its operator' },
  ROUND_UNKNOWN: { kind: 'notFound', next: 'begin at an earlier round' },
  ROWS_DIFFER: {
    kind: 'refused',
    next: 'use the job file and the data files with which the job was created',
  },
  SCORES_UNMEASURED: 'failed',
  VERIFIER_DIED: { kind: 'failed', next: 'if memory ran out, close other programs' },
  VERIFIER_FAILED: { kind: 'internal', next: REPORT },
  VERIFY_BLOB: {
    kind: 'failed',
    next: 'get the file from another source, because these bytes are damaged and do not show who damaged them',
  },
  VERIFY_CHAIN: 'disproved',
  VERIFY_CONTRIBUTOR: 'disproved',
  VERIFY_FIGURES: 'disproved',
  VERIFY_HEAD: 'disproved',
  VERIFY_LOSS: {
    kind: 'failed',
    next: 'measure the loss again on another machine, or with SWARM_ENGINE=onnx-cpu. One different measurement does not prove that the coordinator signed a wrong loss',
  },
  VERIFY_MERGE: 'disproved',
  VERIFY_METRICS: 'disproved',
  VERIFY_RECEIPT: {
    kind: 'failed',
    next: 'get the record from another source, because a coordinator can sign several receipts for an update, and the source chooses one',
  },
  VERIFY_ROLLBACK: 'disproved',
  VERIFY_SCORES: {
    kind: 'failed',
    next: 'measure the scores again on another machine, or with SWARM_ENGINE=onnx-cpu. One different measurement does not prove that the coordinator signed wrong scores',
  },
  VERIFY_SETTINGS: 'disproved',
  VERIFY_SIGNATURE: {
    kind: 'failed',
    next: 'get the record from another source, because a message without a valid signature does not show who made it',
  },
  VERIFY_SOURCE: {
    kind: 'failed',
    next: 'get the record from another source, because this record lacks a part, or has a part that no signature covers',
  },
  VERIFY_WEIGHT: 'disproved',
});

/** Code of a problem that a verification can find. */
export type ProblemCode = Extract<keyof typeof verifyError.table, `VERIFY_${string}`>;
