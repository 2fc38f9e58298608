import { resolveHomes } from '../../common/user-folders.ts';
import { readToken } from '../../storage/api-token.ts';
import { notRunning, type Role, readDaemonFile } from '../../storage/daemon-home.ts';
import { storageError } from '../../storage/errors.ts';
import type { SweepView } from '../api/sweep-views.ts';
import type {
  BanView,
  CheckpointView,
  CoordinatorStatus,
  CreatedInvite,
  CreateInviteOptions,
  CreateJobLine,
  InviteView,
  JobDetail,
  JobEvent,
  JobSummary,
  PeerReceipts,
  PeerView,
} from '../api/types.ts';
import { coordinatorError } from '../errors.ts';
import type { CloneOptions } from '../jobs/clone-job.ts';
import type { NewPlace } from '../jobs/create-job.ts';
import type { NewSweep } from '../jobs/sweeps.ts';
import { apiError } from './api-error.ts';
import { type HttpResponse, readAll, readLines, request } from './http.ts';

/** Time to wait for an answer, in milliseconds. A daemon on the same machine that takes longer is stuck. */
const ANSWER_MS = 10_000;

/** Location of a coordinator's control API: the home of a coordinator on this machine, or its URL and token. */
export type CoordinatorAddress = { readonly home: string } | { readonly url: string; readonly token: string };

/** Options of a client. */
export interface ConnectOptions {
  /** Kind of daemon. A node's API answers only `status` and `ready`. @default 'coordinator' */
  readonly role?: 'coordinator' | 'node';
  /** When this signal aborts, all requests of the client end. @default never aborts */
  readonly signal?: AbortSignal;
}

/** Client of the control API of a daemon. */
export class ApiClient {
  readonly url: string;
  /** Home of the daemon; null if only its URL is known. */
  readonly #home: string | null;
  readonly #role: Role;
  readonly #token: string | null;
  readonly #signal: AbortSignal;

  private constructor(
    url: string,
    home: string | null,
    role: Role,
    token: string | null,
    signal: AbortSignal,
  ) {
    this.url = url;
    this.#home = home;
    this.#role = role;
    this.#token = token;
    this.#signal = signal;
  }

  /**
   * Opens a client of the daemon in a home.
   * @throws SwarmError DAEMON_NOT_RUNNING if the home has no file with the daemon's URL
   * @internal users call `connect`, which has defaults
   */
  static async open(home: string, role: Role, { signal }: { signal: AbortSignal }): Promise<ApiClient> {
    const file = await readDaemonFile(home, role);
    if (file === null) throw notRunning(home, role);
    return new ApiClient(file.url, home, role, await readToken(home), signal);
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
    return new ApiClient(where.url, null, role, where.token, signal);
  }

  /** Returns the daemon's status. Its type is not checked at run time, because the daemon is part of this program. */
  status<T = CoordinatorStatus>(): Promise<T> {
    return this.#get('/v1/status');
  }

