import { safeText } from '../../common/text.ts';
import type { Role } from '../../storage/daemon-home.ts';

/** Warnings that daemons do not print, because other lines of the terminal say the same. */
const SHOWN_ELSEWHERE: Readonly<Record<Role, ReadonlySet<string>>> = {
  node: new Set([
    'peer-unreachable',
    'join-failed',
    'standing-changed',
    'shut-out',
    'home-made-private',
    'clock-set',
  ]),
  // The terminal shows a line for each event of a job, and most of these warnings belong to such an event.
  coordinator: new Set([
    'addresses-private',
    'home-made-private',
    'rolled-back',
    'null-round',
    'struck',
    'suspended',
    'banned',
    'pardoned',
    'shared-fault',
    'caught-up',
    'clock-set',
    'blob-damaged',
    'blob-repaired',
    'scoring-failed',
    'scorer-failed',
    'scorer-wrong',
    'tasks-not-evaluated',
    'not-sampled',
    'update-refused',
    'sweep-failed',
  ]),
};

/** Texts for warnings whose name in the log does not explain itself. */
const WORDS: Readonly<Record<string, string>> = {
  'jobs-left-out': 'not working for other jobs of this home',
  'memory-above-limit': 'takes more memory than the limit',
  'sync-failed': 'could not fetch the adapter',
  'train-failed': 'training failed',
  'build-update-failed': 'could not make the update',
  'trainer-restarted': 'the trainer process ended and was started again',
  'device-lost': 'a device failed',
  'poll-failed': 'asked the coordinator for the newest round, without an answer',
  'ask-failed': 'asked the coordinator for a receipt, without an answer',
  'submit-failed': 'could not send an update',
  'heartbeat-failed': 'could not send a heartbeat',
  'leave-failed': 'could not tell the coordinator that this node leaves',
  'update-forgotten': 'the coordinator has an update of this node that is not in the home of the node',
  'offer-to-score-not-taken': '--score has no effect, because the role of the invite is not operator',
  'witness-failed': 'could not verify a checkpoint',
  'witness-scores-unmeasured': 'could not measure the scores of a checkpoint',
  'witness-found-problem': 'the verification of a checkpoint found a problem',
  'blob-damaged': 'a file on the disk was damaged; the node fetches it again',
  'scrub-failed': 'could not check the files on the disk',
  'traffic-not-stored': 'could not store the traffic of this month',
  'validator-restarted': 'the process that evaluates checkpoints ended and was started again',
  'scorer-unchecked': 'this machine could not check the figures of a node',
  'tasks-not-sent': 'the tasks could not be sent to a node, so this machine evaluates the checkpoint',
  'two-updates-signed': 'a node has signed two updates for one round',
  'later-head-claimed':
    'a node says that it has a later head of a job than this coordinator; the coordinator asks nodes for proof',
  'no-later-head-proven':
    'no node could prove a later head, so the job continues from the head of this coordinator',
  'not-caught-up': 'could not continue a job from the later head that nodes have',
  'held-behind-nodes':
    'a job stays held, because nodes have proven a later head that this coordinator could not restore',
  'another-copy-runs': 'another copy of this coordinator has taken over a job, so the job is paused here',
  'removals-restored': 'bans and revoked invites that the database lacked were restored from nodes',
  'lost-checkpoints-restored':
    'nodes had checkpoints that were missing after the restore of an old backup, and the database has them again',
  'last-signs-not-stored': 'could not store when the nodes were last seen',
  'removals-unreadable': 'a record of bans and revoked invites that a node keeps could not be read',
  'files-set-aside': 'the database is missing, so the files that belong to it were moved aside',
  'checkpoints-set-aside': 'checkpoints that are newer than the database were moved aside',
  'lowest-checkpoint-lost': 'the checkpoint with the lowest loss is damaged or missing',
  'residual-lost': 'the residual of a delta was lost and is replaced by zeros',
  'update-not-taken': 'an update that arrived over gossip was not taken',
  'heartbeat-refused': 'the clock of a node is wrong, so its heartbeat was refused',
  'payload-lost': 'an update of this node is damaged or missing on its disk, so it cannot be sent again',
  'error-feedback-lost': 'the error feedback of this node was lost and begins at zero',
  'optimizer-state-lost': 'the moments of the optimizer were lost and begin at zero',
  'stored-adapter-rejected': 'an adapter on the disk was damaged; the node fetches it again',
  'trainer-not-ended': 'could not end a trainer process to free its memory',
  'machine-not-read': 'could not read how busy the machine is',
  'drain-cut-short': 'stopped before the coordinator had answered for all updates',
  'stop-cut-short': 'stopped before all work had ended',
  'stop-step-failed': 'a part of the shutdown failed',
  'gossip-silent': 'no gossip arrives from a peer, so the node connects to it again',
  'job-not-published': 'the adapter of a finished job could not be added to the registry',
  'webhook-private':
    'a webhook gets no messages, because its URL leads to this machine or to a private network',
  'webhook-failed': 'a message to a webhook was not delivered, and is sent again later',
  'webhook-given-up': 'a message to a webhook was not delivered, and is not sent again',
};

/** Warnings about a failed request to the coordinator. They say nothing new while the connection is lost. */
const CONTACT = new Set(['poll-failed', 'ask-failed', 'submit-failed', 'heartbeat-failed', 'sync-failed']);
/** Codes of errors that a lost connection causes. */
const CONNECTION_CODES = new Set(['RPC_UNREACHABLE', 'CONNECT_FAILED']);

/** A warning or error that a daemon has logged, in words. */
export interface WarningText {
  readonly text: string;
  /** Time of the log entry, in milliseconds since 1970. */
  readonly at: number;
  /** Number of times that the warning was logged since the last such entry. */
  readonly count: number;
  /** Whether a request to the coordinator has failed. */
  readonly isContact: boolean;
  /** Whether the request failed because the connection is lost. */
  readonly isDisconnected: boolean;
}

/**
 * Puts a log entry into words.
 * @param line one log entry, as JSON
 * @returns null if another line of the terminal says the same
 */
export function warningText(line: string, role: Role): WarningText | null {
  const entry = JSON.parse(line) as Record<string, unknown>;
  const action = String(entry.msg);
  if (SHOWN_ELSEWHERE[role].has(action)) return null;
  const isContact = role === 'node' && CONTACT.has(action);
  return {
    text: textOf(action, entry),
    at: Date.parse(String(entry.time)),
    count: 1 + Number(entry.repeated ?? 0),
    isContact,
    isDisconnected: isContact && CONNECTION_CODES.has(String(entry.code)),
  };
}

function textOf(
  action: string,
  { reason, error, round, job, invite, refusal }: Record<string, unknown>,
): string {
  if (refusal === 'RPC_METHOD_UNKNOWN') return 'the coordinator is not ready yet; retrying';
  const words = WORDS[action] ?? action.replaceAll('-', ' ');
  const why = typeof reason === 'string' ? reason : errorText(error);
  // A digest has 64 characters and says less than the round, but its beginning names the job of a node with several invites.
  const isLabel = typeof job === 'string' && (job.length < 64 || invite !== undefined);
  const name = isLabel ? `${job.length < 64 ? job : job.slice(0, 12)}: ` : '';
  const where = typeof round === 'number' ? ` (round ${round})` : '';
  return safeText(`${name}${words}${where}${why === '' ? '' : `: ${why}`}`);
}

function errorText(error: unknown): string {
  if (typeof error === 'string') return error;
  if (typeof error === 'object' && error !== null && 'message' in error) return String(error.message);
  return '';
}
