import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { BlobScrub, slowly } from '../../storage/blob-scrub.ts';
import type { BlobStore } from '../../storage/blobs.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { NodeTrainer } from '../trainer/trainer.ts';

/**
 * Time from the start of the node to the first check of its blobs, so that the node can join its jobs first.
 */
const FIRST_MS = 60_000;

interface NodeScrubDeps {
  readonly store: Pick<NodeStore, 'jobFiles' | 'origins'>;
  readonly blobs: Pick<BlobStore, 'size' | 'check' | 'delete'>;
  readonly trainer: Pick<NodeTrainer, 'keepBases'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** The jobs of the node. */
  readonly nodes: readonly {
    readonly job: string | null;
    view(): { readonly context: { readonly manifest: Pick<Manifest, 'base'> } | null };
    /** `replace`: fetches a blob of the job again after it was found damaged and deleted. */
    readonly membership: { replace(digest: string): void };
  }[];
}

/**
 * Finds damaged base files, data shards and adapters on the disk of a node. Deletes a damaged blob, so that the node
 * neither trains on it nor serves it, and fetches it again. The node cannot fetch its error feedback, its optimiser
 * moments and its own updates again, so these blobs are checked only when they are read.
 */
export class NodeScrub {
  readonly #deps: NodeScrubDeps;
  readonly #life = new AbortController();

  constructor(deps: NodeScrubDeps) {
    this.#deps = deps;
  }

  /** Runs until `stop` is called. Never rejects. */
  async run(): Promise<void> {
    const { clock, store } = this.#deps;
    const { signal } = this.#life;
    // The wait fails only if the signal aborts, and the scrub below then ends at once.
    await sleep(clock, FIRST_MS, signal).catch(() => {});
    const next = (after: string): string | null => store.jobFiles.nextShared(after);
    const check = (digest: string): Promise<void> => this.#check(digest);
    await new BlobScrub({ next, check }, { ...this.#deps, signal }).run();
  }

  stop(): void {
    this.#life.abort(new Error('the node has stopped'));
  }

  async #check(digest: string): Promise<void> {
    const { blobs, store, trainer, clock, log, nodes } = this.#deps;
    const { signal } = this.#life;
    const pause = slowly({ clock, signal });
    if ((await blobs.check(digest, { signal, pause })) !== 'damaged') return;
    log.warn({ digest }, 'blob-damaged');
    const damaged = this.#basesWith(digest);
    // Remove the damaged bases first. A trainer process has the damaged file open, and the folder of the base
    // has a link to the file.
    const others = [...store.jobFiles.bases()].filter((base) => !damaged.has(base));
    if (damaged.size > 0) await trainer.keepBases(new Set(others));
    store.origins.forget(digest);
    await blobs.delete(digest);
    for (const node of nodes) node.membership.replace(digest);
  }

  /** Returns the digests of the bases that have a file with this digest. */
  #basesWith(digest: string): Set<string> {
    const { nodes, store } = this.#deps;
    const active = new Set(nodes.map(({ job }) => job));
    return new Set([
      ...nodes.flatMap((node) => {
        const base = node.view().context?.manifest.base;
        return base?.files.some((file) => file.digest === digest) ? base.digest : [];
      }),
      // The manifests of other jobs are not loaded, so it is unknown whether the blob belongs to their base
      // or to their data. Assume the base.
      ...store.jobFiles.jobsWith(digest).flatMap(({ job, base }) => (active.has(job) ? [] : base)),
    ]);
  }
}
