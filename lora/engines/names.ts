/** Names of the engines. This file loads no engine, because a command line needs only the names. */
export const ENGINE_NAMES = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** The engines that run on onnxruntime. */
export type OnnxEngineName = Exclude<EngineName, 'tfjs'>;

/** Engines that a user may ask for. `auto` measures the engines of the machine (lora/train/choose.ts). */
export const ENGINE_CHOICES = ['auto', ...ENGINE_NAMES] as const;
export type EngineChoice = (typeof ENGINE_CHOICES)[number];

/** A device that trains. */
export interface Device {
  readonly engine: EngineName;
  /** Index of the device; only onnx-cuda has several. @default 0 */
  readonly device?: number;
}

/** Lists the first device and the devices that share its batches, in the order in which the user named them. */
export function devicesOf<E extends EngineChoice>({
  engine,
  device,
  alongside = [],
}: {
  engine: E;
  device?: number;
  alongside?: readonly Device[];
}): { engine: E | EngineName; device?: number }[] {
  return [{ engine, device }, ...alongside];
}

/** Formats a device as the user writes it: "onnx-cuda:1", "onnx-cpu". */
export function deviceName({ engine, device }: { engine: EngineChoice; device?: number }): string {
  return device === undefined ? engine : `${engine}:${device}`;
}

const list = (names: readonly string[]) =>
  new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(names);

/** "onnx-cpu, onnx-cuda, onnx-webgpu or tfjs", for messages. */
export const ENGINE_LIST = list(ENGINE_NAMES);
/** The same list with `auto` first, for help texts. */
export const ENGINE_CHOICE_LIST = list(ENGINE_CHOICES);
