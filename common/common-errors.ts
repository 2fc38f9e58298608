import { defineErrors } from './errors.ts';

export const commonError = defineErrors({
  INTERRUPTED: 'interrupted',
  DEADLINE_EXCEEDED: 'timeout',
  FOLDER_UNUSABLE: 'refused',
  HOME_LOCKED: 'conflict',
  OUTPUT_EXISTS: 'conflict',
  STORE_FULL: { kind: 'failed', next: 'free disk space, then run the same command again' },
  USAGE: 'usage',
  WRITE_FAILED: 'failed',
});
