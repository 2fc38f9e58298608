import type { Migration } from '../../../storage/database.ts';
import { listBlobs } from './blob-migration.ts';
import { FIRST_TABLES } from './first-tables.ts';
import {
  FAILED_SWEEPS,
  JOB_KEYS,
  JOB_SAMPLES,
  JOB_SETTINGS,
  JOB_TASKS,
  PAUSE_CAUSES,
  QUEUE,
  ROLL_BACK_REASONS,
  ROLL_BACK_REQUESTS,
  ROLL_BACKS,
  STOP_ORDERS,
  STOP_PROOFS,
  SWEEPS,
  UPDATE_INDEXES,
} from './job-tables.ts';
import {
  GOODBYES,
  INVITES,
  LAST_SIGNS,
  PEER_ROLES,
  REMOVED_PEERS,
  SHARED_INVITE_USES,
} from './peer-tables.ts';
import {
  AUDITS,
  BAD_PAYLOADS,
  CONFLICTS,
  EXACT_EFFECTS,
  LIKENESSES,
  SCORE_SOURCES,
  SCORES,
  STRIKES_AND_BANS,
} from './trust-tables.ts';
import { WEBHOOKS } from './webhook-tables.ts';

/**
 * The store's schema, one entry per version. A released entry never changes. Times are in milliseconds since the epoch,
 * digests are in lower-case hex, and peers are peer ids. Signed messages are kept with their signatures.
 */
export const MIGRATIONS: readonly Migration[] = [
  FIRST_TABLES,
  listBlobs,
  GOODBYES,
  LIKENESSES,
  UPDATE_INDEXES,
  CONFLICTS,
  SCORES,
  PEER_ROLES,
  INVITES,
  ROLL_BACKS,
  ROLL_BACK_REQUESTS,
  STRIKES_AND_BANS,
  JOB_KEYS,
  EXACT_EFFECTS,
  AUDITS,
  BAD_PAYLOADS,
  QUEUE,
  JOB_SETTINGS,
  JOB_TASKS,
  SWEEPS,
  FAILED_SWEEPS,
  WEBHOOKS,
  PAUSE_CAUSES,
  JOB_SAMPLES,
  REMOVED_PEERS,
  SCORE_SOURCES,
  ROLL_BACK_REASONS,
  LAST_SIGNS,
  STOP_ORDERS,
  STOP_PROOFS,
  SHARED_INVITE_USES,
];
