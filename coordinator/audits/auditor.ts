import { messageOf } from '../../common/errors.ts';
import { sleep } from '../../common/time/deadline.ts';
import { freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import { auditFigures } from '../../lora/update/score.ts';
import type { EvaluateOptions, RunContext, StepsMade } from '../context.ts';
import { loadUpdate } from '../merge/arithmetic.ts';
import type { JobState } from '../round/state.ts';
import type { StoredAudit } from '../store/store.ts';
import { isSameUpdate } from '../store/update-key.ts';
import type { Announcements } from '../trust/bans.ts';
import type { Ledger } from '../trust/ledger.ts';
import type { AuditRecord } from './audit-record.ts';
import { type Repetition, readRepetition } from './repetition.ts';
import { passes } from './verdict.ts';

/**
 * Number of rounds after which an unfinished audit is dropped. A coordinator that needs more rounds is too slow for the
 * amount of work that AUDIT_SHARE allows.
 */
const PATIENCE_ROUNDS = 16;
/** Maximum number of attempts at one audit. Each restart of the coordinator ends an attempt. */
const MAX_ATTEMPTS = 3;
/** Milliseconds to wait before continuing an audit that the merge of another job has interrupted. */
const RETRY_MS = 1_000;

/** An audit in progress. It is only in memory, so after a restart it begins again. */
interface Work {
  readonly audit: StoredAudit;
  readonly repetition: Repetition;
  /** State after the steps made so far. */
  state: StepsMade;
  /** The adapter after the first half of the steps; null until then. */
  middle: readonly Float32Array[] | null;
  seconds: number;
}

export interface AuditorDeps extends Pick<EvaluateOptions, 'onFallback'> {
  readonly context: RunContext;
  readonly record: AuditRecord;
  readonly ledger: Ledger;
  /** Runs `write` in a transaction. */
  readonly transact: (write: (outbox: Announcements) => void) => void;
}

/**
 * Trains the intervals of chosen updates again, while the nodes train the next round. When that round closes, the audit
 * pauses after the current micro-batch, and continues after the merge.
 */
export class Auditor {
  readonly #deps: AuditorDeps;
  #pause = new AbortController();
  #work: Work | null = null;
  #running: Promise<void> | null = null;

  constructor(deps: AuditorDeps) {
    this.#deps = deps;
  }

  /** Starts or pauses the audits, depending on the phase of the job. */
  follow(phase: JobState['phase']): void {
    if (phase === 'training' || phase === 'collecting' || phase === 'waiting') {
      if (this.#pause.signal.aborted) this.#pause = new AbortController();
      this.#start();
    } else {
      this.#pause.abort();
    }
  }

  /** Stops the audit, and waits for its end. The caller must abort the context's signal first. */
  async stop(): Promise<void> {
    this.#pause.abort();
    await this.#running;
  }

  #start(): void {
    const { signal, deps } = this.#deps.context;
    if (this.#running !== null || signal.aborted || this.#next() === null) return;
    this.#running = this.#run()
      .then(() => {
        this.#running = null;
        // Start again if the next round opened while the last micro-batch was still running.
        if (!this.#pause.signal.aborted) this.#start();
      })
      // An error here is a failed write. In the simulation, it can also be the error with which a test kills the
      // process.
      .catch((error: unknown) => {
        if (!signal.aborted) deps.fatal(error);
      });
  }

  /** Returns the next audit to do; null if there is none. */
  #next(): StoredAudit | null {
    const { context } = this.#deps;
    if (!context.audits) return null;
    return context.deps.store.audits.inState(context.job, 'chosen')[0] ?? null;
  }

  async #run(): Promise<void> {
    const { signal, deps } = this.#deps.context;
    for (let audit = this.#next(); audit !== null; audit = this.#next()) {
      const { signal: pause } = this.#pause;
      if (pause.aborted) return;
      const obstacle = this.#obstacle(audit);
      if (obstacle !== null) {
        this.#drop(audit, obstacle);
        continue;
      }
      try {
        await this.#continue(audit, pause);
      } catch (error) {
        signal.throwIfAborted();
        if (!this.#isOpen(audit)) continue;
        deps.log.warn({ round: audit.round, peer: audit.peer, error }, 'audit-failed');
        this.#drop(audit, messageOf(error));
      }
    }
  }

  /** Returns whether an audit still needs a result. The end of a job drops all its open audits. */
  #isOpen(audit: StoredAudit): boolean {
    const { job, deps } = this.#deps.context;
    return deps.store.audits.find(job, audit)?.state === 'chosen';
  }

  /** Returns the reason why an audit cannot be done; null if it can be done. */
  #obstacle(audit: StoredAudit): string | null {
    const { job, deps } = this.#deps.context;
    const [newest] = deps.store.rounds.newest(job, 1);
    if (newest!.round > audit.chosenRound! + PATIENCE_ROUNDS) {
      return `the coordinator did not finish the audit in ${PATIENCE_ROUNDS} rounds; give the coordinator more threads or a GPU`;
    }
    const isNew = this.#work === null || !isSameUpdate(this.#work.audit, audit);
    return isNew && audit.attempts >= MAX_ATTEMPTS
      ? `the coordinator stopped or crashed during all ${audit.attempts} attempts`
      : null;
  }

  /** Continues an audit until it has ended or must pause. */
  async #continue(audit: StoredAudit, pause: AbortSignal): Promise<void> {
    const work = await this.#workOn(audit);
    const { steps } = work.repetition;
    if (work.middle === null) {
      if (!(await this.#train(work, Math.ceil(steps / 2), pause))) return;
      work.middle = work.state.adapter;
    }
    if (await this.#train(work, steps, pause)) await this.#judge(work, work.middle);
  }

  async #workOn(audit: StoredAudit): Promise<Work> {
    if (this.#work !== null && isSameUpdate(this.#work.audit, audit)) return this.#work;
    const { context, transact } = this.#deps;
    const { deps, job, layout } = context;
    const repetition = await readRepetition(audit, context);
    transact(() => deps.store.audits.countAttempt(job, audit));
    const optimizer = freshOptimizer(layout);
    const state = { adapter: repetition.parent, optimizer, steps: 0, rows: 0, isComplete: false };
    const work: Work = { audit, repetition, state, middle: null, seconds: 0 };
    this.#work = work;
    return work;
  }

  /**
   * Trains until `until` steps have been made in total, or the audit must pause.
   * @returns whether the steps have been made
   */
  async #train(work: Work, until: number, pause: AbortSignal): Promise<boolean> {
    const { context, onFallback } = this.#deps;
    const { job, manifest, deps, signal } = context;
    const { rows, position } = work.repetition;
    const end = until * manifest.training.batchSize;
    while (!pause.aborted) {
      const { adapter, optimizer, steps, rows: used } = work.state;
      const rest = {
        adapter,
        optimizer,
        rows: rows.slice(used, end),
        steps: until,
        position: { ...position, done: steps },
      };
      const startedAt = deps.clock.monotonic();
      const made = await deps.validator.train({ job, manifest }, rest, { signal, pause, onFallback });
      work.seconds += (deps.clock.monotonic() - startedAt) / 1000;
      work.state = { ...made, steps: steps + made.steps, rows: used + made.rows };
      // Count all rows up to `end`. `made.rows` leaves out the last rows if they have no supervised tokens, because
      // such rows make no step.
      if (made.isComplete) {
        work.state = { ...work.state, rows: end };
        return true;
      }
      // A pause or a stop ends the wait early.
      if (!pause.aborted) await sleep(deps.clock, RETRY_MS, AbortSignal.any([signal, pause])).catch(() => {});
    }
    return false;
  }

  async #judge({ audit, repetition, state, seconds }: Work, middle: readonly Float32Array[]): Promise<void> {
    const { context, record, ledger, transact } = this.#deps;
    const { job, layout, deps, signal } = context;
    const { peer, round } = audit;
    const update = deps.store.updates.find(job, round, peer)!;
    const sent = await loadUpdate(update, { layout, blobs: deps.blobs, signal });
    this.#work = null;
    if (!this.#isOpen(audit)) return;
    const { parent, position } = repetition;
    const found = auditFigures(sent, { before: parent, middle, after: state.adapter });
    const passed = passes(found, { preset: update.preset, isFirst: position.before === 0 });
    const rows = this.#rowsSpent(audit);
    const verdict = passed ? 'passed' : 'failed';
    // The balance may be infinite, but the database and signed messages hold finite numbers only.
    const { closeness } = found;
    const balance = Math.min(found.balance, Number.MAX_SAFE_INTEGER);
    transact((outbox) => {
      outbox.event({ type: 'audited', round, peer, verdict, closeness, balance, rows, seconds });
      record.finish(audit, { state: verdict, closeness, balance, seconds, reason: '' }, { ledger, outbox });
    });
    this.#measure(verdict, rows, seconds);
  }

  /** Ends an audit without a result. */
  #drop(audit: StoredAudit, reason: string): void {
    const { record, ledger, transact } = this.#deps;
    const seconds = this.#work?.seconds ?? 0;
    this.#work = null;
    const { peer, round } = audit;
    const result = { state: 'dropped', closeness: null, balance: null, seconds, reason } as const;
    transact((outbox) => {
      outbox.event({ type: 'audit-dropped', round, peer, reason });
      record.finish(audit, result, { ledger, outbox });
    });
    this.#measure('dropped', this.#rowsSpent(audit), seconds);
  }

  #rowsSpent(audit: StoredAudit): number {
    const { job, deps } = this.#deps.context;
    const { rows, attempts } = deps.store.audits.find(job, audit)!;
    return rows * attempts;
  }

  #measure(verdict: 'passed' | 'failed' | 'dropped', rows: number, seconds: number): void {
    const { job, manifest, deps } = this.#deps.context;
    const { audits } = deps.store;
    const share = audits.spent(job) / Math.max(1, audits.newestDraw(job)?.trained ?? 1);
    deps.meter.audit(manifest.name, { verdict, rows, seconds, share });
  }
}
