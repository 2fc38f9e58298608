/** Names of the engines. This file loads none of the engines' libraries. */
export const ENGINE_NAMES = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'] as const;
/** Name of an engine. */
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Engines that onnxruntime runs. */
export type OnnxEngineName = Exclude<EngineName, 'tfjs'>;

/** A processor or GPU, with the engine that runs graphs on it. */
export interface Device {
  readonly engine: EngineName;
  /** Number of the device. Only onnx-cuda has more than one device, so only onnx-cuda numbers its devices. @default 0 */
  readonly device?: number;
}

/** Returns the name of a device, such as "onnx-cuda:1" or "onnx-cpu". */
export function deviceName({ engine, device }: Device): string {
  return device === undefined ? engine : `${engine}:${device}`;
}

/** Returns the names of devices as `--engine` accepts them, such as "onnx-cuda:0,onnx-cuda:1". */
export function deviceNames(devices: readonly Device[], separator = ','): string {
  return devices.map(deviceName).join(separator);
}

const list = (names: readonly string[]) =>
  new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(names);

/** The text "onnx-cpu, onnx-cuda, onnx-webgpu or tfjs", for messages. */
export const ENGINE_LIST = list(ENGINE_NAMES);
/** The text "auto, onnx-cpu, onnx-cuda, onnx-webgpu or tfjs", for help texts. */
export const ENGINE_CHOICE_LIST = list(['auto', ...ENGINE_NAMES]);
