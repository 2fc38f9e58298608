/** One timeline of what a node's log and a coordinator's record say about one update of the node. */

import { formatBytes, safeText } from '../../common/text.ts';
import type { CoordinatorRecord, JobEvent, NodeUpdate, PeerReceipts } from '../../index.ts';
import { safeFields } from '../../monitor/logs/log-fields.ts';
import { counts, receiptMeanings } from '../../protocol/receipts.ts';
import type { LogEntry } from '../logs/log-entry.ts';
import { EventLines } from '../views/events.ts';

/**
 * The timeline of a round includes an entry that names no round if the entry is at most this many milliseconds before the
 * first entry, or after the last entry, that belongs to the round.
 */
const AROUND_MS = 30_000;
/** Fields of a log entry that the timeline shows elsewhere, or that say nothing about the problem. */
const HIDDEN: ReadonlySet<string> = new Set([
  ...['time', 'level', 'msg', 'module', 'job', 'round', 'peer', 'at', 'type', 'sequence'],
]);
const DIGEST = /^[0-9a-f]{64}$/;
/** Maximum number of characters of one entry. A log entry can contain an error with a stack. */
const ENTRY_CHARACTERS = 400;

/** The round of a job that a timeline is about. */
export interface Subject {
  readonly job: string;
  readonly jobName: string;
  readonly round: number;
}

export interface TimelineEntry {
  /** Time on the clock of the machine that the command runs on, in milliseconds since 1970; null if it is unknown. */
  readonly at: number | null;
  readonly source: 'node' | 'coordinator';
  readonly text: string;
}

/** The records of a node and of its coordinator, as far as this machine can read them. */
export interface Sources {
  readonly peer: string;
  /** The log of the node, oldest entry first; null if the node runs on another machine. */
  readonly log: readonly LogEntry[] | null;
  /** The newest updates in the node's own record, newest first. */
  readonly updates: readonly NodeUpdate[];
  /** Receipts, scores and strikes; null if the coordinator runs on another machine. */
  readonly receipts: PeerReceipts | null;
  /** Events of the job; empty if the coordinator runs on another machine. */
  readonly events: readonly JobEvent[];
  /** The answer of a coordinator on another machine; null if there is none. */
  readonly answer: CoordinatorRecord | null;
  /** Milliseconds by which the clock of the coordinator is ahead of that of this machine. */
  readonly offsetMs: number;
}

/**
 * Chooses the update that a timeline shows: the one of `round`, or else the newest one that did not count, or else the newest
 * one. Returns null if the node has made no such update.
 */
export function chooseSubject(
  { updates, receipts }: Pick<Sources, 'updates' | 'receipts'>,
  jobNames: ReadonlyMap<string, string>,
  round: number | undefined,
): Subject | null {
  const own = updates.map(({ job, round, code, outcome, at }) => ({
    ...{ job, round, at },
    isProblem: (code !== null && !counts(code)) || outcome === 'restored',
  }));
  const known = (receipts?.receipts ?? []).map(({ job, round, code, at }) => ({
    ...{ job, round, at },
    isProblem: !counts(code),
  }));
  const all = [...own, ...known].sort((a, b) => b.at - a.at);
  const found =
    round === undefined
      ? (all.find(({ isProblem }) => isProblem) ?? all[0])
      : all.find((one) => one.round === round);
  if (found === undefined) return null;
  const named = receipts?.receipts.find(({ job }) => job === found.job)?.jobName;
  return {
    job: found.job,
    jobName: jobNames.get(found.job) ?? named ?? found.job.slice(0, 12),
    round: found.round,
  };
}

