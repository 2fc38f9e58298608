import type { Manifest } from '../../protocol/job/manifest.ts';
import { firstSettings, type RunningSettings } from '../../protocol/job/settings.ts';
import type { Head } from '../../protocol/messages.ts';
import { settingsAt, type VerifiedSettings, verifySettings } from '../../protocol/settings-chain.ts';
import { type Signer, signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { Store, StoredJob } from '../store/store.ts';

interface Deps {
  readonly store: Pick<Store, 'jobs'>;
  readonly network: { readonly signer: Signer };
}

/**
 * The settings of a job that may change while it runs. The manifest has the first settings, and never changes. Each
 * change is a signed record that contains the digest of the previous record. Heads and checkpoints contain the digest
 * of the newest record that applies to their round.
 */
export class JobSettings {
  readonly #stored: Pick<StoredJob, 'job' | 'term'>;
  readonly #first: RunningSettings;
  readonly #deps: Deps;
  readonly #changes: VerifiedSettings[];

  /** @throws SwarmError SETTINGS_CHAIN, SIGNATURE_INVALID, MESSAGE_* if a stored record is damaged */
  constructor(options: { stored: Pick<StoredJob, 'job' | 'term'>; manifest: Manifest }, deps: Deps) {
    const { job } = options.stored;
    this.#stored = options.stored;
    this.#first = firstSettings(options.manifest);
    this.#deps = deps;
    const coordinator = deps.network.signer.peerId;
    this.#changes = verifySettings(deps.store.jobs.settings(job), { job, coordinator });
  }

  /** All changes, oldest first. */
  get changes(): readonly VerifiedSettings[] {
    return this.#changes;
  }

  /** The settings after the newest change. They may apply only from the next round on. */
  get newest(): RunningSettings {
    return this.#changes.at(-1)?.record.values ?? this.#first;
  }

  /** Digest of the newest change; null if there was none. */
  get newestRecord(): string | null {
    return this.#changes.at(-1)?.digest ?? null;
  }

  /** Returns the settings that apply to a round. */
  at(round: number): RunningSettings {
    return settingsAt(this.#changes, round)?.record.values ?? this.#first;
  }

  /** Returns the digest of the newest change that applies to a round; null if the round has the manifest's settings. */
  recordAt(round: number): string | null {
    return settingsAt(this.#changes, round)?.digest ?? null;
  }

  /**
   * Returns an object with the field `settings` of a round's head. The object is empty if the round has the
   * manifest's settings.
   */
  headFields(round: number): Pick<Head, 'settings'> {
    const record = this.recordAt(round);
    return record === null ? {} : { settings: { record, values: this.at(round) } };
  }

  /** Returns the settings before a change. @param sequence number of the change */
  before(sequence: number): RunningSettings {
    return this.#changes[sequence - 2]?.record.values ?? this.#first;
  }

  /** Signs and records a change of settings. The caller must be in a transaction. */
  record(
    values: RunningSettings,
    { fromRound, reason, now }: { fromRound: number; reason: string; now: number },
  ): VerifiedSettings {
    const { job, term } = this.#stored;
    const { store, network } = this.#deps;
    const sequence = this.#changes.length + 1;
    const previous = this.#changes.at(-1)?.digest ?? null;
    const message = { job, term, sequence, previous, fromRound, values, reason, issuedAt: now };
    const envelope = signMessage('settings', message, network.signer);
    const { digest } = verifyMessage('settings', envelope);
    store.jobs.addSettings(job, { sequence, digest, envelope });
    const change = { digest, record: message };
    this.#changes.push(change);
    return change;
  }
}
