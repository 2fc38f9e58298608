/**
 * A peer of another implementation: @chainsafe/libp2p-gossipsub 14 on libp2p 2. It dials the multiaddr given, joins the
 * topic, publishes numbered messages, and reports on stdout, as JSON lines, what it hears.
 *
 *     node peer.js MULTIADDR TOPIC MESSAGES PERIOD_MS
 */
import { createHash } from 'node:crypto';
import { gossipsub } from '@chainsafe/libp2p-gossipsub';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { identify } from '@libp2p/identify';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';

const [address, topic, messages, periodMs] = process.argv.slice(2);
const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Returns the id of a message, computed from author, topic and content as docs/protocol.md describes. */
function messageId(message) {
  return createHash('sha256')
    .update(`lora-swarm/gossip\0${message.topic}\0`)
    .update(message.from.toMultihash().bytes)
    .update(message.data)
    .digest()
    .subarray(0, 20);
}

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    pubsub: gossipsub({ globalSignaturePolicy: 'StrictSign', msgIdFn: messageId, emitSelf: false }),
  },
});
const { pubsub } = node.services;
pubsub.addEventListener('message', ({ detail }) => {
  if (detail.topic !== topic) return;
  report({ event: 'heard', sha256: createHash('sha256').update(detail.data).digest('hex') });
});
node.addEventListener('peer:disconnect', () => report({ event: 'disconnected' }));
pubsub.subscribe(topic);
await node.dial(multiaddr(address));
report({ event: 'connected', peer: node.peerId.toString() });

// Wait until the parent process writes to stdin. It writes when each side has the subscription of the other side.
await new Promise((resolve) => process.stdin.once('data', resolve));
for (let i = 0; i < Number(messages); i++) {
  // Sizes in bytes, from a heartbeat to a large update.
  const sizes = [200, 4_000, 60_000, 200_000];
  const data = Buffer.alloc(sizes[i % sizes.length], `gossipsub 14 message ${i} `);
  await pubsub.publish(topic, data);
  report({ event: 'published', sha256: createHash('sha256').update(data).digest('hex') });
  await new Promise((resolve) => setTimeout(resolve, Number(periodMs)));
}
report({ event: 'done' });
process.stdin.once('end', () => process.exit(0));
process.stdin.resume();
