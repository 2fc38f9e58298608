// Lists the checkpoints in the home of a coordinator, and verifies their signatures, weights and order.
// Run: node examples/read-checkpoints.ts HOME JOB
// After examples/swarm-in-one-process.ts: node examples/read-checkpoints.ts one-process-swarm/coordinator moby
import { join } from 'node:path';
import { isSwarmError, readCheckpoints } from 'lora-swarm';
import { shortPeer } from 'lora-swarm/protocol';

const [home, job] = process.argv.slice(2);
if (home === undefined || job === undefined) {
  console.error('usage: node examples/read-checkpoints.ts HOME JOB');
  process.exit(2);
}

try {
  // The coordinator does not have to run. Checkpoints are folders that contain their own signatures.
  const checkpoints = await readCheckpoints(join(home, 'checkpoints', job));
  console.log(`${checkpoints.length} checkpoints, all signed by ${checkpoints[0]?.author}`);
  for (const { path, digest, kept, checkpoint } of checkpoints) {
    const { round, metrics, contributors } = checkpoint;
    console.log(`round ${round}: ${digest.slice(0, 12)}, held-out loss ${metrics.heldOutLoss?.toFixed(3)}`);
    for (const { peer, tokens } of contributors) console.log(`  ${tokens} tokens by ${shortPeer(peer)}`);
    console.log(kept ? `  adapter: ${path}` : '  the coordinator has deleted its weights');
  }
} catch (error) {
  // Every error of this library has a stable code. `next` is advice, or null.
  if (!isSwarmError(error)) throw error;
  console.error(`${error.code}: ${error.message}`, error.next ?? '');
  process.exitCode = 1;
}
