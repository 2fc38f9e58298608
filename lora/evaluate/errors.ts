import { defineErrors } from '../../common/errors.ts';

export const evaluateError = defineErrors({
  EVALUATE_EMPTY: 'failed',
});
