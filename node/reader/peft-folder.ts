import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { copyRights, linkOrCopy } from '../../common/files/file-system.ts';
import { CHAT_TEMPLATE_FILE } from '../../lora/adapter/adapter-template.ts';
import { MAX_ADAPTER_HEADER_BYTES } from '../../lora/adapter/codec.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../../lora/adapter/peft.ts';
import { encodePeftConfig } from '../../lora/adapter/peft-config.ts';
import { readHeader } from '../../lora/models/weights/safetensors.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';

/**
 * Writes the PEFT folder of a checkpoint. Replaces the files of another adapter in the folder.
 * @param weights file with the adapter's weights. The folder gets a hard link to this file, or else a copy.
 */
export async function writePeftFolder(
  output: string,
  weights: string,
  { lora, base, data }: Manifest,
): Promise<void> {
  const { entries } = await readHeader(weights, MAX_ADAPTER_HEADER_BYTES);
  const layout = [...entries.keys()].map((name) => ({ name }));
  await mkdir(output, { recursive: true });
  const target = join(output, ADAPTER_WEIGHTS_FILE);
  await rm(target, { force: true });
  await linkOrCopy(weights, target);
  const config = { lora, baseModelName: base.name, revision: base.revision ?? null };
  const configFile = join(output, ADAPTER_CONFIG_FILE);
  await writeFile(configFile, encodePeftConfig(config, layout));
  // With --force, the folder may have the template of another adapter, so remove it.
  await rm(join(output, CHAT_TEMPLATE_FILE), { force: true });
  if (data.chatTemplate !== undefined) await writeFile(join(output, CHAT_TEMPLATE_FILE), data.chatTemplate);
  // Only the owner can read blob files. The adapter gets the permissions that the user's new files have.
  await copyRights(configFile, target);
}
