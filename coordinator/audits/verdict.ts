/** Judges an audit. Decision 049 has the measurements behind the numbers. */
import type { Likeness } from '../../lora/update/closeness.ts';
import type { Preset } from '../round/plan.ts';

interface Lines {
  /** Smallest closeness that passes. */
  readonly least: number;
  /** Closeness from which the balance is not judged, because the update is as close as one can be. */
  readonly clear: number;
}

/**
 * Lines of the closeness, for each preset. The fewer values an update keeps, the larger these values are, and the closer
 * they are to the repetition. Honest nodes reached at least 0.89 with tiny, 0.82 with balanced, 0.88 with quality and
 * 0.42 with dense. Nodes that sent copies or trained on other labels reached at most 0.78, 0.69, 0.34 and 0.33.
 */
export const CLOSENESS_LINES: Readonly<Record<Preset, Lines>> = {
  tiny: { least: 0.8, clear: 0.95 },
  balanced: { least: 0.7, clear: 0.92 },
  quality: { least: 0.6, clear: 0.9 },
  dense: { least: 0.35, clear: 0.75 },
};
/**
 * Smallest balance that passes below a clear closeness. There, honest nodes had at least 0.93, and nodes that repeated
 * a quarter of their rows at most 0.12. Nodes that made half of their steps had 0.02 to 0.74.
 */
export const BALANCE_LINE = 0.5;
/**
 * Smallest number of steps of an update that is audited. With fewer steps, a half is too short to be recognised, and
 * honest nodes came below the line of the closeness.
 */
export const LEAST_STEPS = 6;

/**
 * Returns whether an update passes.
 * @param training `isFirst`: whether the author had sent no update before. Then its optimiser and the one of the
 *   repetition begin alike. The balance is not judged, because the warm-up of the learning rate would falsify it if
 *   earlier updates of the author were lost.
 */
export function passes(
  { closeness, balance }: Likeness,
  { preset, isFirst }: { preset: Preset; isFirst: boolean },
): boolean {
  const { least, clear } = CLOSENESS_LINES[preset];
  if (!(closeness >= least)) return false;
  return closeness >= clear || isFirst || balance >= BALANCE_LINE;
}

/** Newest result of each person whose updates were audited. */
export interface PersonResult {
  readonly person: string;
  readonly passed: boolean;
}

/**
 * Returns whether a failed audit may have consequences: more of the other audited persons have passed their newest audit
 * than have failed it. Otherwise the coordinator itself may be at fault, for example because its device computes
 * something else.
 */
export function isTrusted(person: string, newest: readonly PersonResult[]): boolean {
  const others = newest.filter((one) => one.person !== person);
  const passed = others.filter((one) => one.passed).length;
  return passed > others.length - passed;
}
