import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import type { SwarmError } from '../../common/errors.ts';
import { lockHome } from '../../common/files/file-lock.ts';
import { resolveHomes } from '../../common/files/user-folders.ts';
import type { Logger } from '../../common/logger.ts';
import { packageVersion } from '../../common/package.ts';
import { Teardown } from '../../common/teardown.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { parseCompute } from '../../lora/train/compute.ts';
import { trainersOf } from '../../lora/train/memory/trainers.ts';
import { ClockJumps } from '../../monitor/clock-jumps.ts';
import { Health } from '../../monitor/health.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { NetworkMetrics } from '../../monitor/metrics/network-metrics.ts';
import { createNodeMetrics } from '../../monitor/metrics/node-metrics.ts';
import { createHost } from '../../net/host.ts';
import { loadIdentity } from '../../net/identity.ts';
import { SharedVersions } from '../../registry/shared-versions.ts';
import { loadToken } from '../../storage/api-token.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { claimHome, writeDaemonFile } from '../../storage/daemon-home.ts';
import { makeHomePrivate } from '../../storage/private-home.ts';
import { requireDatabase } from '../../storage/remains.ts';
import { checkWritable } from '../../storage/write-check.ts';
import { AnswerProcess } from '../evaluation/answer-process.ts';
import type { NodeDeps, SwarmNodeOptions } from '../jobs/context.ts';
import { SwarmNodes } from '../jobs/swarm-nodes.ts';
import { OwnerLimits } from '../limits/owner-limits.ts';
import { servesNoFiles } from '../limits/pauses.ts';
import { defaultPolicy } from '../limits/policy.ts';
import { fetchOwnCheckpoint, removePulled } from '../reader/own-checkpoint.ts';
import { coordinatorClocks } from '../status/coordinator-clocks.ts';
import { coordinatorRecord } from '../status/coordinator-record.ts';
import { addNodeChecks } from '../status/health-checks.ts';
import { startNodeHttp } from '../status/http.ts';
import { MachineUse } from '../status/machine-use.ts';
import { nodeStatus } from '../status/node-status.ts';
import { KnownJobs, readKnownNames } from '../store/known-jobs.ts';
import { NodeStore } from '../store/node-store.ts';
import { TrainingProcess } from '../trainer/training-process.ts';
import { startWitness } from '../witness/start-witness.ts';
import { CONSENT_NOTICE } from './consent.ts';
import { confidantsAt, coordinatorsAt } from './coordinators.ts';
import { checkDaemonOptions, type NodeDaemonOptions, resolveTargets } from './daemon-options.ts';
import { peerName } from './peer-name.ts';

/** Dependencies of a node. All have defaults. */
export interface NodeDaemonDeps {
  /** @default logs nothing */
  log?: Logger;
}

/** A node that runs in this process. */
export interface RunningNode {
  readonly home: string;
  /** URL of the node's HTTP API: /v1/status (bearer token in `<home>/api-token`), /metrics, /healthz, /readyz. */
  readonly url: string;
  readonly peerId: string;
  /**
   * Abandons the round in progress, submits the updates that have no receipt, leaves the job and closes the network.
   * Ends within the deadline. Idempotent.
   * @param options `deadlineMs`: @default 4,500
   */
  stop(options?: { deadlineMs?: number }): Promise<void>;
  /**
   * Resolves when the node has stopped: with null after `stop`, or with the refusal (RPC_REFUSED, with the reason in
   * `values.code`) if the coordinator has shut the node out. A node that is shut out stops automatically. A node with
   * several jobs stops when the coordinators of all jobs have shut it out.
   */
  readonly stopped: Promise<SwarmError | null>;
}

/** Default memory limit, as a share of the machine's memory. The rest is for other programs. */
const MEMORY_SHARE = 0.8;
/** Default deadline for stopping, in milliseconds. */
const STOP_MS = 4_500;
/** Share of the stop deadline that is for delivering updates. The rest is for closing the network. */
const DRAIN_SHARE = 0.6;

