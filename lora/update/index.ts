/** Compresses, decodes and merges updates. docs/update-format.md specifies the bytes. */
export { medianNormClip, updateNorms } from './clip.ts';
export { compressUpdate, decodeUpdate, encodeUpdate, type SparseUpdate, toTensors } from './codec.ts';
export { type Drift, drift } from './drift.ts';
export type { UpdateErrorCode } from './errors.ts';
export { DEFAULT_DECAY, ErrorFeedback, type ErrorFeedbackOptions } from './feedback.ts';
export { UPDATE_VERSION, updatePreset } from './header.ts';
export { type LayoutPlan, type LayoutTensor, planLayout, type UpdateLayout } from './layout.ts';
export { type Contribution, DEFAULT_DENOMINATOR_FLOOR, Merge, type MergeOptions } from './merge.ts';
export { applyDelta, encodeDelta, outerStep, type PublishedDelta } from './outer.ts';
export {
  PRESET_NAMES,
  PRESETS,
  type Preset,
  type PresetSettings,
  type UpdateLimits,
  updateLimits,
} from './presets.ts';
export type { TensorUpdate } from './sparse.ts';
export { capWeights, stalenessWeight, WEIGHT_CAP_MEDIANS, weightedMedian } from './weights.ts';
