import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { CHECKPOINTS_PER_ANSWER } from '../../coordinator/api/checkpoint-views.ts';
import { viewsOfCheckpoints } from '../../test/utils/swarm/many-checkpoints.ts';

/** A job with signed checkpoints in a database, and the routes with which a coordinator answers about them. */
export class BenchCheckpoints {
  /**
   * The longest time in milliseconds for which an answer has blocked the thread. It is processor time, so that other
   * programs on a busy machine do not count.
   */
  longest = 0;
  readonly #folder: string;
  readonly #made: ReturnType<typeof viewsOfCheckpoints>;

  private constructor(folder: string, rounds: number) {
    this.#folder = folder;
    this.#made = viewsOfCheckpoints(join(folder, 'coordinator.sqlite'), rounds);
  }

  static async create(rounds: number): Promise<BenchCheckpoints> {
    return new BenchCheckpoints(await mkdtemp(join(tmpdir(), 'lora-swarm-bench-')), rounds);
  }

  addRoutes(server: FastifyInstance): void {
    server.get('/v1/jobs/large/versions', async () => ({ versions: null }));
    server.get<{ Querystring: { before?: string } }>(
      '/v1/jobs/large/checkpoints',
      async ({ query }, reply) => {
        const { text } = this.#answer(Number(query.before ?? Number.MAX_SAFE_INTEGER));
        return reply.header('content-type', 'application/json').send(text);
      },
    );
  }

  /** Reads all checkpoints as `lora-swarm checkpoint list` does. */
  readAll(): void {
    for (let before = Number.MAX_SAFE_INTEGER; before > 0; ) before = this.#answer(before).oldest;
  }

  async close(): Promise<void> {
    this.#made.store.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #answer(before: number): { text: string; oldest: number } {
    const start = usedMs();
    const { views, run } = this.#made;
    const checkpoints = views.page(run, { before, limit: CHECKPOINTS_PER_ANSWER });
    const text = JSON.stringify({ checkpoints });
    this.longest = Math.max(this.longest, usedMs() - start);
    return { text, oldest: checkpoints.at(-1)?.round ?? 0 };
  }
}

/** Returns the processor time of this thread in milliseconds. */
function usedMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
