import { defineErrors, REPORT } from '../../common/errors.ts';

export const trainError = defineErrors({
  ADAPTER_SHAPE: 'failed',
  GRADIENT_NOT_FINITE: {
    kind: 'failed',
    next: 'start over with a lower --learning-rate, a longer --warmup or a smaller --clip-norm, because --resume would fail at the same step. If there is an earlier checkpoint, it is a usable adapter',
  },
  OPTIMIZER_STATE: { kind: 'failed', next: 'start training again without this state' },
  PROBE_FAILED: { kind: 'internal', next: REPORT },
  TRAINER_ABORTED: 'failed',
  TRAINER_DIED: {
    kind: 'failed',
    next: 'if memory ran out, end other programs, or use --base-bits 4, which needs less memory',
  },
  TRAINER_FAILED: { kind: 'internal', next: REPORT },
  TRAINER_NOT_STARTED: { kind: 'internal', next: REPORT },
});
