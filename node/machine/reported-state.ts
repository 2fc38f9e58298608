import type { Heartbeat } from '../../protocol/messages.ts';
import type { NodeState } from './state.ts';

/**
 * Returns the state that heartbeats and the status report. It differs from the phase of the state machine while the node
 * has work in a round, but its trainer is busy with another job.
 * @param busyWith name of the job that has the trainer; null if this job does not wait for the trainer
 */
export function reportedState(phase: NodeState['phase'], busyWith: string | null): Heartbeat['state'] {
  return phase === 'training' && busyWith !== null ? 'busy' : phase;
}
