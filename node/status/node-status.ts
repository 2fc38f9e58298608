import { countOf } from '../../common/text.ts';
import type {
  ClockJump,
  KeptLimits,
  NodeActivity,
  NodeCost,
  NodeJob,
  NodeJobStatus,
  NodeStatus,
  Pause,
} from '../../protocol/api/node.ts';
import { receiptMeanings } from '../../protocol/receipts.ts';
import { changesOf } from '../contact/job-settings.ts';
import type { NodeDeps } from '../jobs/context.ts';
import type { SwarmNode } from '../jobs/swarm-node.ts';
import type { SwarmNodeView } from '../jobs/swarm-node-view.ts';
import type { SwarmNodes } from '../jobs/swarm-nodes.ts';
import type { Pauses } from '../limits/pauses.ts';
import { reportedState } from '../machine/reported-state.ts';
import { isDone } from '../machine/state.ts';

/** Maximum number of updates in a status. */
const SHOWN_UPDATES = 20;

export interface StatusSource {
  nodes: SwarmNodes;
  /** Display name of the node. */
  name: string;
  deps: NodeDeps;
  version: string;
  startedAt: number;
  cost: () => NodeCost;
  /** @default the clock never jumped */
  clockJump?: () => ClockJump | null;
  /** @default no limits */
  limits?: () => KeptLimits;
  /** @default not polite */
  polite?: () => boolean;
}

/** Returns the status of a node. */
export function nodeStatus({ nodes, name, deps, ...source }: StatusSource): NodeStatus {
  const { network, store, trainer, clock } = deps;
  const jobs = nodes.all.map((node) => jobStatus(node, deps));
  const {
    weight: _w,
    trainerSeconds: _s,
    shutOut: _r,
    ...activity
  } = jobs.find(({ shutOut }) => shutOut === null) ?? jobs[0]!;
  return {
    schemaVersion: 1,
    role: 'node',
    peerId: network.signer.peerId,
    name,
    version: source.version,
    addresses: network.addresses(),
    reach: network.reachability(),
    uptimeSeconds: (clock.now() - source.startedAt) / 1000,
    traffic: network.traffic(),
    engine: trainer.engine,
    engineNote: trainer.note,
    trainerRestarts: trainer.restarts,
    ...activity,
    jobs,
    totals: store.totals.jobs(),
    cost: source.cost(),
    clockJump: source.clockJump?.() ?? null,
    pause: deps.pauses?.current ?? null,
    draining: deps.pauses?.isDraining ?? false,
    limits: source.limits?.() ?? {},
    polite: source.polite?.() ?? false,
    updates: store.updates(SHOWN_UPDATES).map(({ job, round, update, bytes, code, detail, outcome, at }) => {
      const meaning = code === null ? 'no receipt yet' : receiptMeanings[code];
      return { job, round, update, bytes, code, detail, meaning, outcome, at };
    }),
  };
}

function jobStatus(node: SwarmNode, { network, scoreTrainer, clock, pauses }: NodeDeps): NodeJobStatus {
  const view = node.view();
  const { state, context, jobName, progress, download, busyWith, weight, trainerSeconds, shutOut } = view;
  const peer = context?.coordinator ?? null;
  const connected = network.peers().some((connection) => connection.peer === peer);
  return {
    coordinator: {
      addresses: [...node.addresses],
      peer,
      connected,
      unreachable: unreachableOf(node, network),
    },
    job: jobOf(view),
    jobName,
    state: reportedState(state.phase, busyWith),
    reason: pauseOf(view, pauses)?.text ?? reasonOf(view, scoreTrainer !== undefined),
    hold: view.hold,
    retrySeconds: state.retryAt === null ? null : Math.max(0, state.retryAt - clock.monotonic()) / 1000,
    round: state.head?.round ?? 0,
    missedRound: state.missedRound,
    standing: view.standing,
    ...progress,
    done: isDone(state),
    followsJobs: view.followsJobs,
    download,
    weight,
    trainerSeconds,
    shutOut: shutOut && { code: String(shutOut.values.code), message: shutOut.message },
  };
}

/** Returns the pause of the node; null if the node is not paused, or if another hold needs a change by the owner. */
function pauseOf({ hold }: SwarmNodeView, pauses: Pauses | undefined): Pause | null {
  const pause = pauses?.current ?? null;
  return hold?.reason === pause?.reason ? pause : null;
}

/**
 * Returns the newest failure to connect to the coordinator's address that the node tries next; null while the
 * node is connected and before the first failure.
 */
function unreachableOf(
  node: SwarmNode,
  network: NodeDeps['network'],
): NodeActivity['coordinator']['unreachable'] {
  if (network.peers().some(({ peer }) => node.membership.isCoordinator(peer))) return null;
  const failed = network.unreachablePeers().filter(({ address }) => node.addresses.includes(address));
  const [next] = failed.sort((a, b) => a.retryInMs - b.retryInMs);
  if (next === undefined) return null;
  return { reason: next.reason, failures: next.failures, retrySeconds: next.retryInMs / 1000 };
}

/**
 * Returns why the node waits. The reason in `state` is not enough, because the state machine does not know about other
 * jobs, observers and suspensions.
 */
function reasonOf({ state, context, standing, busyWith, download }: SwarmNodeView, scores: boolean): string {
  const needsTrainer = state.phase === 'training' || (state.phase === 'joining' && download === null);
  if (needsTrainer && busyWith !== null) return `the trainer is busy with the job ${busyWith}`;
  if (state.phase !== 'awaiting' || context === null) return state.reason;
  if (standing?.kind === 'suspended' && (state.head?.round ?? 0) <= (standing.untilRound ?? 0)) {
    return `this node is suspended up to round ${standing.untilRound}, because of ${countOf(standing.strikes, 'strike')}`;
  }
  if (context.role === 'contributor') return state.reason;
  const isScorer = scores && context.role === 'operator';
  if (isScorer)
    return 'this node computes scores and evaluates checkpoints when the coordinator asks; it gets no other work';
  return `this node is an ${context.role} of the job, so it gets no work`;
}

function jobOf({ state: { head }, context }: SwarmNodeView): NodeJob | null {
  if (!context) return null;
  const { job, manifest, role, headSettings } = context;
  const change = headSettings.newest;
  const { name, digest, parameters } = manifest.base;
  return {
    job,
    name: manifest.name,
    base: { name, digest, parameters },
    adapterParameters: manifest.adapter.parameters,
    role,
    phase: head?.phase ?? null,
    reason: head?.reason ?? '',
    rounds: change?.record.values.count ?? manifest.rounds.count,
    roundsDone: head?.checkpoint.ordinal ?? 0,
    preset: head?.preset ?? null,
    checkpoint: head && {
      round: head.checkpoint.round,
      digest: head.checkpoint.digest,
      heldOutLoss: head.checkpoint.heldOutLoss,
    },
    newestChange: change && {
      digest: change.digest,
      fromRound: change.record.fromRound,
      changes: changesOf(change, manifest),
      reason: change.record.reason,
    },
  };
}
