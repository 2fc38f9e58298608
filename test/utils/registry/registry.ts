import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { loraConfig } from '../../../lora/adapter/lora-config.ts';
import { writePeftFolder } from '../../../lora/adapter/peft.ts';
import { type AddOptions, addFolder } from '../../../registry/add-folder.ts';
import { Registry } from '../../../registry/registry.ts';
import type { AdapterVersion } from '../../../registry/version.ts';
import { temporaryFolder } from '../folder.ts';
import { ManualClock } from '../manual-clock.ts';
import { signerOf } from '../swarm/signers.ts';

/** Digest of a base that exists nowhere. */
export const BASE = 'ba5e'.repeat(16);

/** Opens a registry in a temporary folder. It is closed when the test ends. */
export async function openTestRegistry(
  home?: string,
  clock: ManualClock = new ManualClock(),
): Promise<{ registry: Registry; clock: ManualClock; home: string }> {
  const folder = home ?? join(await temporaryFolder(), 'registry');
  const registry = await Registry.open({ home: folder }, { clock, signer: async () => signerOf(1) });
  onTestFinished(() => registry.close());
  return { registry, clock, home: folder };
}

/** Writes a PEFT folder with one module of rank 1, whose B has the value `value`. */
export async function smallPeftFolder(value: number, baseDigest: string | null = BASE): Promise<string> {
  const dir = join(await temporaryFolder(), 'adapter');
  const module = 'base_model.model.model.layers.0.self_attn.q_proj';
  await writePeftFolder(dir, {
    layout: [
      { name: `${module}.lora_A.weight`, shape: [1, 2], group: 'A' },
      { name: `${module}.lora_B.weight`, shape: [2, 1], group: 'B' },
    ],
    tensors: [Float32Array.of(1, 2), Float32Array.of(value, value)],
    lora: loraConfig({ rank: 1, alpha: 1, targets: ['q_proj'] }),
    baseModelName: 'tiny',
    baseDigest,
  });
  return dir;
}

/** Adds an adapter whose content follows from `value`. */
export async function addSmall(
  registry: Registry,
  name: string,
  value: number,
  options: Partial<AddOptions> = {},
): Promise<AdapterVersion> {
  const folder = await smallPeftFolder(value);
  return (await addFolder(registry, { name, folder, ...options })).version;
}
