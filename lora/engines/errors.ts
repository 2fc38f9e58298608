import { defineErrors, REPORT } from '../../common/errors.ts';

export const engineError = defineErrors({
  ENGINE_COMPILE: {
    kind: 'internal',
    next: `if a GPU ran out of memory, retry with --engine onnx-cpu (system memory); else ${REPORT}`,
  },
  ENGINE_DISPOSED: { kind: 'internal', next: REPORT },
  ENGINE_FEED: { kind: 'internal', next: REPORT },
  ENGINE_RUN: {
    kind: 'internal',
    next: `if a GPU ran out of memory, retry with --engine onnx-cpu (system memory); else ${REPORT}`,
  },
  ENGINE_THREADS: 'failed',
  ENGINE_UNAVAILABLE: {
    kind: 'failed',
    next: '"swarm doctor" shows what each engine lacks; --engine auto takes the fastest one that runs',
  },
  ENGINE_UNKNOWN: 'usage',
  ENGINE_WEIGHTS: 'failed',
  PRECISION: 'usage',
});
