import type { NodeActivity, NodeCost, NodeJob, NodeStatus } from '../../../protocol/api/node.ts';

const PEER = `12D3KooW${'a'.repeat(44)}`;
const DIGEST = 'ab'.repeat(32);

export const NO_COST: NodeCost = {
  cpuThreads: 0,
  memoryBytes: 0,
  diskBytes: null,
  bytesPerSecond: { sent: 0, received: 0 },
  month: { month: '2026-11', sent: 0, received: 0 },
};

export const JOB: NodeJob = {
  job: DIGEST,
  name: 'moby',
  base: { name: 'nano', digest: DIGEST, parameters: 3_000_000 },
  adapterParameters: 100_000,
  role: 'contributor',
  phase: 'training',
  reason: '',
  rounds: 40,
  roundsDone: 20,
  preset: 'dense',
  checkpoint: { round: 20, digest: DIGEST, heldOutLoss: 2.913 },
  newestChange: null,
};

/** Returns the activity with those of the changes that belong to its fields. */
function pick(activity: NodeActivity, changes: Partial<NodeStatus>): NodeActivity {
  const own = Object.entries(changes).filter(([field]) => field in activity);
  return { ...activity, ...Object.fromEntries(own) };
}

/** Returns the status of a node that trains round 21 of 40 of its only job. */
export function exampleStatus(changes: Partial<NodeStatus> = {}): NodeStatus {
  const activity: NodeActivity = {
    coordinator: { addresses: ['/ip4/1.2.3.4/tcp/1'], peer: PEER, connected: true, unreachable: null },
    job: JOB,
    jobName: 'moby',
    state: 'training',
    reason: '',
    hold: null,
    retrySeconds: null,
    round: 21,
    missedRound: null,
    standing: { kind: 'good', untilRound: null, strikes: 0 },
    step: 5,
    steps: 8,
    tokensPerSecond: 1240,
    done: false,
    followsJobs: false,
    download: null,
  };
  return {
    schemaVersion: 1,
    role: 'node',
    peerId: PEER,
    name: 'brave-otter',
    version: '0.4.1',
    addresses: [],
    reach: [],
    uptimeSeconds: 8040,
    traffic: { sent: 0, received: 0 },
    engine: 'onnx-cpu',
    engineNote: null,
    trainerRestarts: 0,
    ...activity,
    totals: [],
    cost: NO_COST,
    clockJump: null,
    pause: null,
    draining: false,
    limits: {},
    polite: false,
    updates: [],
    ...changes,
    jobs: changes.jobs ?? [{ ...pick(activity, changes), weight: 1, trainerSeconds: 30, shutOut: null }],
  };
}
