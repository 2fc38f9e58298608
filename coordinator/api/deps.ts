import type { Registry } from '@prometheus-io/client';
import type { Logger } from '../../common/logger.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { Health } from '../../monitor/health.ts';
import type { CheckJobLine } from '../../protocol/api/coordinator.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { CheckpointTags } from '../jobs/checkpoint-tags.ts';
import type { JobCreation } from '../jobs/create-job.ts';
import type { Sweeps } from '../jobs/sweeps.ts';
import type { Webhooks } from '../webhooks/webhooks.ts';
import type { Views } from './views.ts';

export interface ApiDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'blobs' | 'clock'> {
  readonly coordinator: Coordinator;
  readonly views: Views;
  readonly health: Health;
  readonly registry: Registry;
  readonly log: Logger;
  /** Aborts when the daemon stops. Aborting ends the streamed answers. */
  readonly signal: AbortSignal;
  readonly creation: Pick<JobCreation, 'create' | 'clone'>;
  /** Makes the same checks as the creation of a job, except those that compute with the base. Creates nothing. */
  checkJob(spec: JobSpec, onLine: (line: CheckJobLine) => void, signal: AbortSignal): Promise<void>;
  readonly sweeps: Pick<Sweeps, 'create'>;
  readonly tags: CheckpointTags;
  readonly webhooks: Webhooks;
  /** Called when the operator stops the daemon through the API, after the answer has been sent. */
  shutdown(): void;
}
