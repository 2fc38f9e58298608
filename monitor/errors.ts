import { defineErrors } from '../common/errors.ts';

export const monitorError = defineErrors({
  LOG_LEVEL: { kind: 'usage', next: 'use debug, info, warn or error, as in "info,gossip=debug"' },
});
