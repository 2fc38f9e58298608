/** All methods of combining adapters. */
export const COMBINE_METHODS = [
  'cat',
  'svd',
  'linear',
  'magnitude_prune',
  'ties',
  'dare_linear',
  'dare_ties',
] as const;
/**
 * A method of combining adapters, with its name in PEFT. `cat` gives exactly Σ wᵢ ΔWᵢ. `svd` gives the best
 * approximation of this sum with a smaller rank. The other methods combine A and B separately, so their result also
 * contains products Bᵢ Aⱼ of different adapters.
 */
export type CombineMethod = (typeof COMBINE_METHODS)[number];

/** Methods that keep only a share of the values. The share is the option `density`. */
export const SPARSE_METHODS: readonly CombineMethod[] = [
  'magnitude_prune',
  'ties',
  'dare_linear',
  'dare_ties',
];
