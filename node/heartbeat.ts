import { CLOCK_SKEW_MS, HEARTBEAT_INTERVAL_MS } from '../protocol/limits.ts';
import type { Heartbeat } from '../protocol/messages.ts';
import { signMessage } from '../protocol/signing.ts';
import { jobTopic } from '../protocol/topics.ts';
import type { SwarmNodeDeps } from './context.ts';

/** What a heartbeat says that its sender does not know by itself. */
export type Pulse = Omit<Heartbeat, 'engine' | 'bytesSent' | 'bytesReceived' | 'issuedAt'>;

/** Changes of state are told at once, but not faster than this: coordinators limit how often a node may speak. */
const LEAST_PAUSE_MS = 500;

export interface HeartbeatLoop {
  /** Something has changed that the coordinator waits for. */
  hasten(): void;
  stop(): void;
}

/**
 * Says at once, and then at least every two seconds, that the node is alive and how far it is. Training runs in another
 * process, so that nothing holds this up.
 */
export function startHeartbeat(deps: SwarmNodeDeps, pulse: () => Pulse): HeartbeatLoop {
  const { network, trainer, clock, log } = deps;
  let last = clock.monotonic();
  let issuedAt = 0;
  let cancel = (): void => {};
  const beat = (): void => {
    cancel();
    last = clock.monotonic();
    issuedAt = nextMoment(issuedAt, clock.now());
    cancel = clock.after(HEARTBEAT_INTERVAL_MS, beat);
    say().catch((error: unknown) => log.warn({ reason: String(error) }, 'heartbeat-not-sent'));
  };
  const say = async (): Promise<void> => {
    const { sent, received } = network.traffic();
    const message: Heartbeat = {
      ...pulse(),
      engine: trainer.engine,
      bytesSent: sent,
      bytesReceived: received,
      issuedAt,
    };
    await network.publish(jobTopic(message.job, 'peers'), signMessage('heartbeat', message, network.signer));
  };
  beat();
  return {
    hasten: () => {
      cancel();
      cancel = clock.after(Math.max(0, last + LEAST_PAUSE_MS - clock.monotonic()), beat);
    },
    stop: () => cancel(),
  };
}

/**
 * Coordinators take heartbeats only in order, so one is always later than the one before, also where the clock has been
 * set back in between. If it was so far ahead that none of those was taken, the new time counts.
 */
function nextMoment(before: number, now: number): number {
  return before - now > CLOCK_SKEW_MS ? now : Math.max(now, before + 1);
}
