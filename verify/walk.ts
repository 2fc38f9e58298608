import { messageOf } from '../common/errors.ts';
import type { ClaimedUpdate } from '../protocol/evidence.ts';
import { STALE_ROUNDS } from '../protocol/limits.ts';
import type { Checkpoint, Head } from '../protocol/messages.ts';
import { verifyMessage } from '../protocol/signing.ts';
import { checkChain, checkSettings } from './checks/chain.ts';
import { checkContributors } from './checks/contributors.ts';
import { checkFigures } from './checks/figures.ts';
import { HeadChecks } from './checks/heads.ts';
import { checkLoss, type LossMeter } from './checks/losses.ts';
import { Recomputation } from './checks/recompute.ts';
import { ScoreChecks, type ScoreMeter } from './checks/scores.ts';
import { checkMetrics, checkWeights } from './checks/weights.ts';
import { type CheckpointReport, Findings } from './findings.ts';
import type { HeldPart, HeldWeights } from './held-part.ts';
import type { JobFacts, SignedCheckpoint } from './job-facts.ts';
import type { CheckpointRecord } from './record.ts';

/** Reason why held-out losses are not checked. */
const NO_DATA = 'the check needs the base and the data of the job';

const DAMAGED = 'the checkpoint before it is damaged in the file';

/** Result of the checks of one checkpoint. */
export interface Walked {
  /** Null if the signature is not valid, so that no later checkpoint can be checked. */
  readonly report: CheckpointReport | null;
  readonly findings: Findings;
}

/** Checks checkpoints in their order, and remembers what the checks of the next one need. */
export class Walk {
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
  #chainFrom: number | null = null;
  #weights: HeldWeights | null = null;
  /** Whether the source has the checkpoint before the next one only with damaged bytes. */
  #lacksParent = false;

  constructor(facts: JobFacts, { losses, scores }: { losses: LossMeter | null; scores: ScoreMeter | null }) {
    this.#facts = facts;
    this.#losses = losses;
    this.#scores = new ScoreChecks(facts, scores);
    this.#heads = new HeadChecks(facts);
    this.#recomputation = new Recomputation(facts);
  }

