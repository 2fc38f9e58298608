import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { VARIANT_CHARACTERS } from '../../protocol/api/sweeps.ts';
import { adapterNameSchema } from '../../protocol/ids.ts';
import { JOBS_PER_COORDINATOR } from '../../protocol/limits.ts';
import type { Coordinator } from '../coordinator.ts';
import type { Sweeps } from '../jobs/sweeps.ts';
import type { Store } from '../store/store.ts';
import { checked } from './checked.ts';
import { sweepViews } from './sweep-views.ts';

interface SweepRouteDeps {
  readonly coordinator: Coordinator;
  readonly store: Store;
  readonly sweeps: Pick<Sweeps, 'create'>;
}

const sweepSchema = z.strictObject({
  name: adapterNameSchema,
  rounds: z.int().positive().max(100_000),
  jobs: z
    .array(z.strictObject({ job: z.string().min(1).max(64), variant: z.string().max(VARIANT_CHARACTERS) }))
    .min(2)
    .max(JOBS_PER_COORDINATOR),
});

export function sweepRoutes(server: FastifyInstance, deps: SweepRouteDeps): void {
  server.get('/v1/sweeps', async () => ({ sweeps: sweepViews(deps) }));
  server.post('/v1/sweeps', async ({ body }) => {
    const sweep = checked(sweepSchema, body ?? undefined, 'sweep');
    deps.sweeps.create(sweep);
    return sweepViews(deps).find(({ name }) => name === sweep.name);
  });
}
