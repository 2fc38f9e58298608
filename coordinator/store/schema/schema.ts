import type { Schema } from '../../../storage/database.ts';
import { JOB_TABLES } from './job-tables.ts';
import { PEER_TABLES } from './peer-tables.ts';
import { ROUND_TABLES } from './round-tables.ts';

/**
 * The tables of a coordinator's database. Times are in milliseconds since the epoch, digests are in lower-case hex, and
 * peers are peer ids. Signed messages are kept with their signatures.
 */
export const SCHEMA: Schema = { version: 31, sql: `${JOB_TABLES}${ROUND_TABLES}${PEER_TABLES}` };
