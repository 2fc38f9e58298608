import type { JobEvent } from '../../protocol/api/job-events.ts';
import { type JobMetrics, ROUND_SECONDS } from './job-metrics.ts';

/** Creates the metrics that count events. Returns a function that counts one event. */
export function eventMetrics(metrics: JobMetrics): (event: JobEvent, job: string) => void {
  const updates = metrics.counterBy(
    'swarm_updates_total',
    'Receipts of updates, by code. An update counts again when its code changes.',
    'code',
  );
  const updateBytes = metrics.counter('swarm_update_bytes_total', 'Payload bytes of all updates received.');
  const tokens = metrics.counter('swarm_tokens_total', 'Training tokens in committed checkpoints.');
  const rounds = metrics.counterBy(
    'swarm_rounds_total',
    'Ended rounds, by outcome: committed, null or rolled-back.',
    'outcome',
  );
  const closed = metrics.counterBy(
    'swarm_rounds_closed_total',
    'Closed rounds, by cause: complete, quorum, deadline or operator.',
    'cause',
  );
  const seconds = metrics.histogram(
    'swarm_round_seconds',
    'Duration of committed rounds, seconds.',
    ROUND_SECONDS,
  );
  const lost = metrics.counterBy(
    'swarm_peers_lost_total',
    'Nodes that left, fell silent or were removed, by reason.',
    'reason',
  );
  const strikes = metrics.counterBy('swarm_strikes_total', 'Recorded misdeeds of nodes, by kind.', 'kind');
  const sanctions = metrics.counterBy(
    'swarm_sanctions_total',
    'Decisions about nodes: suspended, banned or pardoned.',
    'what',
  );
  const sharedFaults = metrics.counter(
    'swarm_shared_faults_total',
    'Rounds in which nodes with most of the earned belief seemed to misbehave, so that no node got a strike.',
  );
  return (event, job) => {
    switch (event.type) {
      case 'update':
        updates(job, event.code);
        updateBytes(job, event.bytes);
        return;
      case 'update-undone':
        return updates(job, event.code);
      case 'round-closed':
        return closed(job, event.cause);
      case 'checkpoint':
        rounds(job, 'committed');
        tokens(job, event.tokens);
        seconds(job, event.seconds);
        return;
      case 'rolled-back':
        return rounds(job, 'rolled-back');
      case 'null-round':
        return rounds(job, 'null');
      case 'peer-lost':
        return lost(job, event.reason);
      case 'struck':
        return strikes(job, event.kind);
      case 'suspended':
      case 'banned':
      case 'pardoned':
        return sanctions(job, event.type);
      case 'shared-fault':
        return sharedFaults(job);
    }
  };
}
