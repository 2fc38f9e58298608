import { defineErrors, REPORT } from './errors.ts';

export const commonError = defineErrors({
  CALL_MALFORMED: { kind: 'internal', next: REPORT },
  INTERRUPTED: 'interrupted',
  DEADLINE_EXCEEDED: 'timeout',
  FOLDER_UNUSABLE: 'refused',
  FOLDER_LOCKED: { kind: 'conflict', next: 'stop that process, or choose another folder' },
  HOME_LOCKED: { kind: 'conflict', next: 'stop that process, or choose another folder with --home' },
  LISTEN_FAILED: {
    kind: 'conflict',
    next: 'check that the address belongs to this machine and the port is free, or use port 0',
  },
  NODE_VERSION: {
    kind: 'refused',
    next: 'install a newer Node.js, for example with "npm install -g node@24"',
  },
  LOCK_UNUSABLE: {
    kind: 'refused',
    next: 'check that no daemon uses the folder, and delete the file; it has no content of value',
  },
  OUTPUT_EXISTS: 'conflict',
  STORE_FULL: { kind: 'failed', next: 'free disk space, then run the same command again' },
  USAGE: 'usage',
  WRITE_FAILED: 'failed',
});
