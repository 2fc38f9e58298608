import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

type Mode =
  | { readonly kind: 'open' | 'cut' | 'half' }
  | { readonly kind: 'slow'; readonly bytesPerSecond: number };

/** Maximum length of a piece that a slow link passes on at once, in bytes. */
const PIECE_BYTES = 4096;

/** The link between the coordinator and all nodes: a TCP proxy that can drop bytes silently, or pass them on slowly. */
export class Link {
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #mode: Mode = { kind: 'open' };
  #count = 0;
  /** Time, in milliseconds, at which a slow link will have passed on all bytes that it has received so far. */
  #busyUntil = 0;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async create(target: number): Promise<Link> {
    const link = new Link(target);
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    return link;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /**
   * Changes the link. `cut` drops all bytes. `half` drops the bytes of every second connection. When the link is open
   * again, a connection that lost bytes is closed, because its stream is broken.
   */
  set(mode: Mode): void {
    this.#mode = mode;
    if (mode.kind === 'open') for (const socket of this.#sockets) if (lossy.has(socket)) socket.destroy();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(near: Socket): void {
    const odd = this.#count++ % 2 === 1;
    const far = connect(this.#target, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.on('data', (bytes) => {
        const { kind } = this.#mode;
        if (kind === 'cut' || (kind === 'half' && odd)) {
          lossy.add(from);
          return;
        }
        if (kind === 'slow') void this.#slowly(from, to, bytes);
        else if (!to.write(bytes)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      });
    }
  }

  async #slowly(from: Socket, to: Socket, bytes: Buffer): Promise<void> {
    from.pause();
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      const rate = this.#mode.kind === 'slow' ? this.#mode.bytesPerSecond : Number.POSITIVE_INFINITY;
      this.#busyUntil = Math.max(this.#busyUntil, performance.now()) + (1000 * piece.length) / rate;
      await sleep(this.#busyUntil - performance.now());
      if (!to.writable) return;
      to.write(piece);
    }
    from.resume();
  }
}

/**
 * Sockets from which a link has dropped bytes. Their streams are broken, so the link closes them when it
 * opens again.
 */
const lossy = new WeakSet<Socket>();

/** Returns a TCP port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
