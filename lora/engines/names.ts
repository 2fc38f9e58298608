/** Names of the executors, apart from what they load: a command line only needs to know what they are called. */
export const ENGINE_NAMES = ['onnx-cpu', 'onnx-webgpu', 'tfjs'] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Those that onnxruntime runs. */
export type OnnxEngineName = Exclude<EngineName, 'tfjs'>;

/** "onnx-cpu, onnx-webgpu or tfjs": for help texts. */
export const ENGINE_LIST = new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(ENGINE_NAMES);