/**
 * Starts a node with a real network, disk and trainer process. Without an invite or addresses the node runs, but it
 * joins no job.
 * @throws SwarmError USAGE, INVITE_INVALID, HOME_ROLE, HOME_LOCKED, IDENTITY_CORRUPT, STORE_MISSING, STORE_NEWER,
 *   LISTEN_FAILED, TOKEN_INVALID, and the errors of `parseCompute`
 */
export async function startNode(options: NodeDaemonOptions, deps: NodeDaemonDeps = {}): Promise<RunningNode> {
  checkDaemonOptions(options);
  const { home = resolveHomes().node, version = packageVersion() } = options;
  const { log = silentLogger } = deps;
  const targets = resolveTargets(options);
  const coordinators = targets.flatMap(({ addresses }) => addresses);
  // One thread stays free for the daemon and for other programs.
  const threads = Math.max(1, availableParallelism() - 1);
  await claimHome(home, 'node');
  const owner = await OwnerLimits.open(
    {
      home,
      defaults: { ...defaultPolicy, maxMemoryBytes: MEMORY_SHARE * totalmem() },
      policy: options.policy ?? {},
      limits: options.limits ?? {},
      polite: options.polite,
    },
    { clock: systemClock, log },
  );
  const { policy, pauses } = owner;
  const computed = parseCompute(options.compute ?? {}, { threads: owner.kept.threads ?? threads });
  const teardown = new Teardown({ clock: systemClock, log });
  teardown.add(lockHome(home));
  try {
    await makeHomePrivate(home, { log });
    const startedAt = systemClock.now();
    const { startAnew = false, sharedRegistry = null } = options;
    await requireDatabase(home, { role: 'node', startAnew, now: startedAt }, { log });
    await removePulled(home);
    const token = await loadToken(home);
    const identity = await loadIdentity(home);
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const store = NodeStore.open(join(home, 'node.sqlite'));
    teardown.add(() => store.close());
    const agent = `lora-swarm/${version}`;
    const self = identity.signer.peerId;
    store.setKey(self);
    const isPaused = (): boolean => servesNoFiles(pauses);
    const shared = new SharedVersions({ home: sharedRegistry }, { clock: systemClock, log, self, isPaused });
    teardown.add(() => shared.stop());
    const networkMetrics = new NetworkMetrics();
    const network = await createHost(
      {
        listen: options.listen ?? ['/ip4/0.0.0.0/tcp/0'],
        bootstrap: [],
        mdns: options.mdns === false ? [] : coordinatorsAt(coordinators),
        checksReach: true,
        ...{ home, agent },
        ...confidantsAt(coordinators),
      },
      {
        identity,
        blobs,
        other: shared,
        log: log.child({ module: 'net' }),
        clock: systemClock,
        meter: networkMetrics,
      },
    );
    teardown.add(() => network.stop());
    shared.start();
    const knownJobs = new KnownJobs({ home }, { log });
    teardown.add(() => knownJobs.saved());
    const metrics = createNodeMetrics({
      version,
      traffic: () => network.traffic(),
      connections: () => network.peers().length,
      node: () => {
        const { state, round, step, steps, tokensPerSecond, jobs } = status();
        return { state, round, step, steps, tokensPerSecond, trainerQueue: trainer.queue, jobs };
      },
    });
    teardown.add(() => metrics.stop());
    networkMetrics.register(metrics.registry);
    const compute = { ...computed, memoryLimit: owner.trainerBytes };
    const isPolite = (): boolean => owner.isPolite;
    const trainerDeps = { blobs, clock: systemClock, random: Math.random, meter: metrics, isPolite };
    const memoryLimit = (): number => owner.trainerBytes;
    const trainer = new TrainingProcess(
      { home, compute },
      { ...trainerDeps, log: log.child({ module: 'trainer' }), memoryLimit },
    );
    teardown.add(() => trainer.stop());
    pauses.onChange(() => trainer.pause(pauses.current !== null));
    const use = new MachineUse(
      { home },
      { clock: systemClock, log, totals: store.totals, traffic: () => network.traffic(), trainer },
    );
    teardown.add(() => use.stop());
    const name = options.name ?? peerName(identity.signer.peerId);
    const knownNames = await readKnownNames(home, targets);
    const nodeOptions = targets.map(
      ({ addresses, job, token, weight }, i): SwarmNodeOptions => ({
        addresses,
        job,
        invite: token,
        knownName: knownNames[i] ?? null,
        weight,
        name,
        agent,
        policy,
        trainers: trainersOf(compute),
      }),
    );
    const nodeDeps: NodeDeps = {
      network,
      blobs,
      trainer,
      ...(options.scores && {
        scoreTrainer: trainer,
        answerer: new AnswerProcess({ home, compute }, { blobs, trainer, log, isPolite }),
      }),
      store,
      knownJobs,
      pauses,
      checkDisk: () => checkWritable(home),
      clock: systemClock,
      log,
      random: Math.random,
      randomBytes,
      runId: randomBytes(8).toString('hex'),
      meter: metrics,
    };
    const stopping = new AbortController();
    teardown.add(() => stopping.abort());
    let finish = (): void => {};
    const stopped = new Promise<SwarmError | null>((resolve) => {
      finish = () => resolve(nodes.shutOut);
    });
    const stop = ({ deadlineMs = STOP_MS }: { deadlineMs?: number } = {}): Promise<void> => {
      const drain = (): Promise<void> => nodes.stop({ deadlineMs: DRAIN_SHARE * deadlineMs });
      return teardown.stop({
        deadlineMs,
        first: () => Promise.all([drain(), trainer.stop()]),
        last: () => {
          log.info({ peerId: identity.signer.peerId }, 'node-stopped');
          finish();
        },
      });
    };
    const nodes = new SwarmNodes(nodeOptions, { ...nodeDeps, onShutOut: () => void stop() });
    const node = {
      network,
      work: () => nodes.all.map(({ work }) => work),
      checkLimits: () => nodes.checkLimits(),
      stop: () => void stop(),
      traffic: () => {
        const { month, sent, received } = use.cost().month;
        return { month, bytes: sent + received };
      },
    };
    const witness = options.witness
      ? await startWitness(
          { home, policy },
          { network, blobs, store, pauses, clock: systemClock, log, nodes, trainer },
        )
      : null;
    if (witness !== null) teardown.add(() => witness.stop());
    const control = owner.control(node);
    teardown.add(() => owner.stop());
    const status = () =>
      nodeStatus({
        nodes,
        name,
        deps: nodeDeps,
        version,
        startedAt,
        cost: () => use.cost(),
        clockJump: () => clockJumps.recent,
        limits: () => owner.kept,
        polite: isPolite,
      });
    const clockJumps = new ClockJumps({ clock: systemClock });
    const health = new Health({ clock: systemClock });
    const isOne = targets.length === 1;
    teardown.add(health.add('ready', 'clock', () => clockJumps.problem()));
    teardown.add(...addNodeChecks(health, { status, isOne, store, checkDisk: () => checkWritable(home) }));
    const { url, server } = await startNodeHttp(
      { port: options.port ?? 0, token },
      {
        ...{ health, registry: metrics.registry, status, control },
        checkpoint: (job, signal) => {
          const { collector } = nodes;
          const deps = { network, blobs, origins: store.origins, clock: systemClock, collector };
          return fetchOwnCheckpoint({ home, job }, deps, AbortSignal.any([stopping.signal, signal]));
        },
        clocks: () => coordinatorClocks(status().jobs, nodeDeps),
        record: (subject) => coordinatorRecord(subject, status().jobs, nodeDeps),
      },
    );
    teardown.add(() => server.close());
    if (store.firstTime('consent')) log.info({ notice: CONSENT_NOTICE }, 'consent-shown');
    const addresses = network.addresses();
    const daemon = { pid: process.pid, url, peerId: self, addresses, sharedRegistry, startedAt };
    const file = await writeDaemonFile(home, { role: 'node', ...daemon });
    teardown.add(() => rm(file, { force: true }));
    log.info({ peerId: self, url, addresses }, 'node-started');
    // Start the node after the steps above, because a node that a coordinator shuts out runs the teardown at once.
    await owner.start(node);
    nodes.start();
    teardown.add(clockJumps.watch((byMs) => log.warn({ byMs }, 'clock-set')));
    use.start();
    return { home, url, peerId: self, stop, stopped };
  } catch (error) {
    await teardown.run();
    throw error;
  }
}
