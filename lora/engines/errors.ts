import { defineErrors, REPORT } from '../../common/errors.ts';

export const engineError = defineErrors({
  ENGINE_COMPILE: {
    kind: 'internal',
    next: `if a GPU ran out of memory, retry with --engine onnx-cpu, which uses system memory; otherwise ${REPORT}`,
  },
  ENGINE_DISPOSED: { kind: 'internal', next: REPORT },
  ENGINE_EXHAUSTED: { kind: 'failed', next: 'start a new process and run the same command again' },
  ENGINE_FEED: { kind: 'internal', next: REPORT },
  ENGINE_RUN: {
    kind: 'internal',
    next: `if a GPU ran out of memory, retry with --engine onnx-cpu, which uses system memory; otherwise ${REPORT}`,
  },
  ENGINE_THREADS: { kind: 'failed', next: 'set --threads to a whole number of at least 1' },
  ENGINE_UNAVAILABLE: {
    kind: 'failed',
    next: 'run "lora-swarm doctor" to see what each engine lacks, or use --engine auto, which takes the fastest that runs',
  },
  ENGINE_UNKNOWN: 'usage',
  ENGINE_WEIGHTS: { kind: 'failed', next: REPORT },
  PRECISION: 'usage',
});
