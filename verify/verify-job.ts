import { messageOf } from '../common/errors.ts';
import { STALE_ROUNDS } from '../protocol/limits.ts';
import type { Checkpoint, Head } from '../protocol/messages.ts';
import { verifySettings } from '../protocol/settings-chain.ts';
import { type Verified, verifyMessage } from '../protocol/signing.ts';
import { checkChain, checkSettings } from './checks/chain.ts';
import { checkContributors } from './checks/contributors.ts';
import { checkFigures } from './checks/figures.ts';
import { HeadChecks } from './checks/heads.ts';
import { checkLoss, type LossMeter } from './checks/losses.ts';
import { Recomputation } from './checks/recompute.ts';
import { ScoreChecks, type ScoreMeter } from './checks/scores.ts';
import { checkMetrics, checkWeights } from './checks/weights.ts';
import { verifyError } from './errors.ts';
import { type CheckpointReport, Findings, type Problem } from './findings.ts';
import type { JobFacts, SignedCheckpoint } from './job-facts.ts';
import { readableCheckpoints } from './readable-checkpoints.ts';
import type { CheckpointRecord, JobRecord } from './record.ts';
import { checkWanted, type WantedJob } from './wanted-job.ts';

/** Maximum number of problems that a report lists. More would not change the verdict. */
export const LISTED_PROBLEMS = 100;

/** Reason why held-out losses are not checked. */
const NO_DATA = 'the check needs the base and the data of the job';

/** Result of the verification of a job. */
export interface VerifyReport {
  /** Whether no check found a problem. Checks that could not be made do not count. */
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
  /** The problems that were found, at most 100. The first is the oldest. */
  readonly problems: readonly Problem[];
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
 * @throws SwarmError JOB_DIFFERS, COORDINATOR_DIFFERS, SIGNATURE_INVALID or MESSAGE_* if the manifest is unreadable, ROUND_UNKNOWN if all
 *   checkpoints are older than `from`, errors of the source, and the signal's reason
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
  for await (const one of readableCheckpoints(record.checkpoints(from), problems, signal)) {
    signal.throwIfAborted();
    const { report, findings } = await walk.next(one, from);
    if (problems.length < LISTED_PROBLEMS) problems.push(...findings.problems);
    if (report === null) break;
    newest = report.round;
    if (report.round < from) continue;
    checkpoints.push(report);
    recomputed += Number(report.recomputed);
    onCheckpoint?.(report, findings.problems);
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
    problems: problems.slice(0, LISTED_PROBLEMS),
  };
}

function factsOf(
  { author: coordinator, digest: job, message: manifest }: Verified<'manifest'>,
  record: JobRecord,
  signal: AbortSignal,
  problems: Problem[],
): JobFacts {
  try {
    const settings = verifySettings(record.settings, { job, coordinator });
    return { job, coordinator, manifest, settings, record, signal };
  } catch (error) {
    const message = `the changes of the settings are not valid: ${messageOf(error)}`;
    problems.push({ code: 'VERIFY_SOURCE', round: null, message, values: {} });
    return { job, coordinator, manifest, settings: null, record, signal };
  }
}

/** Checks checkpoints in their order, and remembers what the checks of the next one need. */
class Walk {
  readonly #facts: JobFacts;
  readonly #losses: LossMeter | null;
  readonly #scores: ScoreChecks;
  readonly #heads: HeadChecks;
  readonly #recomputation: Recomputation;
  /** The newest checkpoints, oldest first: enough to find the parents of late updates. */
  readonly #recent: SignedCheckpoint[] = [];
  /** Assignments of the newest rounds whose heads are known. */
  readonly #assignments = new Map<number, Head['assignments']>();
  /** Keys of the updates in the newest merges, with the round of the merge. */
  readonly #merged = new Map<string, number>();
  /** Adapters of all checkpoints so far, which a roll-back may restore. */
  readonly #adapters = new Set<string>();
  #ordinal: number | null = null;

  constructor(facts: JobFacts, { losses, scores }: { losses: LossMeter | null; scores: ScoreMeter | null }) {
    this.#facts = facts;
    this.#losses = losses;
    this.#scores = new ScoreChecks(facts, scores);
    this.#heads = new HeadChecks(facts);
    this.#recomputation = new Recomputation(facts);
  }

