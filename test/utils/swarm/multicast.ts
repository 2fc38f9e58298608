import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';

const GROUP = '224.0.0.251';
const MDNS_PORT = 5353;
const PATIENCE_MS = 2_000;

/** Returns why multicast DNS does not work on this machine, tested with a packet to its group; null if it works. */
export async function multicastProblem(): Promise<string | null> {
  const sockets: Socket[] = [];
  const join = async (port: number): Promise<Socket> => {
    const socket = createSocket({ type: 'udp4', reuseAddr: true });
    sockets.push(socket);
    socket.bind(port);
    await once(socket, 'listening');
    socket.addMembership(GROUP);
    socket.setMulticastLoopback(true);
    return socket;
  };
  try {
    await join(MDNS_PORT);
    const probe = await join(0);
    const received = once(probe, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
    await Promise.all([received, send(probe)]);
    return null;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return `no multicast between sockets of this machine: ${reason}`;
  } finally {
    for (const socket of sockets) socket.close();
  }
}

/** Sends to our own port, where no other program in the local network listens. */
function send(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send('lora-swarm', socket.address().port, GROUP, (error) => (error ? reject(error) : resolve()));
  });
}
