import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { SwarmError } from '../common/errors.ts';
import { lockHome } from '../common/file-lock.ts';
import type { Logger } from '../common/logger.ts';
import { packageVersion } from '../common/package.ts';
import { checkOptions } from '../common/schema-problems.ts';
import { systemClock } from '../common/system-clock.ts';
import { Teardown } from '../common/teardown.ts';
import { resolveHomes } from '../common/user-folders.ts';
import { type ComputeInput, parseCompute } from '../lora/train/compute.ts';
import { trainersOf } from '../lora/train/memory/trainers.ts';
import { Health } from '../monitor/health.ts';
import { silentLogger } from '../monitor/log.ts';
import { portSchema } from '../monitor/loopback-server.ts';
import { NetworkMetrics } from '../monitor/network-metrics.ts';
import { createNodeMetrics } from '../monitor/node-metrics.ts';
import { parseAddress } from '../net/addresses.ts';
import { createHost } from '../net/host.ts';
import { loadIdentity } from '../net/identity.ts';
import { nodeNameSchema, versionSchema } from '../protocol/ids.ts';
import { type JobTarget, resolveTarget } from '../protocol/invite.ts';
import { loadToken } from '../storage/api-token.ts';
import { FileBlobStore } from '../storage/blob-store.ts';
import { claimHome, writeDaemonFile } from '../storage/daemon-home.ts';
import { makeHomePrivate } from '../storage/private-home.ts';
import { CONSENT_NOTICE } from './consent.ts';
import type { SwarmNodeDeps, SwarmNodeOptions } from './context.ts';
import { startNodeHttp } from './http.ts';
import { nodeStatus } from './node-status.ts';
import { peerName } from './peer-name.ts';
import { defaultPolicy, type NodePolicy } from './policy.ts';
import { NodeStore } from './store/node-store.ts';
import { SwarmNode } from './swarm-node.ts';
import { TrainingProcess } from './training-process.ts';

/** Options of a node. Give it an `invite`, or the `addresses` of a coordinator. */
export interface NodeDaemonOptions extends JobTarget {
  /**
   * Folder of the node's key, database, blobs and log. @default SWARM_HOME, else lora-swarm/node in the user's data
   * folder
   */
  home?: string;
  /** Name of the node that other peers see, up to 64 characters. @default made from its peer id, see `peerName` */
  name?: string;
  /** Version that other peers see. @default the package's version */
  version?: string;
  /** Multiaddrs to listen on. @default any free TCP port */
  listen?: readonly string[];
  /** Whether to find the coordinator and the other nodes of its jobs in the local network by mDNS. @default true */
  mdns?: boolean;
  /**
   * Engine, devices and settings of the trainer. `policy.maxMemoryBytes` is the memory limit of the trainer.
   * @default the fastest engine that runs, with all hardware threads but one
   */
  compute?: ComputeInput;
  /**
   * Limits on what the machine's owner lends to jobs. @default four fifths of the machine's memory, a base of 32 GiB,
   * 100 GiB of disk space
   */
  policy?: Partial<NodePolicy>;
  /**
   * Whether the node offers to compute scores of updates for the coordinator. This needs an invite with the role
   * `operator`.
   * @default false
   */
  scores?: boolean;
  /** Port of the HTTP server on 127.0.0.1. @default 0: any free port */
  port?: number;
}

const bytesSchema = z.custom<number>(
  (value) => typeof value === 'number' && value >= 0,
  'must be a number of bytes, 0 or more',
);

/** `parseCompute`, `resolveTarget` and `createHost` check the other options. */
const optionsSchema = z
  .object({
    home: z.string().min(1),
    name: nodeNameSchema,
    version: versionSchema,
    mdns: z.boolean(),
    scores: z.boolean(),
    port: portSchema,
    policy: z
      .object({ maxBaseBytes: bytesSchema, maxDiskBytes: bytesSchema, maxMemoryBytes: bytesSchema })
      .partial(),
  })
  .partial();

/** Dependencies of a node. All have defaults. */
export interface NodeDaemonDeps {
  /** @default logs nothing */
  log?: Logger;
}

/** A node in this process. */
export interface RunningNode {
  readonly home: string;
  /** Root of its HTTP API: /v1/status (with the bearer token in `<home>/api-token`), /metrics, /healthz, /readyz. */
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
   * `values.code`) if the coordinator has shut the node out. The node then stops by itself.
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
 * @throws SwarmError USAGE, INVITE_INVALID, HOME_ROLE, HOME_LOCKED, IDENTITY_CORRUPT, STORE_NEWER, LISTEN_FAILED,
 *   TOKEN_INVALID, and the errors of `parseCompute`
 */
