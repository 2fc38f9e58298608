import { messageOf } from '../common/errors.ts';
import { verifySettings } from '../protocol/settings-chain.ts';
import { type Verified, verifyMessage } from '../protocol/signing.ts';
import type { LossMeter } from './checks/losses.ts';
import type { ScoreMeter } from './checks/scores.ts';
import { verifyError } from './errors.ts';
import { addProblems, type CheckpointReport, type Problem } from './findings.ts';
import type { HeldPart } from './held-part.ts';
import type { JobFacts } from './job-facts.ts';
import { readableCheckpoints } from './readable-checkpoints.ts';
import type { DamagedRecord, JobRecord, PartialRecord } from './record.ts';
import { claimOf, Walk, type Walked } from './walk.ts';
import { checkWanted, type WantedJob } from './wanted-job.ts';

/** Result of the verification of a job. */
export interface VerifyReport {
  /** Whether the checks found no problem. Checks that could not be made do not count. */
  readonly ok: boolean;
  /** Digest of the job. */
  readonly job: string;
  /** Name of the job. */
  readonly name: string;
  /** Peer id of the coordinator that signed the manifest. */
  readonly coordinator: string;
  /**
   * Whether the manifest names its coordinator. The manifest of an older job does not, so another coordinator can sign
   * a copy with the same digest.
   */
  readonly namesCoordinator: boolean;
  /** The checks of each checkpoint, oldest first. */
  readonly checkpoints: readonly CheckpointReport[];
  /** Number of merges that were computed again and gave the same bits. */
  readonly recomputed: number;
  /**
   * The 100 oldest problems that were found, oldest first. The first problem that disproves the coordinator is always in the
   * list.
   */
  readonly problems: readonly Problem[];
  /** What a node holds of the job. Present only if the source of the record is a node. */
  readonly held?: HeldPart;
}

/** Part of a job's record to check, and how to follow the checks. */
export interface VerifyOptions extends WantedJob {
  /** Round of the first checkpoint to check. @default 0 */
  readonly from?: number;
  /** @default never aborts */
  readonly signal?: AbortSignal;
  /** Measures the held-out losses of the checkpoints. @default held-out losses are not checked */
  readonly losses?: LossMeter | null;
  /** Measures the scores of the merges. @default the effects and gains of scores are not measured */
  readonly scores?: ScoreMeter | null;
  /** Called after the checks of each checkpoint. */
  readonly onCheckpoint?: (report: CheckpointReport, problems: readonly Problem[]) => void;
}

/**
 * Checks the record of a job. Holds one checkpoint at a time in memory, with its adapter, and one update.
 * @throws SwarmError JOB_DIFFERS, COORDINATOR_DIFFERS, SIGNATURE_INVALID or MESSAGE_* if the manifest is unreadable,
 *   ROUND_UNKNOWN if all checkpoints are older than `from`, errors of the source, and the signal's reason
 */
export async function verifyRecord(record: JobRecord, options: VerifyOptions = {}): Promise<VerifyReport> {
  const {
    from = 0,
    signal = new AbortController().signal,
    losses = null,
    scores = null,
    onCheckpoint,
  } = options;
  const manifest = verifyMessage('manifest', record.manifest);
  checkWanted(manifest, options);
  const problems: Problem[] = [];
  const facts = factsOf(manifest, record, signal, problems);
  const walk = new Walk(facts, { losses, scores });
  const checkpoints: CheckpointReport[] = [];
  let recomputed = 0;
  let newest: number | null = null;
  let isBroken = false;
  const note = ({ report, findings }: Walked): void => {
    addProblems(problems, findings.problems);
    isBroken = report === null;
    if (report === null) return;
    newest = report.round;
    if (report.round < from) return;
    checkpoints.push(report);
    recomputed += Number(report.recomputed);
    onCheckpoint?.(report, findings.problems);
  };
  for await (const one of readableCheckpoints(record.checkpoints(from), problems, signal)) {
    signal.throwIfAborted();
    if ('damaged' in one) {
      addProblems(problems, [damagedCheckpoint(one, newest)]);
      walk.skip();
      continue;
    }
    note(await walk.next(one, from));
    if (isBroken) break;
  }
  if (record.partial && !isBroken) {
    const announced = await walk.announced(record.partial.head, from);
    if (announced !== null) note(announced);
  }
  if (checkpoints.length === 0 && problems.length === 0) {
    const message = `the record has no checkpoint of round ${from} or a later round`;
    if (newest !== null) {
      const text = `${message}; the newest checkpoint is of round ${newest}`;
      throw verifyError('ROUND_UNKNOWN', text, { from, newest });
    }
    problems.push({ code: 'VERIFY_SOURCE', round: null, message, values: { from } });
  }
  return {
    ok: problems.length === 0,
    job: facts.job,
    name: facts.manifest.name,
    coordinator: facts.coordinator,
    namesCoordinator: facts.manifest.coordinator !== undefined,
    checkpoints,
    recomputed,
    problems,
    ...(record.partial && heldOf(record.partial, walk)),
  };
}

/** @param before round of the last checkpoint before the damaged one; null if there is none */
function damagedCheckpoint({ damaged }: DamagedRecord, before: number | null): Problem {
  const { digest, position, count } = damaged;
  const place = before === null ? '' : ` (after round ${before})`;
  const message = `checkpoint ${position} of ${count} in the file${place} is damaged: its bytes do not have the digest ${digest}`;
  return { code: 'VERIFY_BLOB', round: null, message, values: { ...damaged, before } };
}

function heldOf({ head }: PartialRecord, walk: Walk): { held?: HeldPart } {
  const newest = claimOf(head);
  if (newest === null) return {};
  return { held: { round: newest.checkpoint.round, issuedAt: newest.issuedAt, ...walk.held } };
}

function factsOf(
  { author: coordinator, digest: job, message: manifest }: Verified<'manifest'>,
  record: JobRecord,
  signal: AbortSignal,
  problems: Problem[],
): JobFacts {
  try {
    const isTruncated = record.partial && firstChange(record.settings) > 1;
    const settings = isTruncated ? null : verifySettings(record.settings, { job, coordinator });
    return { job, coordinator, manifest, settings, record, signal };
  } catch (error) {
    const message = `the changes of the settings are not valid: ${messageOf(error)}`;
    problems.push({ code: 'VERIFY_SOURCE', round: null, message, values: {} });
    return { job, coordinator, manifest, settings: null, record, signal };
  }
}

/** Returns the number of the first change of the settings that a source has; 1 if it has none. */
function firstChange([first]: readonly Uint8Array[]): number {
  return first === undefined ? 1 : verifyMessage('settings', first).message.sequence;
}
