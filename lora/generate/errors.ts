import { defineErrors, REPORT } from '../../common/errors.ts';

export const generateError = defineErrors({
  GENERATE_ADAPTER: { kind: 'notFound', next: 'load the adapter first' },
  GENERATE_BUSY: { kind: 'refused', next: 'send the request again later' },
  GENERATE_TOO_LONG: { kind: 'usage', next: 'shorten the prompt' },
  GENERATOR_CLOSED: { kind: 'failed', next: 'open the generator again' },
  GENERATOR_DIED: {
    kind: 'failed',
    next: 'if memory ran out, use --base-bits 8 or 4, a shorter context or fewer requests at once',
  },
  GENERATOR_FAILED: { kind: 'internal', next: REPORT },
});
