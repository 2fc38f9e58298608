import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lockHome } from '../common/files/file-lock.ts';
import { resolveHomes } from '../common/files/user-folders.ts';
import { packageVersion } from '../common/package.ts';
import { checkOptions } from '../common/schema-problems.ts';
import { Teardown } from '../common/teardown.ts';
import { systemClock } from '../common/time/system-clock.ts';
import { deviceNames } from '../lora/engines/names.ts';
import {
  checkInProcess,
  evaluateInProcess,
  questionsInProcess,
  sampleInProcess,
} from '../lora/evaluate/process/task-process.ts';
import { layOutBase } from '../lora/models/base/base-folder.ts';
import { parseOneDevice } from '../lora/train/compute.ts';
import { Health } from '../monitor/health.ts';
import { silentLogger } from '../monitor/logs/log.ts';
import { createCoordinatorMetrics } from '../monitor/metrics/coordinator-metrics.ts';
import { NetworkMetrics } from '../monitor/metrics/network-metrics.ts';
import { privateAddressesWarning } from '../net/addresses.ts';
import { createHost } from '../net/host.ts';
import { loadIdentity } from '../net/identity.ts';
import { defaultListen, rememberListen } from '../net/listen-port.ts';
import type { Manifest } from '../protocol/job/manifest.ts';
import { SharedVersions } from '../registry/shared-versions.ts';
import { loadToken } from '../storage/api-token.ts';
import { FileBlobStore } from '../storage/blob-store.ts';
import { claimHome, writeDaemonFile } from '../storage/daemon-home.ts';
import { makeHomePrivate } from '../storage/private-home.ts';
import { requireDatabase, requireIdentity } from '../storage/remains.ts';
import { repairingBlobs, withRepairs } from '../storage/repairing-blobs.ts';
import { checkWritable } from '../storage/write-check.ts';
import { addHealthChecks } from './api/health-checks.ts';
import { startApi } from './api/server.ts';
import { Views } from './api/views.ts';
import { Coordinator } from './coordinator.ts';
import {
  type CoordinatorDaemonDeps,
  type CoordinatorDaemonOptions,
  optionsSchema,
  type RunningCoordinator,
} from './daemon-options.ts';
import { BackgroundWork } from './evaluation/background-work.ts';
import { Sampler } from './evaluation/sampler.ts';
import { ScorerEvaluation } from './evaluation/scorer-evaluation.ts';
import { TaskEvaluator } from './evaluation/task-evaluator.ts';
import { checkJob } from './jobs/check-job.ts';
import { CheckpointTags } from './jobs/checkpoint-tags.ts';
import { JobCreation } from './jobs/create-job.ts';
import { JobPublisher } from './jobs/job-publisher.ts';
import { Sweeps } from './jobs/sweeps.ts';
import { TrainerValidator } from './merge/trainer-validator.ts';
import { startPublicServer } from './public/server.ts';
import { FileCheckpointFolders } from './record/checkpoint-folders.ts';
import { logEvents } from './record/event-log.ts';
import { markJob } from './record/new-job.ts';
import { defaultRetention } from './record/retention.ts';
import { BLOB_FLOOR_BYTES, DiskGuard, PAUSE_BELOW_BYTES } from './recovery/disk-guard.ts';
import { requireNewestStore } from './recovery/newer-folders.ts';
import { Store } from './store/store.ts';
import { openWebhooks } from './webhooks/open.ts';

/** Default deadline for stopping, in milliseconds. */
const STOP_MS = 4_500;

