import { z } from 'zod';
import type { Logger } from '../common/logger.ts';
import type { ComputeInput } from '../lora/train/compute.ts';
import { portSchema } from '../monitor/loopback-server.ts';
import { versionSchema } from '../protocol/ids.ts';
import type { Failpoint } from './failpoints.ts';
import { type PublicPageOptions, publicPageSchema } from './public/settings.ts';
import { type WebhookSetting, webhooksSchema } from './webhooks/settings.ts';

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
   * Number of newest checkpoints of a job that keep their weights; 0 keeps all weights. The best checkpoint and the
   * lowest checkpoint keep their weights too, and so do up to 16 others that are spread evenly over the job.
   * @default 10
   */
  readonly keepCheckpoints?: number;
  /** Whether to audit updates. An audit trains a node's interval again and compares the results. @default true */
  readonly audits?: boolean;
  /**
   * Folder of the registry to which the newest checkpoint of each finished job is added as a version; null for none.
   * @default null
   */
  readonly registry?: string | null;
  /** Folder of a registry whose shared versions the coordinator serves; null for none. @default null */
  readonly sharedRegistry?: string | null;
  /** Receivers of webhooks, in addition to the receivers in the file `webhooks.yaml` of the home. @default none */
  readonly webhooks?: readonly WebhookSetting[];
  /** A public page about jobs, which needs no token. @default none */
  readonly publicPage?: PublicPageOptions | undefined;
  /**
   * Whether to start although the database is missing, or older than the other files in the home. If true, the daemon
   * moves these files into a folder `set-aside-TIME` of the home. @default false
   */
  readonly startAnew?: boolean;
}

/**
 * Options of a coordinator. The options that this schema leaves out are checked by `parseOneDevice` and `createHost`.
 */
export const optionsSchema = z
  .object({
    home: z.string().min(1),
    version: versionSchema,
    mdns: z.boolean(),
    port: portSchema,
    keepCheckpoints: z.int().min(0),
    audits: z.boolean(),
    registry: z.string().min(1).nullable(),
    sharedRegistry: z.string().min(1).nullable(),
    webhooks: webhooksSchema,
    publicPage: publicPageSchema.optional(),
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
  /** URL of the public page; null if the coordinator has none. */
  readonly publicPage: string | null;
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
