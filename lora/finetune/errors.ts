import { defineErrors } from '../../common/errors.ts';

export const finetuneError = defineErrors({
  DEVICES_IDLE: 'failed',
  DOES_NOT_FIT: 'failed',
  JOB_FILE_MISSING: { kind: 'notFound', next: 'check the path' },
  JOB_PATH_MISSING: 'notFound',
  JOB_SPEC: 'usage',
  MEMORY_SHORT: 'failed',
  OUTPUT_BUSY: 'conflict',
  PARTIAL_NOT_KEPT: 'failed',
  RATE_JUMPS: 'failed',
  RESUME_CONFLICT: 'conflict',
  SETTING_IDLE: 'failed',
  TRAIN_CHECKPOINT: 'failed',
  WARMUP_TOO_LONG: 'failed',
});
