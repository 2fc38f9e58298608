import { countOf } from '../common/text.ts';
import { receiptMeanings } from '../protocol/receipts.ts';
import { totalRounds } from '../protocol/total-rounds.ts';
import type { NodeJob, NodeStatus } from './api-types.ts';
import type { SwarmNodeDeps, SwarmNodeOptions } from './context.ts';
import type { SwarmNode, SwarmNodeView } from './swarm-node.ts';

/** Maximum number of updates in a status. */
const SHOWN_UPDATES = 20;

export interface StatusSource {
  swarmNode: SwarmNode;
  options: SwarmNodeOptions;
  deps: SwarmNodeDeps;
  version: string;
  startedAt: number;
}

/** Returns the status of a node. */
export function nodeStatus({ swarmNode, options, deps, ...source }: StatusSource): NodeStatus {
  const { network, store, trainer, clock } = deps;
  const view = swarmNode.view();
  const { state, context, progress, download } = view;
  const peer = context?.coordinator ?? null;
  return {
    schemaVersion: 1,
    role: 'node',
    peerId: network.signer.peerId,
    name: options.name,
    version: source.version,
    addresses: network.addresses(),
    uptimeSeconds: (clock.now() - source.startedAt) / 1000,
    traffic: network.traffic(),
    engine: trainer.engine,
    engineNote: trainer.note,
    trainerRestarts: trainer.restarts,
    coordinator: {
      addresses: [...options.addresses],
      peer,
      connected: network.peers().some((connection) => connection.peer === peer),
    },
    job: jobOf(view),
    state: state.phase,
    reason: reasonOf(view, deps.scoreTrainer !== undefined),
    round: state.head?.round ?? 0,
    standing: view.standing,
    ...progress,
    download,
    updates: store.updates(SHOWN_UPDATES).map(({ job, round, update, bytes, code, detail, outcome, at }) => {
      const meaning = code === null ? 'no receipt yet' : receiptMeanings[code];
      return { job, round, update, bytes, code, detail, meaning, outcome, at };
    }),
  };
}

/**
 * Returns why the node waits. Roles and suspensions are checked here, because the state machine does not know about
 * them.
 */
function reasonOf({ state, context, standing }: SwarmNodeView, scores: boolean): string {
  if (state.phase !== 'awaiting' || context === null) return state.reason;
  if (standing?.kind === 'suspended' && (state.head?.round ?? 0) <= (standing.untilRound ?? 0)) {
    return `this node is suspended up to round ${standing.untilRound}, because of ${countOf(standing.strikes, 'strike')}`;
  }
  if (context.role === 'contributor') return state.reason;
  const isScorer = scores && context.role === 'operator';
  if (isScorer) return 'this node computes scores when the coordinator asks; it gets no other work';
  return `this node is an ${context.role} of the job, so it gets no work`;
}

function jobOf({ state: { head }, context }: SwarmNodeView): NodeJob | null {
  if (!context) return null;
  const { job, manifest, role } = context;
  const { name, digest, parameters } = manifest.base;
  return {
    job,
    name: manifest.name,
    base: { name, digest, parameters },
    adapterParameters: manifest.adapter.parameters,
    role,
    phase: head?.phase ?? null,
    rounds: totalRounds(head?.settings?.values.count ?? manifest.rounds.count, head),
    preset: head?.preset ?? null,
    checkpoint: head && {
      round: head.checkpoint.round,
      digest: head.checkpoint.digest,
      heldOutLoss: head.checkpoint.heldOutLoss,
    },
  };
}
