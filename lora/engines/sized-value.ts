import './telemetry.ts';
import { Tensor as OnnxTensor } from 'onnxruntime-node';

/**
 * A value with its shape. The value uses the memory of an array without copying it. Many runs can therefore
 * read the same value, and a run can write to it.
 */
export type SizedValue = OnnxTensor;

/** Wraps an array, or a part of one, as a value for a `DynamicExecutable`. */
export function sizedValue(data: Float32Array | BigInt64Array, shape: readonly number[]): SizedValue {
  return data instanceof Float32Array
    ? new OnnxTensor('float32', data, shape)
    : new OnnxTensor('int64', data, shape);
}
