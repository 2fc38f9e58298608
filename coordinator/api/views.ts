import { encodeInvite, INVITE_ADDRESSES, type Invite } from '../../protocol/invite.ts';
import { receiptMeanings } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { needsOperator } from '../round/round-machine.ts';
import type { StoredCheckpoint } from '../store/store.ts';
import type {
  CheckpointView,
  CoordinatorStatus,
  JobDetail,
  JobSummary,
  PeerReceipts,
  PeerView,
} from './types.ts';

/** Receipts that `swarm peers --why` shows of a peer and job. */
const SHOWN_RECEIPTS = 200;

export interface ViewOptions {
  readonly version: string;
  readonly startedAt: number;
}

/** What the control API shows: put together from running jobs, store and network when it is asked for. */
export class Views {
  readonly #options: ViewOptions;
  readonly #coordinator: Coordinator;
  readonly #deps: Pick<CoordinatorDeps, 'network' | 'store' | 'blobs' | 'folders' | 'clock'>;

  constructor(
    options: ViewOptions,
    deps: { coordinator: Coordinator } & Pick<
      CoordinatorDeps,
      'network' | 'store' | 'blobs' | 'folders' | 'clock'
    >,
  ) {
    this.#options = options;
    this.#coordinator = deps.coordinator;
    this.#deps = deps;
  }

  status(): CoordinatorStatus {
    const { network, clock } = this.#deps;
    return {
      schemaVersion: 1,
      role: 'coordinator',
      peerId: network.signer.peerId,
      addresses: network.addresses(),
      version: this.#options.version,
      uptimeSeconds: (clock.now() - this.#options.startedAt) / 1000,
      traffic: network.traffic(),
      jobs: this.jobs(),
    };
  }

  jobs(): JobSummary[] {
    return this.#coordinator.jobs().map((run) => this.job(run));
  }

  job(run: JobRun): JobSummary {
    const { context, state, checkpoint } = run;
    const { stored, manifest } = context;
    const { metrics, round } = checkpoint.checkpoint;
    return {
      job: context.job,
      name: stored.name,
      phase: state.phase,
      round: state.round,
      rounds: manifest.rounds.count + run.nullRounds,
      secondsLeft: run.secondsLeft(),
      peers: run.presentCount,
      baseLoss: stored.baseLoss,
      heldOutLoss: metrics.heldOutLoss,
      checkpoint: { round, digest: checkpoint.digest },
      tokensPerSecond: metrics.seconds > 0 ? metrics.tokens / metrics.seconds : 0,
      reason: state.reason,
      needsOperator: needsOperator(state),
      invite: encodeInvite(this.#invite(run)),
    };
  }

  detail(run: JobRun): JobDetail {
    const { current, round } = run.state;
    return {
      ...this.job(run),
      manifest: run.context.manifest,
      createdAt: run.context.stored.createdAt,
      updates: {
        round,
        assigned: [...(current?.assigned ?? [])],
        received: [...(current?.delivered ?? [])],
      },
    };
  }

  /** Every node that a job has admitted, with what is known of it. */
  peers(): PeerView[] {
    const { network, clock } = this.#deps;
    const connections = new Map(network.peers().map((connection) => [connection.peer, connection]));
    return this.#coordinator.jobs().flatMap((run) =>
      run.roster.all().map((entry): PeerView => {
        const connection = connections.get(entry.peer);
        const present = run.present(entry.peer);
        const heartbeat = present?.heartbeat ?? null;
        const { accepted, refused, last } = run.roster.tally(entry.peer);
        const seenAt = run.seenAt(entry.peer) ?? entry.joinedAt;
        return {
          peer: entry.peer,
          name: entry.name,
          job: run.context.job,
          jobName: run.context.stored.name,
          address: connection?.address ?? null,
          connected: connection !== undefined,
          state: present ? (heartbeat?.state ?? 'joining') : entry.saidGoodbye ? 'left' : 'lost',
          round: heartbeat?.round ?? 0,
          step: heartbeat?.step ?? 0,
          steps: heartbeat?.steps ?? 0,
          tokensPerSecond: heartbeat?.tokensPerSecond ?? entry.speed,
          // Which one `auto` took, a node knows only after it has joined.
          engine: heartbeat?.engine ?? entry.engine,
          rttMs: connection?.rttMs ?? null,
          lastSeenSeconds: Math.max(0, (clock.now() - seenAt) / 1000),
          accepted,
          refused,
          last: last && { round: last.round, code: last.code, detail: last.detail },
          bytesSent: heartbeat?.bytesSent ?? 0,
          bytesReceived: heartbeat?.bytesReceived ?? 0,
        };
      }),
    );
  }

  /** Newest first, over all jobs. */
  receipts(peer: string): PeerReceipts {
    const { store } = this.#deps;
    const receipts = this.#coordinator.jobs().flatMap(({ context }) =>
      store.updates.receipts(context.job, peer, SHOWN_RECEIPTS).map(({ round, code, detail, issuedAt }) => ({
        job: context.job,
        round,
        code,
        detail,
        meaning: receiptMeanings[code],
        at: issuedAt,
      })),
    );
    return { peer, receipts: receipts.sort((a, b) => b.at - a.at) };
  }

  /** Newest first. */
  checkpoints(run: JobRun): CheckpointView[] {
    const stored = this.#deps.store.rounds.checkpoints(run.context.job);
    return stored.map((checkpoint) => this.checkpoint(run, checkpoint)).reverse();
  }

  checkpoint(run: JobRun, { round, digest, envelope, weights }: StoredCheckpoint): CheckpointView {
    const { message } = verifyMessage('checkpoint', envelope);
    const path = this.#deps.folders.path(run.context.stored.name, round);
    return { round, digest, parent: message.parent, path, kept: weights === 'held', checkpoint: message };
  }

  #invite({ context }: JobRun): Invite {
    const { network } = this.#deps;
    const all = network.addresses();
    // Without a network a machine has only its loopback address: good enough for nodes beside the coordinator.
    const remote = all.filter(
      (address) => !address.startsWith('/ip4/127.') && !address.startsWith('/ip6/::1/'),
    );
    const addresses = [...remote, ...all.filter((address) => !remote.includes(address))].slice(
      0,
      INVITE_ADDRESSES,
    );
    // One that listens nowhere can still be named.
    if (addresses.length === 0) addresses.push(`/p2p/${network.signer.peerId}`);
    return { addresses, job: context.job, token: context.stored.token };
  }
}
