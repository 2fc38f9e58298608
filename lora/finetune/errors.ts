import { defineErrors } from '../../common/errors.ts';

export const finetuneError = defineErrors({
  DEVICES_IDLE: 'failed',
  DOES_NOT_FIT: 'failed',
  JOB_FILE_MISSING: { kind: 'notFound', next: 'check the path' },
  JOB_PATH_MISSING: 'notFound',
  JOB_SPEC: {
    kind: 'usage',
    next: 'correct these settings. "lora-swarm job create FILE --dry-run" checks a job file and prints all its settings',
  },
  MEMORY_SHORT: 'failed',
  NOTHING_TO_RESUME: 'notFound',
  OUTPUT_BUSY: { kind: 'conflict', next: 'wait until it ends, stop it, or choose another folder' },
  PARTIAL_NOT_KEPT: {
    kind: 'failed',
    next: 'remove the cause, such as a full disk, then continue the run with --resume',
  },
  RATE_JUMPS: {
    kind: 'failed',
    next: 'if the learning rate should not jump, train with the new number of steps into another folder',
  },
  RESUME_CONFLICT: 'conflict',
  SETTING_IDLE: 'failed',
  TRAIN_CHECKPOINT: {
    kind: 'failed',
    next: 'you may delete the folder of this checkpoint; the run uses the previous checkpoint',
  },
  WARMUP_TOO_LONG: {
    kind: 'failed',
    next: 'use --warmup-ratio 0.1 or a lower --warmup (in a job or config file, training.warmupRatio and training.warmupSteps)',
  },
});
