/** Compresses, decodes and merges updates. docs/update-format.md specifies the bytes. */

export {
  compressUpdate,
  decodeUpdate,
  encodeUpdate,
  toTensors,
  UPDATE_VERSION,
  updatePreset,
} from './codec.ts';
export { type Drift, drift } from './drift.ts';
export type { UpdateErrorCode } from './errors.ts';
export {
  applyDelta,
  DEFAULT_DECAY,
  ErrorFeedback,
  type ErrorFeedbackOptions,
  encodeDelta,
  outerStep,
  type PublishedDelta,
} from './feedback.ts';
export {
  type LayoutPlan,
  type LayoutTensor,
  PRESET_NAMES,
  PRESETS,
  type Preset,
  type PresetSettings,
  planLayout,
  type SparseUpdate,
  type TensorUpdate,
  type UpdateLayout,
  type UpdateLimits,
  updateLimits,
} from './format.ts';
export {
  type Contribution,
  capWeights,
  DEFAULT_DENOMINATOR_FLOOR,
  Merge,
  type MergeOptions,
  medianNormClip,
  stalenessWeight,
  updateNorms,
  WEIGHT_CAP_MEDIANS,
  weightedMedian,
} from './merge.ts';
