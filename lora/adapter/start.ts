import type { SwarmError } from '../../common/errors.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { type DescribeOptions, describeBase } from '../models/base/base-identity.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { adapterTemplate } from './adapter-template.ts';
import { baseWarning, checkBase } from './check-base.ts';
import { encodeAdapter } from './codec.ts';
import { adapterError } from './errors.ts';
import { adapterLayout } from './layout.ts';
import type { LoraConfig } from './lora-config.ts';
import { readPeftFolder } from './peft.ts';
import { adapterPlan } from './plan.ts';

/** The adapter that training starts from. Without a start adapter, training starts from a new adapter. */
export interface StartAdapter {
  /** PEFT folder of the adapter. */
  readonly folder: string;
  /** Digest of the base that the adapter was made for. @default the digest in the adapter's file, if it has one */
  readonly baseDigest?: string | null;
  /** Digest of the adapter's version in a registry. The lineage of the trained adapter names it. @default null */
  readonly version?: string | null;
}

/**
 * LoRA settings in which a run may differ from the adapter that it starts from. They change neither the shapes of the
 * tensors nor what a trained adapter computes.
 */
const FREE: ReadonlySet<string> = new Set(['dropout', 'freezeA', 'initLoraWeights']);

/**
 * Returns the settings that a run takes from the adapter to start from: its LoRA settings, without those that a run may
 * choose freely (`FREE`), and the path of its chat template if the adapter has one.
 * @throws the errors of `readPeftFolder`
 */
export async function startSettings(
  { folder }: StartAdapter,
  model: BaseModel,
): Promise<{ lora: Partial<LoraConfig>; data: { template?: string } }> {
  const { lora } = await readPeftFolder(folder, model);
  const template = await adapterTemplate(folder);
  return {
    lora: Object.fromEntries(Object.entries(lora).filter(([name]) => !FREE.has(name))),
    data: template === null ? {} : { template },
  };
}

/**
 * Reads the adapter to start from, and checks that it has the LoRA settings of the training run and belongs to its base.
 * @returns `tensors`: the adapter's values in layout order; `digest`: the digest of the file that this program would
 *   write for these values
 * @throws SwarmError ADAPTER_START (values: folder, differences) if its LoRA settings differ from `lora`; ADAPTER_BASE and the
 *   errors of `readPeftFolder`
 */
export async function readStart(
  { folder, baseDigest = null }: StartAdapter,
  model: BaseModel,
  lora: LoraConfig,
  options: DescribeOptions & { onWarning?: (warning: SwarmError) => void } = {},
): Promise<{ tensors: readonly Float32Array[]; digest: string }> {
  const read = await readPeftFolder(folder, model);
  const layout = adapterLayout(model, lora);
  const shapeOf = (settings: LoraConfig): string =>
    JSON.stringify([
      adapterLayout(model, settings),
      adapterPlan(model, settings).modules.map(({ name, scale }) => [name, scale]),
    ]);
  if (shapeOf(read.lora) !== shapeOf(lora)) {
    const differences = settingDifferences(read.lora, lora);
    const texts = differences.map(
      ({ setting, adapter, run }) => `${setting} is ${adapter} in the adapter and ${run} in the run`,
    );
    throw adapterError(
      'ADAPTER_START',
      `the run that starts from the adapter in ${folder} has other LoRA settings than the adapter: ${texts.join('; ')}`,
      { folder, differences },
    );
  }
  const adapter = { ...read, baseDigest: baseDigest ?? read.baseDigest };
  await checkBase(model, adapter, options);
  const base = await describeBase(model.dir, options);
  const warning = baseWarning(model, adapter);
  // A warning is a SwarmError too, but it is passed to `onWarning` and not thrown.
  if (warning !== null) options.onWarning?.(adapterError('ADAPTER_BASE', warning, { folder }));
  return { tensors: read.tensors, digest: sha256(encodeAdapter(layout, read.tensors, base.digest)) };
}

/** Maximum number of characters of a value in an error, because a list of targets can have hundreds of names. */
const VALUE_CHARACTERS = 80;

function settingDifferences(
  adapter: LoraConfig,
  run: LoraConfig,
): { setting: string; adapter: string; run: string }[] {
  const text = (value: unknown): string => {
    const all = JSON.stringify(value);
    return all.length > VALUE_CHARACTERS ? `${all.slice(0, VALUE_CHARACTERS)}…` : all;
  };
  return (Object.keys(run) as (keyof LoraConfig)[])
    .filter((setting) => !FREE.has(setting))
    .filter((setting) => JSON.stringify(adapter[setting]) !== JSON.stringify(run[setting]))
    .map((setting) => ({ setting, adapter: text(adapter[setting]), run: text(run[setting]) }));
}
