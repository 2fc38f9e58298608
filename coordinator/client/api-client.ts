import { resolveHomes } from '../../common/files/user-folders.ts';
import type {
  CheckpointView,
  CoordinatorStatus,
  CreatedInvite,
  CreateInviteOptions,
  InviteView,
  JobDetail,
  JobSummary,
} from '../../protocol/api/coordinator.ts';
import type { CreateJobLine, NewPlace } from '../../protocol/api/job-creation.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { SamplesView } from '../../protocol/api/job-parts.ts';
import type { BanOptions, BanView, FormerPeer, PeerReceipts, PeerView } from '../../protocol/api/peers.ts';
import type { SweepView } from '../../protocol/api/sweeps.ts';
import { readToken } from '../../storage/api-token.ts';
import { notRunning, type Role, readDaemonFile } from '../../storage/daemon-home.ts';
import type { CloneOptions } from '../jobs/clone-job.ts';
import type { NewSweep } from '../jobs/sweeps.ts';
import type { WebhookTest, WebhookView } from '../webhooks/webhooks.ts';
import { ApiConnection, type ApiConnectionOptions, jobPath } from './api-connection.ts';
import { listCheckpoints } from './list-checkpoints.ts';

/** Location of a coordinator's control API: the home of a coordinator on this machine, or its URL and token. */
export type CoordinatorAddress = { readonly home: string } | { readonly url: string; readonly token: string };

/** Options of a client. */
export interface ConnectOptions {
  /** Kind of daemon. A node's API answers only `status`, `ready` and orders of its owner. @default 'coordinator' */
  readonly role?: 'coordinator' | 'node';
  /** When this signal aborts, all requests of the client end. @default never aborts */
  readonly signal?: AbortSignal;
}

/** Client of the control API of a daemon. */
export class ApiClient {
  readonly #connection: ApiConnection;

  private constructor(options: ApiConnectionOptions) {
    this.#connection = new ApiConnection(options);
  }

  get url(): string {
    return this.#connection.url;
  }

  /**
   * Opens a client of the daemon in a home.
   * @throws SwarmError DAEMON_NOT_RUNNING if the home has no file with the daemon's URL
   * @internal users call `connect`, which has defaults
   */
  static async open(home: string, role: Role, { signal }: { signal: AbortSignal }): Promise<ApiClient> {
    const file = await readDaemonFile(home, role);
    if (file === null) throw notRunning(home, role);
    return new ApiClient({ url: file.url, home, role, token: await readToken(home), signal });
  }

  /**
   * Opens a client of a coordinator or of a node.
   * @param where @default the home of the user's coordinator
   * @throws SwarmError DAEMON_NOT_RUNNING if the home has no file with the daemon's URL
   */
  static async connect(
    where: CoordinatorAddress = { home: resolveHomes().coordinator },
    { role = 'coordinator', signal = new AbortController().signal }: ConnectOptions = {},
  ): Promise<ApiClient> {
    if ('home' in where) return ApiClient.open(where.home, role, { signal });
    return new ApiClient({ ...where, home: null, role, signal });
  }

  /** Returns the daemon's status. Its type is not checked at run time, because the daemon is part of this program. */
  status<T = CoordinatorStatus>(): Promise<T> {
    return this.#connection.get('/v1/status');
  }

  /** Gives an order to a node. The order `checkpoint` has no time limit, because it fetches files. @internal for the CLI */
  orderNode<T>(order: 'pause' | 'resume' | 'drain' | 'limits' | 'checkpoint', body: object): Promise<T> {
    return this.#connection[order === 'checkpoint' ? 'postLong' : 'post'](`/v1/${order}`, body);
  }

