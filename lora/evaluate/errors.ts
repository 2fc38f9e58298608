import { defineErrors } from '../../common/errors.ts';

export const evaluateError = defineErrors({
  EVALUATE_EMPTY: { kind: 'failed', next: 'use rows of at least two tokens' },
});
