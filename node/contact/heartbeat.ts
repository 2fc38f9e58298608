import { jobTopic } from '../../protocol/job/topics.ts';
import { CLOCK_SKEW_MS, HEARTBEAT_INTERVAL_MS } from '../../protocol/limits.ts';
import type { Heartbeat } from '../../protocol/messages.ts';
import { signMessage } from '../../protocol/signing.ts';
import type { JobKeys } from './job-keys.ts';
import type { ContactDeps } from './port.ts';

/**
 * Fields of a heartbeat that the caller of `startHeartbeat` provides. All other fields are added before the
 * heartbeat is sent.
 */
export type HeartbeatFields = Omit<Heartbeat, 'engine' | 'bytesSent' | 'bytesReceived' | 'issuedAt'>;

/** Minimum pause between two heartbeats, because coordinators limit how often a node may send one. */
const MIN_INTERVAL_MS = 500;

export interface HeartbeatLoop {
  /**
   * Sends the next heartbeat as soon as MIN_INTERVAL_MS allows. Call it after a change that the coordinator waits for,
   * such as the end of a phase.
   */
  beatSoon(): void;
  stop(): void;
}

/**
 * Sends a heartbeat immediately and then every HEARTBEAT_INTERVAL_MS, sealed to the coordinator. Training runs in
 * another process, so it does not delay heartbeats.
 */
export function startHeartbeat(
  deps: ContactDeps,
  keys: JobKeys,
  fields: () => HeartbeatFields,
): HeartbeatLoop {
  const { network, trainer, clock, log } = deps;
  let last = clock.monotonic();
  let issuedAt = 0;
  let cancel = (): void => {};
  const beat = (): void => {
    cancel();
    last = clock.monotonic();
    issuedAt = nextIssuedAt(issuedAt, clock.now());
    cancel = clock.after(HEARTBEAT_INTERVAL_MS, beat);
    send().catch((error: unknown) => log.warn({ reason: String(error) }, 'heartbeat-failed'));
  };
  const send = async (): Promise<void> => {
    const { sent, received } = network.traffic();
    const message: Heartbeat = {
      ...fields(),
      engine: trainer.engine,
      bytesSent: sent,
      bytesReceived: received,
      ...(deps.runId !== undefined && { run: deps.runId }),
      issuedAt,
    };
    const signed = signMessage('heartbeat', message, network.signer);
    const sealed = keys.seal(signed, 'heartbeat', deps.randomBytes);
    await network.publish(jobTopic(message.job, 'peers'), sealed);
  };
  beat();
  return {
    beatSoon: () => {
      cancel();
      cancel = clock.after(Math.max(0, last + MIN_INTERVAL_MS - clock.monotonic()), beat);
    },
    stop: () => cancel(),
  };
}

/**
 * Returns the time to write into the next heartbeat. Coordinators accept heartbeats only in ascending order of time, so
 * this time is later than the previous one, even if the clock has been set back. It may be earlier only if the previous
 * time is more than CLOCK_SKEW_MS ahead of the clock, because coordinators refused a heartbeat with such a time.
 */
function nextIssuedAt(before: number, now: number): number {
  return before - now > CLOCK_SKEW_MS ? now : Math.max(now, before + 1);
}