/**
 * Starts a coordinator with a real network, disk and evaluation process.
 * @throws SwarmError USAGE, HOME_ROLE, HOME_LOCKED, IDENTITY_CORRUPT, IDENTITY_MISSING, STORE_MISSING, STORE_ROLLED_BACK,
 *   STORE_NEWER, LISTEN_FAILED, TOKEN_INVALID, and the errors of `parseOneDevice`
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
    await requireIdentity(home);
    const token = await loadToken(home);
    const identity = await loadIdentity(home);
    const blobs = await FileBlobStore.open({ home, floorBytes: BLOB_FLOOR_BYTES }, { clock });
    const store = new Store(join(home, 'coordinator.sqlite'));
    teardown.add(() => store.close());
    const self = identity.signer.peerId;
    await requireNewestStore(home, { self, startAnew, now: startedAt }, { store, log });
    const pathOf = (digest: string): string => blobs.path(digest);
    const baseFolder = (base: Manifest['base']): Promise<string> =>
      withRepairs(repairingBlobs(blobs, coordinator.repair), () => layOutBase({ home, base, pathOf }));
    const validator = new TrainerValidator(
      {
        home,
        compute,
        ...(options.compute?.engine === undefined && { engineReason: 'default of the coordinator' }),
      },
      {
        baseFolder,
        heldOut: (job) => store.jobs.heldOut(job),
        ...{ log, clock },
      },
    );
    teardown.add(() => validator.stop());
    const { sharedRegistry = null } = options;
    const shared = new SharedVersions({ home: sharedRegistry }, { clock, log, self: identity.signer.peerId });
    teardown.add(() => shared.stop());
    const networkMetrics = new NetworkMetrics();
    const network = await createHost(
      {
        listen: options.listen ?? (await defaultListen(home)),
        announce: options.announce ?? [],
        bootstrap: options.bootstrap ?? [],
        mdns: options.mdns === false ? [] : [identity.signer.peerId],
        home,
        checksReach: true,
        agent: `lora-swarm/${version}`,
      },
      {
        identity,
        blobs,
        other: shared,
        log: log.child({ module: 'net' }),
        clock,
        meter: networkMetrics,
      },
    );
    teardown.add(() => network.stop());
    shared.start();
    await rememberListen(home, network.addresses());
    const folders = new FileCheckpointFolders({ home }, { blobs });
    // Write each job's manifest to its folder. An earlier version did not write it, and a process may have been killed before
    // it wrote the manifest of the newest job.
    for (const stored of store.jobs.all()) await markJob(stored, { folders, log });
    const metrics = createCoordinatorMetrics({
      version,
      traffic: () => network.traffic(),
      connections: () => network.peers().length,
      jobs: () => views.jobs(),
      intakeQueues: () => views.intakeQueues(),
    });
    teardown.add(() => metrics.stop());
    networkMetrics.register(metrics.registry);
    const guard = new DiskGuard({ home }, { jobs: () => coordinator.jobs(), clock, log });
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
        beforeTransaction: () => guard.beforeTransaction(),
        ...(deps.failpoint && { failpoint: deps.failpoint }),
        ...(deps.fatal && { fatal: deps.fatal }),
      },
    );
    teardown.add(() => coordinator.stop());
    teardown.add(() => guard.stop());
    const stopping = new AbortController();
    teardown.add(() => stopping.abort());

    const views = new Views({ version, startedAt }, { coordinator, network, store, blobs, folders, clock });
    coordinator.onEvent((event, name) => metrics.observe(event, name));
    coordinator.onEvent((event, name) => logEvents(log, event, name));
    const publisher = new JobPublisher(
      { registry: options.registry ?? null },
      { coordinator, store, folders, log, clock, signer: identity.signer, baseFolder },
    );
    coordinator.onEvent((event) => publisher.observe(event));
    teardown.add(() => publisher.stop());
    const { devices, threads, baseBits, precision } = compute;
    const engine = devices === 'auto' ? devices : deviceNames(devices, ',');
    const model = { cacheDir: join(home, 'cache'), compute: { engine, threads, baseBits, precision } };
    const workDeps = { coordinator, store, folders, clock, log, baseFolder };
    const processes = { questions: questionsInProcess, check: checkInProcess };
    const scorers = new ScorerEvaluation({ ...workDeps, ...processes });
    const work = new BackgroundWork({
      sources: [
        new TaskEvaluator(model, { ...workDeps, evaluate: evaluateInProcess, scorers }),
        new Sampler(model, { ...workDeps, sample: sampleInProcess }),
      ],
      log,
    });
    coordinator.onEvent((event) => work.observe(event));
    const sweeps = new Sweeps({ coordinator, store, clock, log });
    coordinator.onEvent((event) => sweeps.observe(event));
    teardown.add(() => sweeps.stop());
    const { webhooks: given = [] } = options;
    const webhooks = await openWebhooks({ home, given, version }, { coordinator, store, clock, log });
    teardown.add(() => webhooks.stop());
    teardown.add(() => work.stop());
    const health = new Health({ clock });
    const needed = PAUSE_BELOW_BYTES;
    addHealthChecks(health, { coordinator, store, checkDisk: () => checkWritable(home, { needed }) });

    const jobDeps = { coordinator, network, store, blobs, validator, baseFolder, clock, log };
    const creation = new JobCreation({ home }, jobDeps);

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
    void guard.start();
    publisher.start();
    work.start();
    sweeps.start();
    webhooks.start();
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
        creation,
        sweeps,
        tags: new CheckpointTags(
          { registry: options.registry ?? null },
          { store, folders, clock, signer: identity.signer },
        ),
        webhooks,
        checkJob: async (spec, onLine, signal) => {
          const options = { cacheDir: join(home, 'cache'), signal, onProgress: onLine };
          onLine({ event: 'checked', check: await checkJob(spec, options, { clock }) });
        },
        shutdown: deps.onShutdown ?? (() => void stop()),
      },
    );
    teardown.add(() => server.close());
    const page =
      options.publicPage &&
      (await startPublicServer(options.publicPage, { coordinator, network, store, clock, log }));
    if (page) teardown.add(() => page.server.close());
    const publicPage = page?.url ?? null;
    const { peerId } = network.signer;
    const addresses = network.addresses();
    const { pid } = process;
    const file = await writeDaemonFile(home, {
      role: 'coordinator',
      pid,
      url,
      peerId,
      addresses,
      sharedRegistry,
      startedAt,
    });
    teardown.add(() => rm(file, { force: true }));
    const warning = privateAddressesWarning(addresses);
    if (warning !== null) log.warn({ error: warning }, 'addresses-private');
    log.info({ peerId, url, addresses, jobs: coordinator.jobs().length }, 'coordinator-started');
    return { home, url, publicPage, peerId, addresses, stop, stopped };
  } catch (error) {
    await teardown.run();
    throw error;
  }
}
