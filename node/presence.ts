import { isSwarmError } from '../common/errors.ts';
import type { GossipVerdict } from '../net/network.ts';
import type { Head } from '../protocol/messages.ts';
import { jobTopic } from '../protocol/topics.ts';
import type { PhaseContext } from './context.ts';
import { type Pulse, startHeartbeat } from './heartbeat.ts';
import { openHead } from './phases/join.ts';
import { factsOf } from './tasks.ts';

export interface Presence {
  /** The node's state has changed: tells the coordinator soon. */
  hasten(): void;
  leave(): void;
}

/** Shows the node to a job and hears its heads. */
export function takePart(
  context: PhaseContext,
  handlers: {
    pulse: () => Omit<Pulse, 'job' | 'name' | 'agent'>;
    /** @returns whether the head is news, and so worth passing on */
    onHead: (head: Head) => boolean;
  },
): Presence {
  const { deps, job, options } = context;
  const { name, agent } = options;
  const onHead = (data: Uint8Array): GossipVerdict => {
    try {
      return handlers.onHead(openHead(data, context)) ? 'accept' : 'ignore';
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      deps.log.debug(factsOf(error), 'head-refused');
      return 'reject';
    }
  };
  const leaveHeads = deps.network.subscribe(jobTopic(job, 'heads'), ({ data }) => onHead(data));
  const heartbeat = startHeartbeat(deps, () => ({ job, name, agent, ...handlers.pulse() }));
  return {
    hasten: heartbeat.hasten,
    leave: () => {
      leaveHeads();
      heartbeat.stop();
    },
  };
}
