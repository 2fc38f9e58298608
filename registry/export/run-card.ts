import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '../../common/files/durable.ts';
import { BASE_DIGEST_KEY, MAX_ADAPTER_HEADER_BYTES } from '../../lora/adapter/codec.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, MAX_CONFIG_BYTES } from '../../lora/adapter/peft.ts';
import type { FinetuneResult } from '../../lora/finetune/listener.ts';
import { readJsonObject } from '../../lora/models/json.ts';
import { readHeader } from '../../lora/models/weights/safetensors.ts';
import { loraSettings } from '../adapter-settings.ts';
import { finishedRun, nameOf, runFacts } from '../run-facts.ts';
import { CARD_FILE, modelCard } from './card.ts';

/** The run whose output folder gets a card. */
export interface RunCardOptions {
  /** Output folder of the run. */
  readonly output: string;
  readonly result: FinetuneResult;
  /** Name of the adapter. @default the name of the output folder */
  readonly name?: string | undefined;
  /** Whether an existing README.md is replaced. @default false */
  readonly force?: boolean | undefined;
}

/**
 * Writes the model card of a finished run into its output folder, if the folder has no README.md.
 * @throws SwarmError RUN_MISSING, ADAPTER_*, STORE_FULL, WRITE_FAILED
 */
export async function writeRunCard({
  output,
  result,
  name = nameOf(output),
  force = false,
}: RunCardOptions): Promise<void> {
  const path = join(output, CARD_FILE);
  if (!force && existsSync(path)) return;
  const state = await finishedRun(output);
  const facts = runFacts(state, result);
  const config = await readJsonObject(join(output, ADAPTER_CONFIG_FILE), MAX_CONFIG_BYTES);
  const { metadata } = await readHeader(join(output, ADAPTER_WEIGHTS_FILE), MAX_ADAPTER_HEADER_BYTES);
  const { base_model_name_or_path: baseName, revision } = config;
  const card = modelCard({
    ...facts,
    name,
    base: {
      name: typeof baseName === 'string' ? baseName : null,
      revision: typeof revision === 'string' ? revision : null,
      digest: metadata[BASE_DIGEST_KEY] ?? '',
      tokenizer: null,
    },
    parents: [],
    job: null,
    settings: { ...loraSettings(config), ...facts.settings },
    version: null,
  });
  await writeDurably(path, card);
}
