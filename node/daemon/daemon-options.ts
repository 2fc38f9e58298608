import { z } from 'zod';
import { commonError } from '../../common/common-errors.ts';
import { checkOptions } from '../../common/schema-problems.ts';
import type { ComputeInput } from '../../lora/train/compute.ts';
import { portSchema } from '../../monitor/loopback-server.ts';
import { type JobTarget, resolveTarget } from '../../protocol/access/invite.ts';
import { nodeNameSchema, versionSchema } from '../../protocol/ids.ts';
import { limitsSchema } from '../limits/limits.ts';
import type { GivenLimits } from '../limits/owner-limits.ts';
import type { NodePolicy } from '../limits/policy.ts';

/** One of the jobs of a node, and its share of the trainer. */
export interface NodeTarget extends JobTarget {
  /**
   * The jobs of a node get shares of the trainer's time in proportion to their weights. More than 0, at most 1000.
   * @default 1
   */
  readonly weight?: number;
}

/**
 * Options of a node. Give it an `invite` or the `addresses` of a coordinator, or `targets` if it takes part in several
 * jobs.
 */
export interface NodeDaemonOptions extends JobTarget {
  /**
   * The jobs of the node, of one or more coordinators, at most NODE_TARGETS. The trainer works on one job at a time, and
   * switches to another job after a round. @default the one job that the fields of `JobTarget` describe
   */
  targets?: readonly NodeTarget[];
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
  /**
   * Whether to find the node's coordinators, and the other nodes of its jobs, in the local network by mDNS.
   * @default true
   */
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
   * Whether the node offers to compute scores of updates and to evaluate checkpoints for the coordinator. This needs an
   * invite with the role `operator`.
   * @default false
   */
  scores?: boolean;
  /**
   * Whether the node verifies each new checkpoint of its jobs, in a process with a low priority. If a
   * checkpoint is wrong, the node logs the problem, and keeps the proof in the folder `witness` of its home.
   * @default false
   */
  witness?: boolean;
  /** Folder of a registry whose shared versions the node serves; null for none. @default null */
  sharedRegistry?: string | null;
  /**
   * Whether to start even if the home has blobs but no database. If so, the daemon moves the blobs into a folder
   * `set-aside-TIME` of the home. @default false
   */
  startAnew?: boolean;
  /**
   * Whether the node is polite. A polite node trains with the lowest priority, and pauses while other
   * programs use the processor or the machine runs on battery. With `auto`, the setting in the home decides.
   * If the home has no such setting, the node is polite on a machine with a battery, or with a user at its
   * screen.
   * @default the setting in the home, else false
   */
  polite?: boolean | 'auto';
  /**
   * Further limits. `hours`: hours of the day at which the node works, in local time, such as "22:00-07:00" or
   * "12:00-13:00,20:00-07:00". `maxUpload`, `maxDownload`: bytes per second, at least 100,000. `maxTraffic`: bytes per
   * month (UTC) in both directions. @default the limits that the home keeps
   */
  limits?: GivenLimits;
  /** Port of the HTTP server on 127.0.0.1. @default 0: any free port */
  port?: number;
}

/** Maximum number of jobs of a node. Each job's adapter and optimiser moments stay in the memory of the node. */
export const NODE_TARGETS = 16;

const weightSchema = z.number().positive().max(1000);
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
    sharedRegistry: z.string().min(1).nullable(),
    limits: limitsSchema.pick({ hours: true, maxUpload: true, maxDownload: true, maxTraffic: true }),
    polite: z.union([z.boolean(), z.literal('auto')]),
    startAnew: z.boolean(),
    targets: z
      .array(z.looseObject({ weight: weightSchema.optional() }))
      .min(1)
      .max(NODE_TARGETS),
    port: portSchema,
    policy: z
      .object({ maxBaseBytes: bytesSchema, maxDiskBytes: bytesSchema, maxMemoryBytes: bytesSchema })
      .partial(),
  })
  .partial();

/** @throws SwarmError USAGE if an option is missing or wrong */
export function checkDaemonOptions(options: NodeDaemonOptions): void {
  checkOptions(optionsSchema, options);
}

/**
 * Reads the jobs of a node.
 * @throws SwarmError INVITE_INVALID; USAGE if two targets name the same job
 */
export function resolveTargets({ targets, ...target }: NodeDaemonOptions) {
  const all = (targets ?? [target]).map((one: NodeTarget) => ({
    ...resolveTarget(one),
    weight: one.weight ?? 1,
  }));
  const named = all.flatMap(({ job }) => job ?? []);
  const twice = named.find((job, i) => named.indexOf(job) < i);
  if (twice === undefined) return all;
  throw commonError(
    'USAGE',
    `two invites are for the same job ${twice}`,
    { job: twice },
    {
      next: 'give the node one invite for each job',
    },
  );
}
