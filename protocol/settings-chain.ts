import { protocolError } from './errors.ts';
import type { RunningSettings } from './job/settings.ts';
import type { Head, SettingsRecord } from './messages.ts';
import { verifyMessage } from './signing.ts';

/** A verified change of a job's settings. */
export interface VerifiedSettings {
  /** Digest of the change, as heads and checkpoints name it. */
  readonly digest: string;
  readonly record: SettingsRecord;
}

/**
 * Verifies the changes of a job's settings: their signatures, and that each change continues the one before it.
 * @param envelopes all signed changes of the job, oldest first
 * @param expected the job, and the peer id of its coordinator
 * @throws SwarmError SETTINGS_CHAIN, SIGNATURE_INVALID, MESSAGE_*
 */
export function verifySettings(
  envelopes: readonly Uint8Array[],
  { job, coordinator }: { job: string; coordinator: string },
): VerifiedSettings[] {
  const verified: VerifiedSettings[] = [];
  for (const [i, envelope] of envelopes.entries()) {
    const { author, message, digest } = verifyMessage('settings', envelope);
    const isOfJob = author === coordinator && message.job === job;
    if (!isOfJob || !continuesSettings(verified[i - 1] ?? null, message)) {
      throw protocolError(
        'SETTINGS_CHAIN',
        `change ${i + 1} of the settings of job ${job} does not continue the change before it`,
        { job, sequence: i + 1 },
      );
    }
    verified.push({ digest, record: message });
  }
  return verified;
}

/**
 * Returns whether a change of a job's settings continues the change before it. The change must have the next
 * sequence number, and contain the digest of the change before it. Its first round must not be earlier, and
 * its term must not be lower.
 * @param before the change before it; null if `record` must be the first change of the job
 */
export function continuesSettings(before: VerifiedSettings | null, record: SettingsRecord): boolean {
  const { sequence, fromRound, term } = before?.record ?? { sequence: 0, fromRound: 1, term: 1 };
  return (
    record.sequence === sequence + 1 &&
    record.previous === (before?.digest ?? null) &&
    record.fromRound >= fromRound &&
    record.term >= term
  );
}

/**
 * Verifies one change of a job's settings, without the changes before it.
 * @param expected the job, the peer id of its coordinator, and the digest that names the change
 * @throws SwarmError SETTINGS_MISMATCH, SIGNATURE_INVALID, MESSAGE_*
 */
export function verifyOneSettings(
  envelope: Uint8Array,
  expected: { job: string; coordinator: string; digest: string },
): VerifiedSettings {
  const { author, message, digest } = verifyMessage('settings', envelope);
  if (author !== expected.coordinator || message.job !== expected.job || digest !== expected.digest) {
    throw protocolError(
      'SETTINGS_MISMATCH',
      `expected the change ${expected.digest} of the settings of job ${expected.job}, but got the change ${digest}`,
      { ...expected, found: digest, author },
    );
  }
  return { digest, record: message };
}

/**
 * Checks that a head has the values of the change of the settings that it names.
 * @param change the verified change with this digest
 * @throws SwarmError SETTINGS_MISMATCH
 */
export function verifyHeadSettings(head: Head, { digest, record }: VerifiedSettings): void {
  const { settings, round, term, job } = head;
  const names = Object.keys(record.values) as (keyof RunningSettings)[];
  const isSame =
    settings?.record === digest && names.every((name) => settings.values[name] === record.values[name]);
  if (isSame && record.fromRound <= round && record.term <= term) return;
  throw protocolError(
    'SETTINGS_MISMATCH',
    `the head of round ${round} of job ${job} names the change ${digest} of the settings, but its settings differ from this change`,
    { job, round, record: digest, sequence: record.sequence },
  );
}

/** Returns the last change that applies to a round, or null if the round has the settings of the manifest. */
export function settingsAt(changes: readonly VerifiedSettings[], round: number): VerifiedSettings | null {
  return changes.findLast(({ record }) => record.fromRound <= round) ?? null;
}
