import type { Registry } from '@prometheus-io/client';
import type { Logger } from '../../common/logger.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { Health } from '../../monitor/health.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { CheckpointTags } from '../jobs/checkpoint-tags.ts';
import type { CloneOptions } from '../jobs/clone-job.ts';
import type { NewPlace } from '../jobs/create-job.ts';
import type { NewSweep } from '../jobs/sweeps.ts';
import type { Webhooks } from '../webhooks/webhooks.ts';
import type { CheckJobLine, CreateJobLine } from './types.ts';
import type { Views } from './views.ts';

export interface ApiDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'blobs' | 'clock'> {
  readonly coordinator: Coordinator;
  readonly views: Views;
  readonly health: Health;
  readonly registry: Registry;
  readonly log: Logger;
  /** Aborts when the daemon stops. Aborting ends the streamed answers. */
  readonly signal: AbortSignal;
  /** Creates and starts a job. */
  createJob(
    spec: JobSpec,
    place: NewPlace,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Creates and starts a copy of a job. */
  cloneJob(
    job: string,
    options: CloneOptions & NewPlace,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Checks a job as `createJob` does, but creates nothing. */
  checkJob(spec: JobSpec, onLine: (line: CheckJobLine) => void, signal: AbortSignal): Promise<void>;
  /** Records and starts a sweep. */
  createSweep(sweep: NewSweep): void;
  readonly tags: CheckpointTags;
  readonly webhooks: Webhooks;
  /** Called when the operator stops the daemon through the API, after the answer has been sent. */
  shutdown(): void;
}
