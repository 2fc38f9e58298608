import { protocolError } from './errors.ts';
import type { SettingsRecord } from './messages.ts';
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
    const before = verified[i - 1];
    const continues =
      author === coordinator &&
      message.job === job &&
      message.sequence === i + 1 &&
      message.previous === (before?.digest ?? null) &&
      message.fromRound >= (before?.record.fromRound ?? 1);
    if (!continues) {
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

/** Returns the last change that applies to a round, or null if the round has the settings of the manifest. */
export function settingsAt(changes: readonly VerifiedSettings[], round: number): VerifiedSettings | null {
  return changes.findLast(({ record }) => record.fromRound <= round) ?? null;
}
