/** Names of the executors, apart from what they load: a command line only needs to know what they are called. */
export const ENGINE_NAMES = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Those that onnxruntime runs. */
export type OnnxEngineName = Exclude<EngineName, 'tfjs'>;

/** What a user may ask for: `auto` measures what is there (lora/train/choose.ts). */
export const ENGINE_CHOICES = ['auto', ...ENGINE_NAMES] as const;
export type EngineChoice = (typeof ENGINE_CHOICES)[number];

/** A device that trains. */
export interface Device {
  readonly engine: EngineName;
  /** Which one of several; onnx-cuda numbers them. @default 0 */
  readonly device?: number;
}

/** The first device and those that share its batches, in the order in which they were named. */
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

/** "onnx-cuda:1", "onnx-cpu". */
export function deviceName({ engine, device }: { engine: EngineChoice; device?: number }): string {
  return device === undefined ? engine : `${engine}:${device}`;
}

const list = (names: readonly string[]) =>
  new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(names);

/** "onnx-cpu, onnx-cuda, onnx-webgpu or tfjs": for messages. */
export const ENGINE_LIST = list(ENGINE_NAMES);
/** The same with `auto` before them: for help texts. */
export const ENGINE_CHOICE_LIST = list(ENGINE_CHOICES);
