import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { lockHome } from '../common/file-lock.ts';
import type { Logger } from '../common/logger.ts';
import { packageVersion } from '../common/package.ts';
import { checkOptions } from '../common/schema-problems.ts';
import { systemClock } from '../common/system-clock.ts';
import { Teardown } from '../common/teardown.ts';
import { resolveHomes } from '../common/user-folders.ts';
import { deviceNames } from '../lora/engines/names.ts';
import { evaluateInProcess } from '../lora/evaluate/process/task-process.ts';
import { layOutBase } from '../lora/models/base/base-folder.ts';
import { type ComputeInput, parseOneDevice } from '../lora/train/compute.ts';
import { createCoordinatorMetrics } from '../monitor/coordinator-metrics.ts';
import { Health } from '../monitor/health.ts';
import { silentLogger } from '../monitor/log.ts';
import { portSchema } from '../monitor/loopback-server.ts';
import { NetworkMetrics } from '../monitor/network-metrics.ts';
import { privateAddressesWarning } from '../net/addresses.ts';
import { createHost } from '../net/host.ts';
import { loadIdentity } from '../net/identity.ts';
import { defaultListen, rememberListen } from '../net/listen-port.ts';
import { versionSchema } from '../protocol/ids.ts';
import { loadToken } from '../storage/api-token.ts';
import { FileBlobStore } from '../storage/blob-store.ts';
import { claimHome, writeDaemonFile } from '../storage/daemon-home.ts';
import { makeHomePrivate } from '../storage/private-home.ts';
import { requireDatabase } from '../storage/remains.ts';
import { addHealthChecks } from './api/health-checks.ts';
import { startApi } from './api/server.ts';
import { Views } from './api/views.ts';
import { Coordinator } from './coordinator.ts';
import type { Failpoint } from './failpoints.ts';
import { checkJob } from './jobs/check-job.ts';
import { JobCreation } from './jobs/create-job.ts';
import { JobPublisher } from './jobs/job-publisher.ts';
import { Sweeps } from './jobs/sweeps.ts';
import { TaskEvaluator } from './jobs/task-evaluator.ts';
import { TrainerValidator } from './merge/trainer-validator.ts';
import { FileCheckpointFolders } from './record/checkpoint-folders.ts';
import { logEvents } from './record/event-log.ts';
import { defaultRetention } from './record/retention.ts';
import { requireNewestStore } from './recovery/newer-folders.ts';
import { Store } from './store/store.ts';

/** Options of a coordinator. */
export interface CoordinatorDaemonOptions {
  /** Folder of the coordinator's data. @default SWARM_HOME, else lora-swarm/coordinator in the user's data folder */
  readonly home?: string;
  /** Version that other peers see. @default the package's version */
  readonly version?: string;
  /** Multiaddrs to listen on. @default the TCP port of the last start, or any free port at the first start */
  readonly listen?: readonly string[];
  /** More multiaddrs to announce, such as the public address of a router, without /p2p. @default none */
  readonly announce?: readonly string[];
  /** Multiaddrs to stay connected to, with or without /p2p. @default none */
  readonly bootstrap?: readonly string[];
  /** Whether to announce the coordinator in the local network by mDNS. @default true */
  readonly mdns?: boolean;
  /** Port of the control API on 127.0.0.1; 0 for any free port. @default 0 */
  readonly port?: number;
  /** Engine and settings for evaluating checkpoints, on one device. @default one thread of onnx-cpu */
  readonly compute?: ComputeInput;
  /**
   * Number of newest checkpoints of a job that keep their weights; 0 keeps all weights. The checkpoint with the lowest
   * loss and up to 16 others, spread evenly over the job, keep their weights too.
   * @default 10
   */
  readonly keepCheckpoints?: number;
  /** Whether to audit updates: the coordinator trains some of the nodes' work again and compares. @default true */
  readonly audits?: boolean;
  /**
   * Folder of the registry to which the newest checkpoint of each finished job is added as a version; null for none.
   * @default null
   */
  readonly registry?: string | null;
  /**
   * Whether to start although the database is missing, or older than the files beside it. The daemon then moves these
   * files into a folder `set-aside-TIME` of the home. @default false
   */
  readonly startAnew?: boolean;
}