  /** Lists the nodes of all jobs. */
  async peers(): Promise<PeerView[]> {
    return (await this.#get<{ peers: PeerView[] }>('/v1/peers')).peers;
  }

  /** Lists the bans that are in force, newest first. */
  async bans(): Promise<BanView[]> {
    return (await this.#get<{ bans: BanView[] }>('/v1/peers')).bans;
  }

  /**
   * Bans a node, and all other nodes of the person who answers for it.
   * @param peer whole peer id
   * @param options `job`: the job from which the node is banned, or null for all jobs. `reason`: a text of up to 200
   *   characters, which the node sees. `forMs`: duration in milliseconds, or null for a permanent ban
   */
  ban(
    peer: string,
    {
      job = null,
      reason = '',
      forMs = null,
    }: { job?: string | null; reason?: string; forMs?: number | null } = {},
  ): Promise<PeerReceipts> {
    return this.#json('POST', `/v1/peers/${encodeURIComponent(peer)}/ban`, { job, reason, forMs });
  }

  /**
   * Lifts the strikes and bans of the person who answers for a node.
   * @param options `job`: the job in which they are lifted, or null for all jobs
   */
  pardon(peer: string, { job = null }: { job?: string | null } = {}): Promise<PeerReceipts> {
    return this.#json('POST', `/v1/peers/${encodeURIComponent(peer)}/pardon`, { job });
  }

  /** Returns the standing, strikes, receipts and scores of a node. @param peer whole peer id */
  receipts(peer: string): Promise<PeerReceipts> {
    return this.#get(`/v1/peers/${encodeURIComponent(peer)}`);
  }

  /** Lists all jobs. */
  async jobs(): Promise<JobSummary[]> {
    return (await this.status()).jobs;
  }

  /** Finds a job by its name, its digest or a unique prefix of its digest. */
  job(id: string): Promise<JobDetail> {
    return this.#get(`/v1/jobs/${encodeURIComponent(id)}`);
  }

  /** Pauses, resumes or ends a job. @param reason shown to its nodes */
  act(id: string, action: 'pause' | 'resume' | 'stop', reason: string): Promise<JobSummary> {
    return this.#json('POST', `/v1/jobs/${encodeURIComponent(id)}/${action}`, { reason });
  }

  /** Lists the invites of a job: the shared one, then the personal ones, oldest first. */
  async invites(id: string): Promise<InviteView[]> {
    return (await this.#get<{ invites: InviteView[] }>(`/v1/jobs/${encodeURIComponent(id)}/invites`)).invites;
  }

  /**
   * Creates a personal invite. Only this call returns the text of the invite.
   * @throws SwarmError INVITE_EXISTS, TOO_MANY_INVITES
   */
  createInvite(id: string, options: CreateInviteOptions = {}): Promise<CreatedInvite> {
    return this.#json('POST', `/v1/jobs/${encodeURIComponent(id)}/invites`, options);
  }

  /**
   * Permanently revokes an invite, and removes the nodes that joined with it.
   * @param invite `shared`, or the name, the id or the beginning of the id of a personal invite
   * @throws SwarmError INVITE_UNKNOWN, INVITE_AMBIGUOUS, INVITE_WITHOUT_TOKEN
   */
  revokeInvite(id: string, invite: string): Promise<InviteView> {
    const path = `/v1/jobs/${encodeURIComponent(id)}/invites/${encodeURIComponent(invite)}/revoke`;
    return this.#json('POST', path, {});
  }

  /**
   * Restores the adapter of an earlier checkpoint.
   * @param to round of the checkpoint, or `best` for the best checkpoint
   */
  rollBack(id: string, to: number | 'best'): Promise<JobSummary> {
    return this.#json('POST', `/v1/jobs/${encodeURIComponent(id)}/rollback`, { to });
  }

  /**
   * Changes settings of a job while it runs. New settings apply from the next round that opens. A new priority applies
   * at once.
   * @param changes new values of training.learningRate, rounds.count, rounds.minPeers, rounds.maxSeconds or priority
   * @param reason reason for the change, which the nodes and the history of the job show
   * @throws SwarmError SETTING_FIXED, SETTING_INVALID, JOB_SPEC, JOB_OVER
   */
  changeSettings(id: string, changes: Readonly<Record<string, unknown>>, reason = ''): Promise<JobDetail> {
    return this.#json('POST', `/v1/jobs/${encodeURIComponent(id)}/settings`, { changes, reason });
  }

  /**
   * Starts a sweep.
   * @internal users call `sweepJobs` of the library
   */
  createSweep(sweep: NewSweep): Promise<SweepView> {
    return this.#json('POST', '/v1/sweeps', sweep);
  }

  /** Lists the sweeps, oldest first. */
  async sweeps(): Promise<SweepView[]> {
    return (await this.#get<{ sweeps: SweepView[] }>('/v1/sweeps')).sweeps;
  }

  /** Lists the checkpoints of a job, newest first. */
  async checkpoints(id: string): Promise<CheckpointView[]> {
    const path = `/v1/jobs/${encodeURIComponent(id)}/checkpoints`;
    return (await this.#get<{ checkpoints: CheckpointView[] }>(path)).checkpoints;
  }

  /** Returns the checkpoint of a round. @throws SwarmError CHECKPOINT_UNKNOWN */
  checkpoint(id: string, round: number | 'latest' | 'best'): Promise<CheckpointView> {
    return this.#get(`/v1/jobs/${encodeURIComponent(id)}/checkpoints/${encodeURIComponent(round)}`);
  }

  /**
   * Creates a job. Yields progress while the coordinator reads base and data, then the job.
   * @internal users call `createJob` of the library, which checks the settings first
   */
  async *createJob(
    spec: object,
    place: NewPlace = {},
    signal = this.#signal,
  ): AsyncGenerator<CreateJobLine, void, undefined> {
    const either = AbortSignal.any([this.#signal, signal]);
    const query = new URLSearchParams();
    if (place.priority !== undefined) query.set('priority', String(place.priority));
    if (place.after) query.set('after', place.after);
    const path = query.size === 0 ? '/v1/jobs' : `/v1/jobs?${query}`;
    const response = await this.#send('POST', path, either, spec);
    yield* readLines(response.body) as AsyncGenerator<CreateJobLine, void, undefined>;
  }

  /**
   * Creates a copy of a job. Yields progress, then the job.
   * @internal users call `cloneJob` of the library
   */
  async *cloneJob(
    id: string,
    options: CloneOptions & NewPlace,
    signal = this.#signal,
  ): AsyncGenerator<CreateJobLine, void, undefined> {
    const either = AbortSignal.any([this.#signal, signal]);
    const { priority, after, ...rest } = options;
    const place = { ...(priority !== undefined && { priority }), ...(after && { after }) };
    const body = { ...rest, ...place };
    const response = await this.#send('POST', `/v1/jobs/${encodeURIComponent(id)}/clone`, either, body);
    yield* readLines(response.body) as AsyncGenerator<CreateJobLine, void, undefined>;
  }

  /**
   * Yields the events of a job after sequence number `after`. With `follow`, waits for new events and yields them until
   * the signal aborts.
   */
  async *events(
    id: string,
    { after = 0, follow, signal = this.#signal }: { after?: number; follow: boolean; signal?: AbortSignal },
  ): AsyncGenerator<JobEvent, void, undefined> {
    const query = `after=${after}${follow ? '&follow=1' : ''}`;
    const response = await this.#send('GET', `/v1/jobs/${encodeURIComponent(id)}/events?${query}`, signal);
    yield* readLines(response.body) as AsyncGenerator<JobEvent, void, undefined>;
  }

  /** Returns whether all readiness checks pass, and the checks that fail. */
  async ready(): Promise<{ ok: boolean; failing: { check: string; reason: string }[] }> {
    const response = await this.#call('GET', '/readyz', this.#deadline());
    return JSON.parse((await readAll(response.body)).toString('utf8'));
  }

  /** Asks the daemon to stop. */
  async shutdown(): Promise<void> {
    await this.#json('POST', '/v1/shutdown', {});
  }

  #get<T>(path: string): Promise<T> {
    return this.#json('GET', path);
  }

  async #json<T>(method: string, path: string, body?: object): Promise<T> {
    const response = await this.#send(method, path, this.#deadline(), body);
    return JSON.parse((await readAll(response.body)).toString('utf8'));
  }

  #deadline(): AbortSignal {
    return AbortSignal.any([this.#signal, AbortSignal.timeout(ANSWER_MS)]);
  }

  /** @throws SwarmError with the code of the daemon's error; DAEMON_NOT_RUNNING, DAEMON_TIMEOUT */
  async #send(method: string, path: string, signal: AbortSignal, body?: object): Promise<HttpResponse> {
    const response = await this.#call(method, path, signal, body);
    if (response.status < 400) return response;
    const text = (await readAll(response.body)).toString('utf8');
    throw apiError(response.status, text, { path, home: this.#home });
  }

  async #call(method: string, path: string, signal: AbortSignal, body?: object): Promise<HttpResponse> {
    const headers: Record<string, string> = {};
    if (this.#token !== null) headers.authorization = `Bearer ${this.#token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    try {
      const text = body === undefined ? {} : { body: JSON.stringify(body) };
      return await request(new URL(path, this.url), { method, headers, signal, ...text });
    } catch (error) {
      this.#signal.throwIfAborted();
      if (signal.aborted) {
        throw coordinatorError(
          'DAEMON_TIMEOUT',
          `the ${this.#role} at ${this.url} did not answer within ${ANSWER_MS / 1000} s`,
          { url: this.url, path },
          { cause: error },
        );
      }
      // A killed daemon leaves its file behind, so a file in the home does not prove that the daemon runs.
      if (this.#home !== null) throw notRunning(this.#home, this.#role, error);
      throw storageError(
        'DAEMON_NOT_RUNNING',
        `no ${this.#role} answers at ${this.url}`,
        { url: this.url },
        {
          next: `start the ${this.#role}, or check the URL: the ${this.#role} prints it as "api"`,
          cause: error,
        },
      );
    }
  }
}
