import { defineErrors } from '../../../common/errors.ts';

export const hubError = defineErrors({
  HUB_BUSY: 'conflict',
  HUB_CACHE_MISSING: 'notFound',
  HUB_DAMAGED: 'failed',
  HUB_DISK_FULL: 'failed',
  HUB_FILE_MISSING: 'notFound',
  HUB_GATED: 'refused',
  HUB_NOT_FOUND: 'notFound',
  HUB_RATE_LIMITED: 'timeout',
  HUB_RESPONSE: 'failed',
  HUB_REVISION_NOT_FOUND: 'notFound',
  HUB_UNAUTHORIZED: 'refused',
  HUB_UNAVAILABLE: 'timeout',
  HUB_UNREACHABLE: {
    kind: 'timeout',
    next: 'check the address, and that the other machine is up and its port is open',
  },
});