  /** Lists the nodes of all jobs. */
  async peers(): Promise<PeerView[]> {
    return (await this.#connection.get<{ peers: PeerView[] }>('/v1/peers')).peers;
  }

  /** Lists the bans that are in force, newest first. */
  async bans(): Promise<BanView[]> {
    return (await this.#connection.get<{ bans: BanView[] }>('/v1/peers')).bans;
  }

  /** Lists the nodes that were removed from a job for good, with the names that they had there. */
  async formerPeers(): Promise<FormerPeer[]> {
    // A coordinator of an earlier release sends no former nodes.
    return (await this.#connection.get<{ former?: FormerPeer[] }>('/v1/peers')).former ?? [];
  }

  /** Bans a node, and all other nodes of the person who answers for it. @param peer whole peer id */
  ban(peer: string, { job = null, reason = '', forMs = null }: BanOptions = {}): Promise<PeerReceipts> {
    return this.#connection.post(`/v1/peers/${encodeURIComponent(peer)}/ban`, { job, reason, forMs });
  }

  /**
   * Lifts the strikes and bans of the person who answers for a node.
   * @param options `job`: the job in which they are lifted, or null for all jobs
   */
  pardon(peer: string, { job = null }: { job?: string | null } = {}): Promise<PeerReceipts> {
    return this.#connection.post(`/v1/peers/${encodeURIComponent(peer)}/pardon`, { job });
  }

  /** Returns the standing, strikes, receipts and scores of a node. @param peer whole peer id */
  receipts(peer: string): Promise<PeerReceipts> {
    return this.#connection.get(`/v1/peers/${encodeURIComponent(peer)}`);
  }

  /** Lists all jobs. */
  async jobs(): Promise<JobSummary[]> {
    return (await this.status()).jobs;
  }

  /** Finds a job by its name, its digest or a unique prefix of its digest. */
  job(id: string): Promise<JobDetail> {
    return this.#connection.get(jobPath(id));
  }

  /** Pauses, resumes or ends a job. @param reason shown to its nodes */
  act(id: string, action: 'pause' | 'resume' | 'stop', reason: string): Promise<JobSummary> {
    return this.#connection.post(`${jobPath(id)}/${action}`, { reason });
  }

  /** Lists the invites of a job: the shared invite, then the personal invites, oldest first. */
  async invites(id: string): Promise<InviteView[]> {
    return (await this.#connection.get<{ invites: InviteView[] }>(`${jobPath(id)}/invites`)).invites;
  }

  /**
   * Creates a personal invite. Only this call returns the text of the invite.
   * @throws SwarmError INVITE_EXISTS, TOO_MANY_INVITES
   */
  createInvite(id: string, options: CreateInviteOptions = {}): Promise<CreatedInvite> {
    return this.#connection.post(`${jobPath(id)}/invites`, options);
  }

  /**
   * Permanently revokes an invite, and removes the nodes that joined with it.
   * @param invite `shared`, or the name, the id or the beginning of the id of a personal invite
   * @throws SwarmError INVITE_UNKNOWN, INVITE_AMBIGUOUS, INVITE_WITHOUT_TOKEN
   */
  revokeInvite(id: string, invite: string): Promise<InviteView> {
    const path = `${jobPath(id)}/invites/${encodeURIComponent(invite)}/revoke`;
    return this.#connection.post(path, {});
  }

  /**
   * Restores the adapter of an earlier checkpoint. The nodes and the history of the job show the reason.
   * @param target round of the checkpoint, or `best` for the best checkpoint
   */
  rollBack(id: string, target: number | 'best', reason = ''): Promise<JobSummary> {
    return this.#connection.post(`${jobPath(id)}/rollback`, { to: target, reason });
  }

  /**
   * Changes settings of a job while it runs. New values of `priority` and `tasks.every` apply at once. The other settings
   * apply from the next round that opens.
   * @param changes new values of training.learningRate, rounds.count, rounds.minPeers, rounds.maxSeconds, priority or
   *   tasks.every
   * @param reason reason for the change, which the nodes and the history of the job show
   * @throws SwarmError SETTING_FIXED, SETTING_INVALID, JOB_SPEC, JOB_OVER
   */
  changeSettings(id: string, changes: Readonly<Record<string, unknown>>, reason = ''): Promise<JobDetail> {
    return this.#connection.post(`${jobPath(id)}/settings`, { changes, reason });
  }

  /**
   * Starts a sweep.
   * @internal users call `sweepJobs` of the library
   */
  createSweep(sweep: NewSweep): Promise<SweepView> {
    return this.#connection.post('/v1/sweeps', sweep);
  }

  /** Lists the sweeps, oldest first. */
  async sweeps(): Promise<SweepView[]> {
    return (await this.#connection.get<{ sweeps: SweepView[] }>('/v1/sweeps')).sweeps;
  }

  /** Lists the webhooks, each with the number of messages that wait for their delivery. */
  async webhooks(): Promise<WebhookView[]> {
    return (await this.#connection.get<{ webhooks: WebhookView[] }>('/v1/webhooks')).webhooks;
  }

  /** Sends a test message to every webhook. Returns the outcomes. */
  async testWebhooks(): Promise<WebhookTest[]> {
    return (await this.#connection.post<{ results: WebhookTest[] }>('/v1/webhooks/test', {})).results;
  }

  /** Lists the checkpoints of a job, newest first. */
  checkpoints(id: string, options?: { enough?: number }): Promise<CheckpointView[]> {
    return listCheckpoints(this.#connection, id, options);
  }

  /** Returns the checkpoint of a round. @throws SwarmError CHECKPOINT_UNKNOWN */
  checkpoint(id: string, round: number | 'latest' | 'best'): Promise<CheckpointView> {
    return this.#connection.get(`${jobPath(id)}/checkpoints/${encodeURIComponent(round)}`);
  }

  /** Returns the samples of the checkpoint of a round, by default of the newest checkpoint that has samples. */
  samples(id: string, round?: number): Promise<SamplesView> {
    return this.#connection.get(`${jobPath(id)}/samples${round === undefined ? '' : `?round=${round}`}`);
  }

  /**
   * Creates a job. Yields progress while the coordinator reads base and data, then the job.
   * @internal users call `createJob` of the library, which checks the settings first
   */
  async *createJob(
    spec: object,
    place: NewPlace = {},
    signal = this.#connection.signal,
  ): AsyncGenerator<CreateJobLine, void, undefined> {
    const either = AbortSignal.any([this.#connection.signal, signal]);
    const query = new URLSearchParams();
    if (place.priority !== undefined) query.set('priority', String(place.priority));
    if (place.after) query.set('after', place.after);
    const path = query.size === 0 ? '/v1/jobs' : `/v1/jobs?${query}`;
    yield* this.#connection.lines('POST', path, either, spec);
  }

  /** Creates a copy of a job. Yields progress, then the job. @internal users call `cloneJob` of the library */
  async *cloneJob(
    id: string,
    options: CloneOptions & NewPlace,
    signal = this.#connection.signal,
  ): AsyncGenerator<CreateJobLine, void, undefined> {
    const either = AbortSignal.any([this.#connection.signal, signal]);
    const { priority, after, ...rest } = options;
    const body = { ...rest, ...(priority !== undefined && { priority }), ...(after && { after }) };
    yield* this.#connection.lines('POST', `${jobPath(id)}/clone`, either, body);
  }

  /**
   * Yields the events of a job after sequence number `after`. With `follow`, waits for new events and yields them until
   * the signal aborts.
   * @param options `types`: only events of these types. `last`: only the newest events, at most this number
   */
  async *events(
    id: string,
    {
      after = 0,
      types,
      last,
      follow,
      signal = this.#connection.signal,
    }: {
      after?: number;
      types?: readonly string[];
      last?: number;
      follow: boolean;
      signal?: AbortSignal;
    },
  ): AsyncGenerator<JobEvent, void, undefined> {
    const query = new URLSearchParams({ after: String(after), ...(types && { types: types.join(',') }) });
    if (last !== undefined) query.set('last', String(last));
    if (follow) query.set('follow', '1');
    yield* this.#connection.lines('GET', `${jobPath(id)}/events?${query}`, signal);
  }

  /** Yields the answer with a job's bundle. @internal users call `bundleJob` of the library */
  bundle(id: string, query: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return this.#connection.bytes(`${jobPath(id)}/bundle?${query}`, signal);
  }

  /** Yields the bytes of a blob. @throws SwarmError BLOB_MISSING @internal for the verification of a job */
  blob(digest: string, { signal }: { signal: AbortSignal }): AsyncIterable<Uint8Array> {
    return this.#connection.bytes(`/v1/blobs/${digest}`, signal);
  }

  /** Returns whether all readiness checks pass, and the checks that fail. */
  ready(): Promise<{ ok: boolean; failing: { check: string; reason: string }[] }> {
    return this.#connection.getAny('/readyz');
  }

  /** Asks a node for facts about itself and its coordinators. @internal for `lora-swarm doctor` */
  askNode<T>(facts: 'clocks' | `record?${string}`): Promise<T> {
    return this.#connection.get(`/v1/${facts}`);
  }

  /** Asks the daemon to stop. */
  async shutdown(): Promise<void> {
    await this.#connection.post('/v1/shutdown', {});
  }
}
