import { basename } from 'node:path';
import { type AdapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { BaseDescription } from '../../lora/models/base/base-identity.ts';
import type { BaseModel } from '../../lora/models/base/base-model.ts';
import { hubOrigin } from '../../lora/models/hub/reference.ts';
import { type Manifest, manifestSchema } from '../../protocol/job/manifest.ts';

/** Returns a job's manifest: the operator's settings, and the measured facts about base, data and adapter. */
export function describeJob({
  coordinator,
  spec,
  model,
  base,
  data,
  layout,
  initial,
  createdAt,
}: {
  /** Peer id of the coordinator; null in a check of a job file, which no coordinator signs. */
  coordinator: string | null;
  spec: JobSpec;
  model: BaseModel;
  base: BaseDescription;
  data: Manifest['data'];
  layout: AdapterLayout;
  initial: Manifest['adapter']['initial'];
  createdAt: number;
}): Manifest {
  const { name, lora, training, rounds, acceptance, seed } = spec;
  const files = base.files.map(({ path, size, digest }) => ({ path, size, digest }));
  return manifestSchema.parse({
    version: 1,
    name,
    ...(coordinator !== null && { coordinator }),
    base: { ...nameOf(spec.base), digest: base.digest, parameters: model.parameters, files },
    data,
    lora,
    adapter: { parameters: adapterSize(layout), initial },
    training,
    rounds,
    acceptance,
    seed,
    createdAt,
  } satisfies Manifest);
}

/**
 * Returns the name and commit that a base has on the hub. For a base from elsewhere, returns the name of its folder.
 */
function nameOf(dir: string): Pick<Manifest['base'], 'name' | 'revision'> {
  return hubOrigin(dir) ?? { name: basename(dir) };
}
