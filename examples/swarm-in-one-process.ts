// Runs a whole swarm in this process: a coordinator, two nodes, and a job from its first round to its last.
// Run: node examples/swarm-in-one-process.ts [FOLDER]
import { join } from 'node:path';
import { createJob, followEvents, mobyDick, nanoModel, startCoordinator, startNode } from 'lora-swarm';

const folder = process.argv[2] ?? 'one-process-swarm';
// Only this machine can connect to 127.0.0.1. A real coordinator listens on /ip4/0.0.0.0/tcp/4040, which others can reach.
const local = { listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false };

// A coordinator or node keeps everything in its home. If it is started again with the same home, it continues.
const coordinator = await startCoordinator({ home: join(folder, 'coordinator'), ...local });
console.log(`coordinator ${coordinator.peerId}`);

const { job, invite } = await createJob(
  coordinator,
  {
    name: 'moby',
    base: nanoModel(),
    data: { train: mobyDick(), heldOut: 0.05 },
    lora: { rank: 8 },
    rounds: { count: 2, localSteps: 10, minPeers: 2, quorum: 1 },
  },
  { onProgress: ({ stage, done, total }) => done === total && console.log(`prepared: ${stage}`) },
);

// A node needs only the invite, because it downloads base and data from the swarm. So it could also run on another
// machine.
const compute = { engine: 'onnx-cpu', threads: 1 };
const nodes = await Promise.all(
  ['otter', 'heron'].map((name) => startNode({ home: join(folder, name), name, invite, compute, ...local })),
);

try {
  for await (const event of followEvents(coordinator, job)) {
    if (event.type === 'peer-joined') console.log(`${event.name} joined`);
    if (event.type === 'checkpoint') {
      console.log(`checkpoint ${event.round}: held-out loss ${event.heldOutLoss?.toFixed(3)}`);
    }
    // A coordinator pauses a job that has a problem, until its operator resumes it. This program has no operator.
    if (event.type === 'paused') throw new Error(event.reason);
    if (event.type === 'finished') break;
  }
} finally {
  await Promise.all(nodes.map((node) => node.stop()));
  await coordinator.stop();
}
console.log(`finished; the checkpoints are in ${join(folder, 'coordinator', 'checkpoints', 'moby')}`);
