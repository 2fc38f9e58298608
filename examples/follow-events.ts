// Prints the events of a job on a running coordinator until the job ends, as a dashboard or a chat bot would.
// Run: node examples/follow-events.ts HOME JOB
import { connect, followEvents } from 'lora-swarm';

const [home, job] = process.argv.slice(2);
if (home === undefined || job === undefined) {
  console.error('usage: node examples/follow-events.ts HOME JOB');
  process.exit(2);
}

// The client uses the coordinator's control API on loopback. It reads the address and the token from the coordinator's home.
const coordinator = await connect({ home });
const { name, phase, roundsDone, rounds, peers } = await coordinator.job(job);
const state = phase === 'finished' && roundsDone < rounds ? 'stopped' : phase;
console.log(`${name} is ${state}: ${roundsDone} of ${rounds} rounds done, nodes: ${peers}`);

// First come all past events, then new ones as they occur. The loop survives a restart of the coordinator.
for await (const event of followEvents({ home }, job, { signal: AbortSignal.timeout(3_600_000) })) {
  const time = new Date(event.at).toISOString();
  switch (event.type) {
    case 'peer-joined':
    case 'peer-lost':
      console.log(`${time} ${event.type}: ${event.name}`);
      break;
    case 'update':
      console.log(`${time} update of round ${event.round}: ${event.code}, ${event.bytes} bytes`);
      break;
    case 'checkpoint':
      console.log(`${time} checkpoint ${event.round}: held-out loss ${event.heldOutLoss?.toFixed(3)}`);
      break;
    case 'finished': {
      const { stopReason } = event;
      const stopped = `stopped early${stopReason ? `: ${stopReason}` : ''}`;
      console.log(`${time} ${stopReason === undefined ? 'finished' : stopped}`);
      break;
    }
    default:
      console.log(`${time} ${event.type}`);
  }
  if (event.type === 'finished') break;
}
