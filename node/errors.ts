import { defineErrors } from '../common/errors.ts';

export const nodeError = defineErrors({
  POLICY_BASE: 'refused',
  POLICY_DISK: 'refused',
  POLICY_MEMORY: 'refused',
  ADAPTER_TOO_LARGE: 'failed',
  DATA_MISMATCH: 'failed',
  DELTA_MISMATCH: 'failed',
  HEAD_MISMATCH: 'failed',
  MANIFEST_MISMATCH: 'failed',
  NOTHING_TRAINED: 'failed',
  NO_ADDRESS: 'failed',
  NO_OPEN_JOB: 'failed',
  RECEIPT_MISMATCH: 'failed',
  TRAINER_NOT_PREPARED: 'failed',
  TRAINER_STOPPED: 'failed',
  UPDATE_ENDED: 'failed',
  UPDATE_EXISTS: 'conflict',
  UPDATE_UNKNOWN: 'notFound',
  WORK_TOO_LARGE: 'failed',
  WRONG_ADAPTER: 'failed',
});
