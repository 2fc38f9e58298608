import type { SwarmError } from '../../common/errors.ts';
import type { BlobProof } from '../../protocol/access/job-key.ts';
import { RPC_MESSAGE_BYTES } from '../../protocol/limits.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { BlobCollector } from '../../storage/blob-collector.ts';
import { mayFetch } from '../blobs/blob-access.ts';
import { FetchTurns } from '../blobs/fetch-turns.ts';
import { NodeScrub } from '../blobs/node-scrub.ts';
import { nodeError } from '../errors.ts';
import { EvaluationService } from '../evaluation/evaluation-service.ts';
import { servesNoFiles } from '../limits/pauses.ts';
import { SharedTrainer } from '../trainer/shared-trainer.ts';
import { answerReaders } from './answer-readers.ts';
import type { NodeDeps, SwarmNodeOptions } from './context.ts';
import { namesMember } from './head-members.ts';
import { SwarmNode } from './swarm-node.ts';

/** Maximum size of the messages in an answer to `recall`. The rest of the answer is for their lengths. */
const RECALLED_BYTES = RPC_MESSAGE_BYTES - 4096;

export interface SwarmNodesDeps extends NodeDeps {
  /** Called once, when the coordinators of all invites have shut this node out. @default does nothing */
  onShutOut?: (error: SwarmError) => void;
}

/**
 * A node with its jobs: one `SwarmNode` for each invite. They share the network, the blobs, the database and the trainer.
 * A job that ends, or whose coordinator shuts the node out, does not affect the other jobs.
 */
export class SwarmNodes {
  /** One node for each invite, in the order of the invites. */
  readonly all: readonly SwarmNode[];
  readonly #deps: SwarmNodesDeps;
  readonly #collector: BlobCollector;
  readonly #trainer: SharedTrainer;
  readonly #scrub: NodeScrub;
  readonly #evaluations: EvaluationService;
  #leaveNetwork: (() => void)[] = [];