  /** @returns a null report if the checkpoint is unreadable, so that no later one can be checked */
  async next(
    record: CheckpointRecord,
    from: number,
  ): Promise<{ report: CheckpointReport | null; findings: Findings }> {
    const before = this.#recent.at(-1) ?? null;
    const signed = this.#signature(record.checkpoint, before);
    if (signed instanceof Findings) return { report: null, findings: signed };
    const { checkpoint, digest } = signed;
    const findings = new Findings(checkpoint.round);
    findings.done('signature');
    if (checkpoint.round >= from) checkChain(this.#facts, signed, before, findings);
    const parent = before?.digest === checkpoint.parent ? before : null;
    // Nothing that was learned before a gap may count against a checkpoint after the gap.
    if (parent === null) {
      this.#recent.length = 0;
      this.#assignments.clear();
      this.#merged.clear();
    }
    if (checkpoint.round < from) {
      this.#ordinal = checkpoint.round === 0 ? 0 : null;
      // The residual is zero after the first checkpoint and after a roll-back, which both have no contributors.
      if (checkpoint.contributors.length === 0) this.#recomputation.restart();
      else this.#recomputation.claim(record.residual);
      this.#scores.remember(record.figures);
    } else {
      if (parent === null) this.#ordinal = checkpoint.round === 0 ? 0 : null;
      else if (this.#ordinal !== null) this.#ordinal++;
      await this.#check(record, signed, parent, findings);
      await this.#checkLoss(checkpoint, findings);
    }
    for (const head of this.#heads.check(record.heads, signed, this.#ordinal, findings)) {
      if (head.phase === 'training') this.#assignments.set(head.round, head.assignments);
    }
    this.#remember(signed);
    return { report: findings.report(digest), findings };
  }

  #signature(envelope: Uint8Array, parent: SignedCheckpoint | null): SignedCheckpoint | Findings {
    const findings = new Findings(parent === null ? 0 : parent.checkpoint.round + 1);
    try {
      const { author, message, digest } = verifyMessage('checkpoint', envelope);
      const { coordinator, job } = this.#facts;
      if (author === coordinator && message.job === job) return { digest, checkpoint: message };
      if (author === coordinator) {
        findings.problem('VERIFY_SOURCE', `the checkpoint is of job ${message.job}`, { job: message.job });
      } else findings.problem('VERIFY_SIGNATURE', `the checkpoint is signed by ${author}`, { author });
    } catch (error) {
      findings.problem('VERIFY_SIGNATURE', `the checkpoint is unreadable: ${messageOf(error)}`);
    }
    return findings;
  }

  async #check(
    record: CheckpointRecord,
    signed: SignedCheckpoint,
    parent: SignedCheckpoint | null,
    findings: Findings,
  ): Promise<void> {
    const facts = this.#facts;
    const { checkpoint } = signed;
    checkSettings(facts, signed, findings);
    if (parent === null) {
      if (checkpoint.round === 0) this.#recomputation.restart();
      else {
        this.#recomputation.claim(record.residual);
        findings.skip('merge', 'the source does not have the parent');
      }
      return this.#recomputation.checkStored(checkpoint, findings);
    }
    if (checkpoint.contributors.length === 0) return this.#checkRollBack(signed, findings);
    this.#checkOnce(signed, findings);
    const updates = await checkContributors(facts, record, checkpoint, this.#earlier(), findings);
    const figures = checkFigures(facts, record.figures, { checkpoint, updates }, findings);
    checkWeights(facts, checkpoint, figures, findings);
    checkMetrics(facts, checkpoint, updates, findings);
    if (figures !== null) await this.#scores.check(figures, parent, this.#recomputation, findings);
    const merge = { updates, claimed: record.residual };
    await this.#recomputation.check(signed, parent.checkpoint, merge, findings);
  }

  async #checkLoss(checkpoint: Checkpoint, findings: Findings): Promise<void> {
    if (this.#losses === null) {
      if (checkpoint.contributors.length > 0) findings.skip('loss', NO_DATA);
      return;
    }
    const adapter = await this.#recomputation.adapterOf(checkpoint, findings);
    const { job, manifest, signal } = this.#facts;
    const measuring = { meter: this.#losses, job: { job, manifest }, signal };
    await checkLoss(measuring, checkpoint, adapter, findings);
  }

  async #checkRollBack({ checkpoint }: SignedCheckpoint, findings: Findings): Promise<void> {
    findings.done('rollback');
    const { adapter, delta } = checkpoint;
    if (!this.#adapters.has(adapter.digest) && this.#ordinal !== null) {
      const text = 'the checkpoint has no contributors, and its adapter is not that of an earlier checkpoint';
      findings.problem('VERIFY_ROLLBACK', text, { adapter: adapter.digest });
    } else if (!this.#adapters.has(adapter.digest)) {
      findings.skip('rollback', 'the restored checkpoint is before the first checked round');
    }
    if (delta !== null) {
      findings.problem('VERIFY_ROLLBACK', 'the roll-back has a delta', { delta: delta.digest });
    }
    this.#recomputation.restart();
    await this.#recomputation.checkStored(checkpoint, findings);
  }

  /** Checks that no update of a merge is part of an earlier merge. */
  #checkOnce({ checkpoint }: SignedCheckpoint, findings: Findings): void {
    for (const { peer, round } of checkpoint.contributors) {
      const key = `${peer} ${round}`;
      const before = this.#merged.get(key);
      if (before !== undefined && before < checkpoint.round) {
        const text = `the update of ${peer} for round ${round} is already in the merge of round ${before}`;
        findings.problem('VERIFY_CONTRIBUTOR', text, { peer, made: round, before });
      }
      this.#merged.set(key, checkpoint.round);
    }
  }

  #earlier() {
    const recent = [...this.#recent];
    return {
      parentOf: (round: number) =>
        recent.findLast(({ checkpoint }) => checkpoint.round < round)?.digest ?? null,
      assignmentsOf: (round: number) => this.#assignments.get(round) ?? null,
    };
  }

  #remember(signed: SignedCheckpoint): void {
    const { round, adapter } = signed.checkpoint;
    this.#adapters.add(adapter.digest);
    this.#recent.push(signed);
    if (this.#recent.length > STALE_ROUNDS + 2) this.#recent.shift();
    for (const made of this.#assignments.keys())
      if (made < round - STALE_ROUNDS) this.#assignments.delete(made);
    for (const [key, merge] of this.#merged) if (merge < round - 2 * STALE_ROUNDS) this.#merged.delete(key);
  }
}
