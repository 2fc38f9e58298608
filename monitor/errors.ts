import { defineErrors } from '../common/errors.ts';

export const monitorError = defineErrors({
  HOST_REFUSED: { kind: 'refused', next: 'use the host name 127.0.0.1' },
  LOG_LEVEL: {
    kind: 'usage',
    next: 'use debug, info, warn or error, also for the modules net and trainer, as in "info,net=debug"',
  },
  TRACKER_REFUSED: { kind: 'refused', next: 'check the token and the rights on the tracking server' },
  TRACKER_UNREACHABLE: { kind: 'failed', next: 'start the tracking server, or correct its address' },
  UNAUTHORISED: {
    kind: 'refused',
    next: 'send the token from the file api-token in the home folder as a bearer token',
  },
});
