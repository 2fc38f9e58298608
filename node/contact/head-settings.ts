import { protocolError } from '../../protocol/errors.ts';
import { type HeadOrder, isNewer } from '../../protocol/job/head-order.ts';
import type { RunningSettings } from '../../protocol/job/settings.ts';
import type { Head, SettingsRecord } from '../../protocol/messages.ts';
import {
  continuesSettings,
  type VerifiedSettings,
  verifyHeadSettings,
  verifyOneSettings,
} from '../../protocol/settings-chain.ts';

/**
 * Maximum number of earlier changes that a node fetches to check a new change. Each needs a request. Operators make few
 * changes, so a node that was away for a while still checks all of them.
 */
export const CHECKED_CHANGES = 16;

/** A verified change of the settings. */
export interface KnownChange extends VerifiedSettings {
  /** The settings before the change; null for the first change of the job. */
  readonly before: RunningSettings | null;
}

interface HeadSettingsDeps {
  /** Returns the signed change of the settings with this digest; null if the coordinator has none. */
  readonly fetch: (digest: string, signal: AbortSignal) => Promise<Uint8Array | null>;
  /**
   * Stores a verified change of the settings. A coordinator that is restored from an old backup can get the change from
   * the node.
   */
  readonly keep: (change: { sequence: number; digest: string; envelope: Uint8Array }) => void;
  /** Called when a head names another change than the head before it. */
  readonly onChange: (change: KnownChange) => void;
}

/**
 * Checks the settings in the heads of a job. The values in a head must be the values in the signed change that the head
 * names, and this change must follow the changes that the node has already verified. Without this check, a coordinator
 * could give each node different settings, and no signed message would prove it.
 *
 * A head with a higher term may replace changes, because a coordinator that was restored from an old backup begins a new
 * term, and may have lost changes. The signed changes that it replaces stay in the node's database.
 */
export class HeadSettings {
  readonly #job: string;
  readonly #coordinator: string;
  readonly #deps: HeadSettingsDeps;
  /** The newest change that was verified; null before the first. */
  #newest: KnownChange | null = null;
  /** Term and sequence number of the newest head whose settings were checked. */
  #checked: HeadOrder | null = null;

  constructor({ job, coordinator }: { job: string; coordinator: string }, deps: HeadSettingsDeps) {
    this.#job = job;
    this.#coordinator = coordinator;
    this.#deps = deps;
  }

  /** The newest change that a head has named; null before the first. */
  get newest(): KnownChange | null {
    return this.#newest;
  }

  /**
   * Checks the settings in a verified head. Does not check a head that is older than the newest head checked so far,
   * because the node ignores such a head.
   * @throws SwarmError SETTINGS_MISMATCH, SETTINGS_CHAIN; the errors of `verifyMessage` and of the request
   */
  async check(head: Head, signal: AbortSignal): Promise<void> {
    const isCurrent = (): boolean => this.#checked === null || isNewer(head, this.#checked);
    if (!isCurrent()) return;
    const change = await this.#changeOf(head, signal);
    // Stop if a newer head was checked during the requests.
    if (!isCurrent()) return;
    const isNews = change !== null && change.digest !== this.#newest?.digest;
    this.#newest = change;
    this.#checked = { term: head.term, sequence: head.sequence };
    if (isNews) this.#deps.onChange(change);
  }

  async #changeOf(head: Head, signal: AbortSignal): Promise<KnownChange | null> {
    const newest = this.#newest;
    const digest = head.settings?.record ?? null;
    const mayReplace = this.#checked !== null && head.term > this.#checked.term;
    if (digest === null) {
      const isHidden = newest !== null && newest.record.fromRound <= head.round;
      if (isHidden && !mayReplace) throw this.#broken(newest.record.sequence);
      return isHidden ? null : newest;
    }
    const known = newest?.digest === digest ? newest : await this.#fetch(digest, signal);
    verifyHeadSettings(head, known);
    if (known === newest) return newest;
    const before = await this.#checkChain(known, { known: newest, mayReplace }, signal);
    return { ...known, before: before?.record.values ?? null };
  }

  /**
   * Follows the digests of the previous changes back to the change that the node knows, or to the first change.
   * @returns the change before `change`; null if `change` is the first
   */
  async #checkChain(
    change: VerifiedSettings,
    { known, mayReplace }: { known: VerifiedSettings | null; mayReplace: boolean },
    signal: AbortSignal,
  ): Promise<VerifiedSettings | null> {
    let previous: VerifiedSettings | null = null;
    let next = change;
    for (let checked = 0; checked < CHECKED_CHANGES; checked++) {
      const { sequence } = next.record;
      const isFork = known !== null && sequence <= known.record.sequence && !mayReplace;
      const before = isFork ? null : await this.#changeBefore(next.record, known, signal);
      if (isFork || !continuesSettings(before, next.record)) throw this.#broken(sequence);
      if (checked === 0) previous = before;
      if (before === null || before === known) break;
      next = before;
    }
    return previous;
  }

  async #changeBefore(
    { sequence, previous }: SettingsRecord,
    known: VerifiedSettings | null,
    signal: AbortSignal,
  ): Promise<VerifiedSettings | null> {
    if (sequence === 1) return null;
    if (previous === null) throw this.#broken(sequence);
    if (previous === known?.digest) return known;
    return this.#fetch(previous, signal);
  }

  async #fetch(digest: string, signal: AbortSignal): Promise<VerifiedSettings> {
    const envelope = await this.#deps.fetch(digest, signal);
    if (envelope === null) {
      throw protocolError(
        'SETTINGS_MISMATCH',
        `the coordinator names the change ${digest} of the settings of job ${this.#job}, but does not have it`,
        { job: this.#job, record: digest },
      );
    }
    const change = verifyOneSettings(envelope, { job: this.#job, coordinator: this.#coordinator, digest });
    this.#deps.keep({ sequence: change.record.sequence, digest, envelope });
    return change;
  }

  #broken(sequence: number): Error {
    return protocolError(
      'SETTINGS_CHAIN',
      `change ${sequence} of the settings of job ${this.#job} does not fit the changes that this node knows`,
      { job: this.#job, sequence },
    );
  }
}
