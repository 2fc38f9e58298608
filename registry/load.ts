import { checkBase } from '../lora/adapter/check-base.ts';
import { type Adapter, readPeftFolder } from '../lora/adapter/peft.ts';
import { type DescribeOptions, describeBase } from '../lora/models/base/base-identity.ts';
import type { BaseModel } from '../lora/models/base/base-model.ts';
import { requireSameBase } from './known-base.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';

/**
 * Reads the settings and tensors of a version, and checks by digest that the version was made for this base.
 * @throws SwarmError ADAPTER_BASE (values: expected, found) if the version was made for another base;
 *   VERSION_DAMAGED, ADAPTER_*
 */
export async function loadVersion(
  registry: Registry,
  version: AdapterVersion,
  model: BaseModel,
  options: DescribeOptions = {},
): Promise<Adapter> {
  const { digest } = await describeBase(model.dir, options);
  requireSameBase(version, { digest, where: model.dir });
  const adapter = await readPeftFolder(await registry.folder(version), model);
  // Take the digest of the base from the manifest, which always has it. The adapter's file lacks the digest
  // if another program wrote the file.
  const bound = { ...adapter, baseDigest: version.manifest.base.digest };
  await checkBase(model, bound, options);
  return bound;
}
