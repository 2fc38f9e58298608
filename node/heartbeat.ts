import { HEARTBEAT_INTERVAL_MS } from '../protocol/limits.ts';
import type { Heartbeat } from '../protocol/messages.ts';
import { seal } from '../protocol/signing.ts';
import { jobTopic } from '../protocol/topics.ts';
import type { ContributorDeps } from './context.ts';

/** What a heartbeat says that its sender does not know by itself. */
export type Pulse = Omit<Heartbeat, 'engine' | 'bytesSent' | 'bytesReceived' | 'issuedAt'>;

/**
 * Says every two seconds that the node is alive and how far it is: at once, and until the returned function is called.
 * Training runs in another process, so that nothing holds this up.
 */
export function startHeartbeat(deps: ContributorDeps, pulse: () => Pulse): () => void {
  const { network, trainer, clock, log } = deps;
  let cancel = (): void => {};
  const beat = (): void => {
    cancel = clock.after(HEARTBEAT_INTERVAL_MS, beat);
    const { sent, received } = network.traffic();
    const message: Heartbeat = {
      ...pulse(),
      engine: trainer.engine,
      bytesSent: sent,
      bytesReceived: received,
      issuedAt: clock.now(),
    };
    network
      .publish(jobTopic(message.job, 'peers'), seal('heartbeat', message, network.signer))
      .catch((error: unknown) => log.debug({ reason: String(error) }, 'heartbeat-not-sent'));
  };
  beat();
  return () => cancel();
}