export async function startNode(options: NodeDaemonOptions, deps: NodeDaemonDeps = {}): Promise<RunningNode> {
  checkOptions(optionsSchema, options);
  const { home = resolveHomes().node, version = packageVersion() } = options;
  const { log = silentLogger } = deps;
  const { addresses: coordinator, job, token: invite } = resolveTarget(options);
  // One thread stays free for the daemon and for other programs.
  const threads = Math.max(1, availableParallelism() - 1);
  const computed = parseCompute(options.compute ?? {}, { threads });
  await claimHome(home, 'node');
  const teardown = new Teardown({ clock: systemClock, log });
  teardown.add(lockHome(home));
  try {
    await makeHomePrivate(home, { log });
    const startedAt = systemClock.now();
    const token = await loadToken(home);
    const identity = await loadIdentity(home);
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const store = NodeStore.open(join(home, 'node.sqlite'));
    teardown.add(() => store.close());
    const agent = `lora-swarm/${version}`;
    const networkMetrics = new NetworkMetrics();
    const network = await createHost(
      {
        listen: options.listen ?? ['/ip4/0.0.0.0/tcp/0'],
        bootstrap: [],
        mdns: options.mdns === false ? [] : coordinatorsAt(coordinator),
        home,
        agent,
        ...confidantsAt(coordinator),
      },
      { identity, blobs, log: log.child({ module: 'net' }), clock: systemClock, meter: networkMetrics },
    );
    teardown.add(() => network.stop());
    const policy = { ...defaultPolicy, maxMemoryBytes: MEMORY_SHARE * totalmem(), ...options.policy };
    const metrics = createNodeMetrics({
      version,
      traffic: () => network.traffic(),
      connections: () => network.peers().length,
      node: () => {
        const { state, round, step, steps, tokensPerSecond } = status();
        return { state, round, step, steps, tokensPerSecond, trainerQueue: trainer.queue };
      },
    });
    teardown.add(() => metrics.stop());
    networkMetrics.register(metrics.registry);
    const compute = { ...computed, memoryLimit: policy.maxMemoryBytes };
    const trainer = new TrainingProcess(
      { home, compute },
      {
        blobs,
        clock: systemClock,
        log: log.child({ module: 'trainer' }),
        random: Math.random,
        meter: metrics,
      },
    );
    teardown.add(() => trainer.stop());

    const nodeOptions: SwarmNodeOptions = {
      addresses: coordinator,
      job,
      invite,
      name: options.name ?? peerName(identity.signer.peerId),
      agent,
      policy,
      trainers: trainersOf(compute),
    };
    const nodeDeps: SwarmNodeDeps = {
      network,
      blobs,
      trainer,
      ...(options.scores && { scoreTrainer: trainer }),
      store,
      clock: systemClock,
      log,
      random: Math.random,
      randomBytes,
      meter: metrics,
    };
    let finish = (): void => {};
    const stopped = new Promise<SwarmError | null>((resolve) => {
      finish = () => resolve(swarmNode.view().shutOut);
    });
    const stop = ({ deadlineMs = STOP_MS }: { deadlineMs?: number } = {}): Promise<void> => {
      const drain = (): Promise<void> => swarmNode.stop({ deadlineMs: DRAIN_SHARE * deadlineMs });
      return teardown.stop({
        deadlineMs,
        first: () => Promise.all([drain(), trainer.stop()]),
        last: () => {
          log.info({ peerId: identity.signer.peerId }, 'node-stopped');
          finish();
        },
      });
    };
    const swarmNode = new SwarmNode(nodeOptions, { ...nodeDeps, onShutOut: () => void stop() });
    const status = () =>
      nodeStatus({
        swarmNode,
        options: nodeOptions,
        deps: nodeDeps,
        version,
        startedAt,
      });
    const health = new Health({ clock: systemClock });
    teardown.add(
      health.add('ready', 'job', () => {
        const { state } = swarmNode.view();
        return state.phase === 'joining' ? `not in a job yet: ${state.reason}` : null;
      }),
      health.add('ready', 'coordinator', () =>
        status().coordinator.connected
          ? null
          : 'no connection to the coordinator; the node keeps dialling it',
      ),
      health.add('ready', 'store', () => {
        store.probe();
        return null;
      }),
    );
    const { url, server } = await startNodeHttp(
      { port: options.port ?? 0, token },
      { health, registry: metrics.registry, status },
    );
    teardown.add(() => server.close());
    if (store.firstTime('consent')) log.info({ notice: CONSENT_NOTICE }, 'consent-shown');
    const { peerId } = network.signer;
    const addresses = network.addresses();
    const { pid } = process;
    const file = await writeDaemonFile(home, { role: 'node', pid, url, peerId, addresses, startedAt });
    teardown.add(() => rm(file, { force: true }));
    log.info({ peerId, url, addresses }, 'node-started');
    // Start the node last. Once started, it may stop by itself, which runs all steps of the teardown.
    swarmNode.start();
    return { home, url, peerId, stop, stopped };
  } catch (error) {
    await teardown.run();
    throw error;
  }
}

/**
 * Returns the option `confidants` of the host: the coordinators, as the only peers to which the host sends this node's
 * updates and heartbeats. If an address lacks a peer id, returns no such option, because the list would be incomplete.
 */
function confidantsAt(addresses: readonly string[]): { confidants?: string[] } {
  const confidants = coordinatorsAt(addresses);
  return confidants.length === addresses.length ? { confidants } : {};
}

/** Returns the peer ids in the addresses. */
function coordinatorsAt(addresses: readonly string[]): string[] {
  return addresses.map((address) => parseAddress(address).peer).filter((peer) => peer !== null);
}