/**
 * Options of a coordinator. The options that this schema leaves out are checked by `parseOneDevice` and `createHost`.
 */
const optionsSchema = z
  .object({
    home: z.string().min(1),
    version: versionSchema,
    mdns: z.boolean(),
    port: portSchema,
    keepCheckpoints: z.int().min(0),
    audits: z.boolean(),
    registry: z.string().min(1).nullable(),
    startAnew: z.boolean(),
  })
  .partial();

/** Dependencies of a coordinator. All have defaults. */
export interface CoordinatorDaemonDeps {
  /** @default logs nothing */
  readonly log?: Logger;
  /** Called after each step of failpoints.ts, so that tests can kill the process. @default does nothing @internal */
  readonly failpoint?: Failpoint;
  /**
   * Called when a write to the store fails. The function must end the process with an error. @default throws
   * the error outside of any promise
   */
  readonly fatal?: (error: unknown) => void;
  /** Called when a request to the API asks for the daemon to stop. @default stops the daemon */
  readonly onShutdown?: () => void;
}

/** A coordinator in this process. */
export interface RunningCoordinator {
  readonly home: string;
  /** Root of the control API. */
  readonly url: string;
  readonly peerId: string;
  /** Multiaddrs that the coordinator listens on, each ending in /p2p/<peer id>. */
  readonly addresses: readonly string[];
  /**
   * Stops the daemon within the deadline. No accepted update is lost. Idempotent.
   * @param options `deadlineMs`: deadline in milliseconds, @default 4,500
   */
  stop(options?: { deadlineMs?: number }): Promise<void>;
  /** Resolves when the daemon has stopped, for any reason. */
  readonly stopped: Promise<void>;
}

/** Default deadline for stopping, in milliseconds. */
const STOP_MS = 4_500;

/**
 * Starts a coordinator with a real network, disk and evaluation process.
 * @throws SwarmError USAGE, HOME_ROLE, HOME_LOCKED, IDENTITY_CORRUPT, STORE_MISSING, STORE_ROLLED_BACK, STORE_NEWER,
 *   LISTEN_FAILED, TOKEN_INVALID, and the errors of `parseOneDevice`
 */