  /** @param options options for the `SwarmNode` of each invite */
  constructor(options: readonly SwarmNodeOptions[], deps: SwarmNodesDeps) {
    const { trainer, scoreTrainer = null, answerer = null } = deps;
    this.#deps = deps;
    this.#collector = new BlobCollector(deps);
    const shared = new SharedTrainer({ trainer, scoreTrainer, clock: deps.clock, pauses: deps.pauses });
    this.#trainer = shared;
    const log = (one: SwarmNodeOptions, index: number) =>
      options.length === 1 ? deps.log : deps.log.child({ invite: index + 1, job: one.job?.slice(0, 12) });
    const fetchTurns = new FetchTurns(deps);
    const nodes: SwarmNode[] = [];
    for (const [index, one] of options.entries()) {
      const share = shared.share(one.weight ?? 1);
      const node: SwarmNode = new SwarmNode(one, {
        ...deps,
        log: log(one, index),
        trainer: share,
        ...(scoreTrainer !== null && { scoreTrainer: share }),
        collector: this.#collector,
        fetchTurns,
        siblings: () => nodes.filter((other) => other !== node),
        onShutOut: () => this.#onShutOut(),
        onTraining: () => this.#evaluations.yieldToWork(),
      });
      nodes.push(node);
    }
    this.all = nodes;
    this.#scrub = new NodeScrub({ ...deps, trainer: shared, nodes });
    this.#evaluations = new EvaluationService({
      ...{ answerer, clock: deps.clock, log: deps.log },
      isBusy: () =>
        (deps.pauses?.isBlocked ?? false) || nodes.some((node) => node.view().state.phase === 'training'),
    });
  }

  /** Collects the garbage of the node's blobs. */
  get collector(): BlobCollector {
    return this.#collector;
  }

  /** The refusal of the first invite, if the coordinators of all invites have shut this node out; otherwise null. */
  get shutOut(): SwarmError | null {
    const refusals = this.all.map((node) => node.view().shutOut);
    return refusals.every((refusal) => refusal !== null) ? (refusals[0] ?? null) : null;
  }

  /**
   * Compares the jobs with changed limits of the owner. Then ends the trainer processes that no fitting job needs or that
   * exceed the memory limit together, because the owner may want their memory back.
   */
  checkLimits(): void {
    for (const node of this.all) node.checkLimits();
    const bases = this.all.flatMap(({ fittingManifest }) => fittingManifest?.base.digest ?? []);
    this.#trainer.releaseMemory(new Set(bases)).catch((error: unknown) => {
      this.#deps.log.warn({ error }, 'trainer-not-ended');
    });
  }

  start(): void {
    const { network, store, log, pauses } = this.#deps;
    // This rule need not name coordinators, because the network counts persistent peers as known in any case.
    network.reserveFor((peer) =>
      this.all.some((node) => namesMember({ head: node.view().state.head, peer })),
    );
    const readableJobs = (peer: string, proof: BlobProof | null): Set<string> =>
      new Set(this.all.flatMap((node) => node.membership.readableJobs(peer, proof)));
    network.serveBlobs((peer, digest, proof) => {
      if (pauses !== undefined && servesNoFiles(pauses)) return false;
      if (this.#evaluations.mayFetch(peer, digest)) return true;
      const coordinator = this.all.some((node) => node.membership.isCoordinator(peer)) ? peer : null;
      const readable = readableJobs(peer, proof);
      return mayFetch(digest, { origins: store.origins, coordinator, readable });
    });
    this.#leaveNetwork = [
      ...answerReaders({ ...this.#deps, mayRead: (peer, job, proof) => readableJobs(peer, proof).has(job) }),
      network.handle('notify', async (peer, { receipt }) => {
        const nodes = this.all.filter((node) => node.coordinator === peer);
        // A refusal would show which job this node is in. Other peers therefore get the same empty answer as the
        // coordinator.
        if (nodes.length === 0) return {};
        const { job } = verifyMessage('receipt', receipt).message;
        // If no node is in the job of the receipt, the first node gets the receipt, and refuses it.
        (nodes.find((node) => node.job === job) ?? nodes[0]!).takeReceipt(receipt);
        return {};
      }),
      network.handle('recall', async (peer, { job, after }) => {
        if (store.job(job).coordinator !== peer) {
          throw nodeError(
            'NOT_RECALLED',
            'the caller is not the coordinator of this job, so this node gives it no messages of the job',
          );
        }
        const recalled = store.kept.recall(job, { after, maxBytes: RECALLED_BYTES });
        const { head, settings, checkpoints, receipts, removals } = recalled;
        return {
          head,
          settings: [...settings],
          checkpoints: [...checkpoints],
          receipts: [...receipts],
          ...(removals !== null && { removals }),
        };
      }),
      network.handle('measure', async (peer, request, { signal }) => {
        const node = this.all.find(({ coordinator, job }) => coordinator === peer && job === request.job);
        if (!node) throw nodeError('NOT_SCORING', 'this node computes no scores for the caller');
        return { figures: await node.worker.measure(request, signal) };
      }),
      network.handle('evaluate', async (peer, request) => {
        const node = this.all.find(({ coordinator, job }) => coordinator === peer && job === request.job);
        if (!node) throw nodeError('NOT_EVALUATING', 'this node evaluates nothing for the caller');
        this.#evaluations.start(node.worker.toEvaluate(), request);
        return {};
      }),
      network.handle('evaluation', async (peer, request) => this.#evaluations.state(peer, request)),
    ];
    // Deletes blobs that an earlier process wrote, but did not record before it ended.
    void this.#collector.sweep().catch((error: unknown) => log.warn({ error }, 'sweep-failed'));
    const stopWatching = pauses?.onChange(() => this.#evaluations.yieldToWork());
    if (stopWatching !== undefined) this.#leaveNetwork.push(stopWatching);
    for (const node of this.all) node.start();
    void this.#scrub.run();
  }

  /** Calls `SwarmNode.stop` for each invite. Ends within `deadlineMs`. */
  async stop({ deadlineMs }: { deadlineMs: number }): Promise<void> {
    this.#scrub.stop();
    await Promise.all([this.#evaluations.stop(), ...this.all.map((node) => node.stop({ deadlineMs }))]);
    for (const leave of this.#leaveNetwork) leave();
  }

  #onShutOut(): void {
    const { shutOut } = this;
    if (shutOut !== null) this.#deps.onShutOut?.(shutOut);
  }
}
