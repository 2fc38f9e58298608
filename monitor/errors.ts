import { defineErrors } from '../common/errors.ts';

export const monitorError = defineErrors({
  LOG_LEVEL: 'usage',
});
