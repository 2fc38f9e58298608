import type { Quota } from '../../common/rate-limiter.ts';
import type { RunContext } from '../context.ts';
import type { Roster } from '../peers/membership.ts';
import { clip } from '../record/heads.ts';
import type { Outbox } from '../record/outbox.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import { isOpen } from '../round/round-machine.ts';
import type { StoredReceipt } from '../store/store.ts';
import { keepEvidence } from './evidence.ts';
import type { Refusal } from './header-checks.ts';
import type { Accepted, Subject } from './intake.ts';

/** Refusals recorded and logged per sender and round; a flood beyond is refused all the same, and only counted. */
export const RECORDED_REFUSALS = 32;
/** Senders whose refusals are recorded per round. */
const REFUSED_SENDERS = 4096;
/** Refusals recorded of all senders together: each waits for the disk, and identities cost a stranger nothing. */
export const ALL_REFUSALS: Quota = { calls: 512, perMs: 60_000 };

/** Writes down what has been decided about updates as they come, each with its receipt. */
export class UpdateRecorder {
  readonly #context: RunContext;
  readonly #stepper: RoundDriver;
  readonly #roster: Roster;
  /** Refusals recorded in this round, by sender. */
  readonly #refusals = new Map<string, number>();
  #refusalsRound = 0;

  constructor(_options: object, deps: { context: RunContext; stepper: RoundDriver; roster: Roster }) {
    this.#context = deps.context;
    this.#stepper = deps.stepper;
    this.#roster = deps.roster;
  }

  record({ author, update, envelope }: Accepted): StoredReceipt {
    const { job, stored, deps } = this.#context;
    const { state, recorder } = this.#stepper;
    const now = deps.clock.now();
    const { round, preset, tokens, payload, seconds, lossFirst, lossLast } = update;
    const { digest, size } = payload;
    const { current } = state;
    // A round that is over is timed by the calendar, by which it was recorded.
    const taken =
      current?.number === round
        ? deps.clock.monotonic() - current.openedAt
        : now - recorder.round(round)!.openedAt;
    const ms = Math.max(1, taken);
    const speed = (tokens * 1000) / ms;
    const late = !isOpen(state) || state.round !== round;
    const code = late ? 'late' : 'accepted';
    const detail = late ? `round ${round} had closed; the update counts with the next merge` : '';
    const common = { round, peer: author, digest };
    const receipt: StoredReceipt = { ...common, term: stored.term, code, detail, issuedAt: now };
    const evidence = keepEvidence(envelope);
    const write = (outbox: Outbox): void => {
      deps.store.updates.insert(job, {
        ...common,
        size,
        preset,
        tokens,
        lossLast,
        evidence,
        arrivedAt: now,
        late,
      });
      deps.store.blobs.use(job, 'update', round, [digest]);
      deps.store.peers.setSpeed(job, author, speed);
      outbox.receipt(receipt);
      const figures = { bytes: size, tokens, seconds, lossFirst, lossLast };
      outbox.event({ type: 'update', round, peer: author, code, detail, ...figures });
    };
    this.#stepper.dispatch({ type: 'update', peer: author, round, ms, speed }, write, 'update-recorded');
    this.#roster.delivered(author, round, speed);
    return receipt;
  }

  refuse({ code, detail: full }: Refusal, { peer, digest, update }: Subject): StoredReceipt {
    const { stored, deps } = this.#context;
    const round = update?.round ?? this.#stepper.state.round;
    const detail = clip(full);
    const issuedAt = deps.clock.now();
    const receipt: StoredReceipt = { term: stored.term, round, peer, digest, code, detail, issuedAt };
    if (!this.#mayRecordRefusal(peer)) {
      this.#roster.note(receipt);
      return receipt;
    }
    this.#stepper.transact((outbox) => {
      outbox.receipt(receipt);
      outbox.event({
        type: 'update',
        round,
        peer,
        code,
        detail,
        bytes: update?.payload.size ?? 0,
        tokens: update?.tokens ?? 0,
        seconds: update?.seconds ?? 0,
        lossFirst: update?.lossFirst ?? null,
        lossLast: update?.lossLast ?? null,
      });
    });
    deps.log.warn({ peer, round, code, detail }, 'update-refused');
    return receipt;
  }

  #mayRecordRefusal(peer: string): boolean {
    const { round } = this.#stepper.state;
    if (this.#refusalsRound !== round) this.#refusals.clear();
    this.#refusalsRound = round;
    const count = this.#refusals.get(peer) ?? 0;
    if (count >= RECORDED_REFUSALS || (count === 0 && this.#refusals.size >= REFUSED_SENDERS)) return false;
    if (!this.#context.limiter.take('refusals', ALL_REFUSALS)) return false;
    this.#refusals.set(peer, count + 1);
    return true;
  }
}
