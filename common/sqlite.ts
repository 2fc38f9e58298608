import type * as Sqlite from 'node:sqlite';
import { commonError } from './common-errors.ts';

export type DatabaseSync = Sqlite.DatabaseSync;

// Node.js before version 22.5 has no SQLite. A static import would then fail with a message that names no version.
const sqlite = process.getBuiltinModule?.('node:sqlite');
if (sqlite === undefined) {
  const found = process.versions.node;
  throw commonError('NODE_VERSION', `this is Node.js ${found}, but lora-swarm needs 22.18 or newer`, {
    found,
  });
}

/** SQLite's database of Node.js. */
export const { DatabaseSync } = sqlite;