export async function startCoordinator(
  options: CoordinatorDaemonOptions = {},
  deps: CoordinatorDaemonDeps = {},
): Promise<RunningCoordinator> {
  checkOptions(optionsSchema, options);
  const { home = resolveHomes().coordinator, version = packageVersion() } = options;
  const { log = silentLogger } = deps;
  const compute = parseOneDevice(options.compute ?? {}, { engine: 'onnx-cpu', threads: 1 });
  await claimHome(home, 'coordinator');
  const teardown = new Teardown({ clock: systemClock, log });
  teardown.add(lockHome(home));
  try {
    await makeHomePrivate(home, { log });
    const clock = systemClock;
    const startedAt = clock.now();
    const { startAnew = false } = options;
    await requireDatabase(home, { role: 'coordinator', startAnew, now: startedAt }, { log });
    const token = await loadToken(home);
    const identity = await loadIdentity(home);
    const blobs = await FileBlobStore.open({ home }, { clock });
    const store = new Store(join(home, 'coordinator.sqlite'));
    teardown.add(() => store.close());
    const self = identity.signer.peerId;
    await requireNewestStore(home, { self, startAnew, now: startedAt }, { store, log });
    const validator = new TrainerValidator(
      { home, compute },
      { blobs, log, clock, heldOut: (job) => store.jobs.heldOut(job) },
    );
    teardown.add(() => validator.stop());
    const networkMetrics = new NetworkMetrics();
    const network = await createHost(
      {
        listen: options.listen ?? (await defaultListen(home)),
        announce: options.announce ?? [],
        bootstrap: options.bootstrap ?? [],
        mdns: options.mdns === false ? [] : [identity.signer.peerId],
        home,
        agent: `lora-swarm/${version}`,
      },
      { identity, blobs, log: log.child({ module: 'net' }), clock, meter: networkMetrics },
    );
    teardown.add(() => network.stop());
    await rememberListen(home, network.addresses());
    const folders = new FileCheckpointFolders({ home }, { blobs });
    const metrics = createCoordinatorMetrics({
      version,
      traffic: () => network.traffic(),
      connections: () => network.peers().length,
      jobs: () => views.jobs(),
      intakeQueues: () => views.intakeQueues(),
    });
    teardown.add(() => metrics.stop());
    networkMetrics.register(metrics.registry);
    const coordinator = new Coordinator(
      {
        retention: {
          ...defaultRetention,
          ...(options.keepCheckpoints !== undefined && { checkpoints: options.keepCheckpoints }),
        },
        audits: options.audits ?? true,
      },
      {
        network,
        blobs,
        store,
        validator,
        folders,
        clock,
        log,
        meter: metrics.meter,
        ...(deps.failpoint && { failpoint: deps.failpoint }),
        ...(deps.fatal && { fatal: deps.fatal }),
      },
    );
    teardown.add(() => coordinator.stop());
    const stopping = new AbortController();
    teardown.add(() => stopping.abort());

    const views = new Views({ version, startedAt }, { coordinator, network, store, blobs, folders, clock });
    coordinator.onEvent((event, name) => metrics.observe(event, name));
    coordinator.onEvent((event, name) => logEvents(log, event, name));
    const publisher = new JobPublisher(
      { registry: options.registry ?? null },
      { coordinator, store, folders, log, clock, signer: identity.signer },
    );
    coordinator.onEvent((event) => publisher.observe(event));
    teardown.add(() => publisher.stop());
    const { devices, threads, baseBits, precision } = compute;
    const engine = devices === 'auto' ? devices : deviceNames(devices, ',');
    const evaluator = new TaskEvaluator(
      { cacheDir: join(home, 'cache'), compute: { engine, threads, baseBits, precision } },
      {
        coordinator,
        store,
        folders,
        clock,
        log,
        baseFolder: (base) => layOutBase({ home, base, pathOf: (digest) => blobs.path(digest) }),
        evaluate: evaluateInProcess,
      },
    );
    coordinator.onEvent((event) => evaluator.observe(event));
    const sweeps = new Sweeps({ coordinator, store, clock, log });
    coordinator.onEvent((event) => sweeps.observe(event));
    teardown.add(() => sweeps.stop());
    teardown.add(() => evaluator.stop());
    const health = new Health({ clock });
    addHealthChecks(health, { coordinator, store });

    const creation = new JobCreation({ home }, { coordinator, network, store, blobs, validator, clock, log });

    let finish = (): void => {};
    const stopped = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const stop = ({ deadlineMs = STOP_MS }: { deadlineMs?: number } = {}): Promise<void> =>
      teardown.stop({
        deadlineMs,
        last: () => {
          log.info({ peerId: network.signer.peerId }, 'coordinator-stopped');
          finish();
        },
      });

    coordinator.start();
    publisher.start();
    evaluator.start();
    sweeps.start();
    await creation.clean();
    const { url, server } = await startApi(
      { port: options.port ?? 0, token },
      {
        coordinator,
        views,
        health,
        registry: metrics.registry,
        network,
        store,
        blobs,
        clock,
        log,
        signal: stopping.signal,
        createJob: (...options) => creation.create(...options),
        cloneJob: (...options) => creation.clone(...options),
        createSweep: (sweep) => sweeps.create(sweep),
        checkJob: async (spec, onLine, signal) => {
          const options = { cacheDir: join(home, 'cache'), signal, onProgress: onLine };
          onLine({ event: 'checked', check: await checkJob(spec, options, { clock }) });
        },
        shutdown: deps.onShutdown ?? (() => void stop()),
      },
    );
    teardown.add(() => server.close());
    const { peerId } = network.signer;
    const addresses = network.addresses();
    const { pid } = process;
    const file = await writeDaemonFile(home, { role: 'coordinator', pid, url, peerId, addresses, startedAt });
    teardown.add(() => rm(file, { force: true }));
    const warning = privateAddressesWarning(addresses);
    if (warning !== null) log.warn({ error: warning }, 'addresses-private');
    log.info({ peerId, url, addresses, jobs: coordinator.jobs().length }, 'coordinator-started');
    return { home, url, peerId, addresses, stop, stopped };
  } catch (error) {
    await teardown.run();
    throw error;
  }
}