/** Returns the entries about the subject, oldest first. Entries without a time come last. */
export function timeline(subject: Subject, sources: Sources): TimelineEntry[] {
  const sure = [
    ...logEntries(subject, sources, null),
    ...ownRecord(subject, sources),
    ...eventEntries(subject, sources, null),
    ...coordinatorRecordEntries(subject, sources),
  ];
  const times = sure.flatMap(({ at }) => (at === null ? [] : [at]));
  const span = { from: Math.min(...times) - AROUND_MS, to: Math.max(...times) + AROUND_MS };
  const around = [...logEntries(subject, sources, span), ...eventEntries(subject, sources, span)];
  const time = ({ at }: TimelineEntry): number => at ?? Number.POSITIVE_INFINITY;
  return [...sure, ...around].sort((a, b) => (time(a) === time(b) ? 0 : time(a) - time(b)));
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** Says whether the records show that the node made an update in the round of the subject. */
export function hasUpdate({ job, round }: Subject, { log, updates, receipts, answer }: Sources): boolean {
  // The node's record and the coordinator's receipts are limited to the newest updates, so the log and the answer count too.
  const isSubject = (one: { job: string; round: number }): boolean => one.job === job && one.round === round;
  return (
    updates.some(isSubject) ||
    (receipts?.receipts ?? []).some(isSubject) ||
    (answer?.receipt ?? null) !== null ||
    (log ?? []).some(
      ({ fields }) => fields?.msg === 'update-built' && fields.round === round && isOfJob(fields, job),
    )
  );
}

function isOfJob({ job: named }: Record<string, unknown>, job: string): boolean {
  // A node with several invites also logs the beginning of the digest.
  return typeof named === 'string' && job.startsWith(named);
}

/**
 * An entry of another job never counts. An entry with the round but without a job, from an older version of this program, may
 * be about a round of another job, so it counts only in the span.
 * @param span null: returns the entries that name the round of the job, or the update. A span: returns the other entries in it
 */
function logEntries({ job, round }: Subject, { log, updates }: Sources, span: Span | null): TimelineEntry[] {
  const update = updates.find((one) => one.job === job && one.round === round)?.update;
  return (log ?? []).flatMap(({ at, fields }): TimelineEntry[] => {
    if (fields === null || at === null) return [];
    const isOwn = isOfJob(fields, job);
    if (fields.job !== undefined && !isOwn) return [];
    const isNamed = (isOwn && fields.round === round) || (update !== undefined && fields.update === update);
    const isRound = fields.round === undefined || fields.round === round;
    const isNear = span !== null && at >= span.from && at <= span.to && isRound;
    if (span === null ? !isNamed : isNamed || !isNear) return [];
    const level = fields.level === 'warn' || fields.level === 'error' ? `${fields.level} ` : '';
    return [{ at, source: 'node', text: withFacts(`${level}${String(fields.msg)}`, fields) }];
  });
}

function ownRecord({ job, round }: Subject, { log, updates }: Sources): TimelineEntry[] {
  const own = updates.find((one) => one.job === job && one.round === round);
  if (log === null || own === undefined) return [];
  const receipt = own.code === null ? 'no receipt has arrived' : `newest receipt ${own.code}`;
  const outcome = own.outcome === null ? 'not settled yet' : `outcome ${own.outcome}`;
  const text = `record: update of ${formatBytes(own.bytes)}, ${receipt}, ${outcome}`;
  return [{ at: own.at, source: 'node', text }];
}

function eventEntries(
  { round }: Subject,
  { events, peer, offsetMs }: Sources,
  span: Span | null,
): TimelineEntry[] {
  const lines = new EventLines();
  return events.flatMap((event): TimelineEntry[] => {
    const line = lines.line(event);
    const at = event.at - offsetMs;
    const about = 'peer' in event ? event.peer === peer : !('peer' in event);
    // A roll-back ends the round before it, and only the event of the roll-back has the reason of the operator.
    const last = event.type === 'rolled-back' ? round + 1 : round;
    const ofRound = 'round' in event ? event.round === round || event.round === last : null;
    const isNear = span !== null && ofRound === null && at >= span.from && at <= span.to;
    if (!about || (span === null ? ofRound !== true : !isNear)) return [];
    const text = line === null ? withFacts(event.type, event) : entryText(line);
    return [{ at, source: 'coordinator', text }];
  });
}

/** Returns what the coordinator's record says besides its events. */
function coordinatorRecordEntries(
  { job, round }: Subject,
  { receipts, answer, offsetMs }: Sources,
): TimelineEntry[] {
  const entry = (at: number | null, text: string): TimelineEntry => ({
    at: at === null ? null : at - offsetMs,
    source: 'coordinator',
    text: entryText(text),
  });
  const ofRound = <T extends { job: string; round: number }>(all: readonly T[] = []): T[] =>
    all.filter((one) => one.job === job && one.round === round);
  const local = ofRound(receipts?.receipts).map(({ at, ...one }) => entry(at, receiptText(one)));
  const strikes = ofRound(receipts?.strikes).map(({ at, kind, meaning }) =>
    entry(at, `record: strike ${kind}: ${meaning}`),
  );
  const scores = ofRound(receipts?.scores).map((one) => entry(null, scoreText(one)));
  if (answer === null) return [...local, ...strikes, ...scores];
  const { receipt, figures } = answer;
  return [
    ...(receipt === null ? [] : [entry(receipt.at, receiptText(receipt))]),
    ...(figures === null
      ? []
      : [
          entry(
            null,
            `${scoreText(figures)}${figures.harmful ? ', left out as harmful' : ''}${figures.audit === null ? '' : `, audit ${figures.audit}`}`,
          ),
        ]),
  ];
}

function receiptText({
  code,
  detail,
  isMerged = false,
}: {
  code: string;
  detail: string;
  isMerged?: boolean;
}) {
  const because = detail === '' ? '' : ` (${detail})`;
  const meaning = isMerged ? 'the update is part of a checkpoint' : meaningOf(code);
  return `record: receipt ${code}${because}: ${meaning}`;
}

function meaningOf(code: string): string {
  return Object.hasOwn(receiptMeanings, code)
    ? receiptMeanings[code as keyof typeof receiptMeanings]
    : 'unknown';
}

type Figures = Pick<NonNullable<CoordinatorRecord['figures']>, 'effect' | 'gain' | 'share' | 'belief'>;

function scoreText({ effect, gain, share, belief }: Figures): string {
  const figure = (name: string, value: number | null): string[] =>
    value === null ? [] : [`${name} ${value.toPrecision(3)}`];
  const facts = [...figure('effect', effect), ...figure('gain', gain), ...figure('share', share)];
  return `record: score ${[...facts, `belief ${belief.toFixed(2)}`].join(', ')}`;
}

/** Returns the name of an action with its facts: "update-built, bytes 4096". */
function withFacts(action: string, fields: object): string {
  const facts = Object.entries(safeFields(fields))
    .filter(([name, value]) => !HIDDEN.has(name) && value !== '' && value !== null)
    .map(([name, value]) => `${name} ${factText(value)}`);
  return entryText([action, ...facts].join(', '));
}

function factText(value: unknown): string {
  if (typeof value === 'string') return DIGEST.test(value) ? value.slice(0, 12) : value;
  return typeof value === 'number' ? String(Number(value.toPrecision(5))) : JSON.stringify(value);
}

function entryText(text: string): string {
  return safeText(text, { maxCharacters: ENTRY_CHARACTERS });
}