  /** The chain and the newest weights that were checked so far. */
  get held(): Pick<HeldPart, 'chainFrom' | 'weights'> {
    return { chainFrom: this.#chainFrom, weights: this.#weights };
  }

  /** Skips a damaged checkpoint. The next checkpoint is then checked without its parent. */
  skip(): void {
    this.#lacksParent = true;
  }

  async next(record: CheckpointRecord, from: number): Promise<Walked> {
    const before = this.#recent.at(-1) ?? null;
    const signed = this.#signature(record.checkpoint, before);
    if (signed instanceof Findings) return { report: null, findings: signed };
    const { checkpoint, digest } = signed;
    const findings = new Findings(checkpoint.round);
    findings.done('signature');
    const gap = this.#lacksParent ? DAMAGED : (this.#facts.record.partial?.reasons.checkpoints ?? null);
    this.#lacksParent = false;
    if (checkpoint.round >= from) checkChain(this.#facts, signed, { parent: before, gap }, findings);
    const parent = before?.digest === checkpoint.parent ? before : null;
    // Nothing that was learned before a gap may count against a checkpoint after the gap.
    if (parent === null) {
      this.#chainFrom = checkpoint.round;
      this.#recent.length = 0;
      this.#assignments.clear();
      this.#merged.clear();
    }
    if (checkpoint.round < from) {
      this.#ordinal = checkpoint.round === 0 ? 0 : null;
      // The residual is zero after the first checkpoint and after a roll-back, which both have no contributors.
      if (checkpoint.contributors.length === 0) this.#recomputation.restart();
      else this.#recomputation.claim(record.residual);
      this.#scores.remember(record);
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
    this.#noteWeights(checkpoint);
    return { report: findings.report(digest), findings };
  }

  /**
   * Checks a head whose checkpoint the source may lack, and the adapter that the head announces.
   * @returns null if the newest checkpoint was checked together with the head, or if the head is older than `from`
   */
  async announced(envelope: Uint8Array, from: number): Promise<Walked | null> {
    const { reasons } = this.#facts.record.partial!;
    const last = this.#recent.at(-1) ?? null;
    const { round, digest } = claimOf(envelope)?.checkpoint ?? {
      round: last?.checkpoint.round ?? 0,
      digest: '',
    };
    if (last?.digest === digest || round < from) return null;
    const findings = new Findings(round);
    const head = this.#heads.checkAlone(envelope, findings);
    if (head === null) return { report: null, findings };
    this.#checkSuccession(head, last, findings);
    findings.skip('signature', reasons.checkpoints);
    await this.#recomputation.checkStored(head.checkpoint, findings);
    this.#noteWeights(head.checkpoint);
    return { report: findings.report(digest), findings };
  }

  /** Checks that a head announces a checkpoint after the newest one that the source has. */
  #checkSuccession({ checkpoint, term }: Head, last: SignedCheckpoint | null, findings: Findings): void {
    const { round, digest, delta } = checkpoint;
    const isConnected = last !== null && delta?.parent === last.digest;
    if (isConnected) findings.done('chain');
    else {
      this.#chainFrom = round;
      findings.skip('chain', this.#facts.record.partial!.reasons.checkpoints);
    }
    if (last === null || round > last.checkpoint.round) return;
    const text = `the newest head announces checkpoint ${digest}, but the source has the checkpoint ${last.digest} of round ${last.checkpoint.round}`;
    const isForked = round === last.checkpoint.round && term === last.checkpoint.term;
    findings.problem(isForked ? 'VERIFY_HEAD' : 'VERIFY_SOURCE', text, {
      announced: digest,
      found: last.digest,
    });
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
        findings.skip(
          'merge',
          facts.record.partial?.reasons.updates ?? 'the source does not have the parent',
        );
      }
      // A node can lack the parents of many checkpoints, so these checks are also made without the parent.
      if (facts.record.partial && checkpoint.contributors.length > 0) {
        await this.#checkUpdates(record, signed, null, findings);
      }
      return this.#recomputation.checkStored(checkpoint, findings);
    }
    if (checkpoint.contributors.length === 0) return this.#checkRollBack(signed, findings);
    const updates = await this.#checkUpdates(record, signed, parent, findings);
    const merge = { updates, claimed: record.residual };
    await this.#recomputation.check(signed, parent.checkpoint, merge, findings);
  }

  /** Checks what the record says about the contributors of a checkpoint. @returns the update of each contributor */
  async #checkUpdates(
    record: CheckpointRecord,
    signed: SignedCheckpoint,
    parent: SignedCheckpoint | null,
    findings: Findings,
  ): Promise<(ClaimedUpdate | null)[]> {
    const facts = this.#facts;
    const { checkpoint } = signed;
    this.#checkOnce(signed, findings);
    const updates = await checkContributors(facts, record, checkpoint, this.#earlier(), findings);
    const figures = checkFigures(facts, record.figures, { checkpoint, updates }, findings);
    checkWeights(facts, checkpoint, figures, findings);
    checkMetrics(facts, checkpoint, updates, findings);
    if (parent === null) {
      this.#scores.remember(record);
      return updates;
    }
    this.#scores.checkNullRounds(record.nullFigures ?? [], checkpoint, findings);
    if (figures !== null) await this.#scores.check(figures, parent, this.#recomputation, findings);
    return updates;
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
      const text = 'the checkpoint has no contributors, and no earlier checkpoint has its adapter';
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

  #noteWeights({ round, adapter: { digest } }: Pick<Checkpoint, 'round' | 'adapter'>): void {
    if (this.#recomputation.holds(digest)) this.#weights = { round, digest };
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

/** Returns what a head says, without a check of its author; null if the head is unreadable. */
export function claimOf(envelope: Uint8Array): Head | null {
  try {
    return verifyMessage('head', envelope).message;
  } catch {
    // The check of the head reports the error.
    return null;
  }
}
