import { defineErrors } from '../../../common/errors.ts';

export const hubError = defineErrors({
  HUB_BUSY: 'conflict',
  HUB_CACHE_MISSING: {
    kind: 'notFound',
    next: 'unset HF_HUB_OFFLINE, or fetch the model once on a machine with a network',
  },
  HUB_DAMAGED: { kind: 'failed', next: 'try again later, and check whether a proxy changes files' },
  HUB_DISK_FULL: {
    kind: 'failed',
    next: 'free disk space, or set HF_HUB_CACHE to a larger disk; files that are complete will not be fetched again',
  },
  HUB_FILE_MISSING: {
    kind: 'notFound',
    next: 'look at the files of the repository on the hub, and choose another revision (NAME@REVISION) or another repository',
  },
  HUB_GATED: 'refused',
  HUB_NOT_FOUND: 'notFound',
  HUB_RATE_LIMITED: {
    kind: 'timeout',
    next: 'try again later, or set HF_TOKEN, because a hub allows more requests with a token',
  },
  HUB_RESPONSE: { kind: 'failed', next: 'check HF_ENDPOINT; if it is right, try again later' },
  HUB_REVISION_NOT_FOUND: 'notFound',
  HUB_TOKEN_MISSING: {
    kind: 'refused',
    next: 'create a token with write access on the hub, and set HF_TOKEN to it',
  },
  HUB_TOO_LARGE: { kind: 'failed', next: 'choose another repository' },
  HUB_UNAUTHORIZED: { kind: 'refused', next: 'create a new token with read access, and set HF_TOKEN to it' },
  HUB_UNAVAILABLE: { kind: 'timeout', next: 'try again later; the download will continue where it stopped' },
  HUB_UNREACHABLE: {
    kind: 'timeout',
    next: 'check the network; a model that is in the cache can be used without a network',
  },
});
