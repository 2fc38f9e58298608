import type * as Sqlite from 'node:sqlite';
import { nodeTooOld } from './node-version.ts';

export type DatabaseSync = Sqlite.DatabaseSync;

// Node.js before version 22.5 has no SQLite. A static import would then fail with a message that names no version.
const sqlite = process.getBuiltinModule?.('node:sqlite');
if (sqlite === undefined) throw nodeTooOld(process.versions.node);

/** The class of Node.js for SQLite databases. */
export const { DatabaseSync } = sqlite;
