/** The settings of one run of the poison benchmark. */

export const BEHAVIOURS = ['plain', 'fast', 'burst', 'late-start', 'on-off'] as const;
export const SPLITS = ['even', 'own-book', 'two-books'] as const;

export interface PoisonRun {
  /** Name of an attack, or names with ` + ` between them, one for each attacker in turn; `none` without attackers. */
  readonly attack: string;
  readonly attackers: number;
  /**
   * - `plain`: attackers deliver when honest nodes do
   * - `fast`: they deliver at once, as if they were very fast
   * - `burst`: they hold back the updates of three rounds and deliver them together
   * - `late-start`: they are honest in the first GOOD_ROUNDS rounds
   * - `on-off`: they attack in every third round only
   */
  readonly behaviour: (typeof BEHAVIOURS)[number];
  /**
   * - `even`: all nodes train on rows drawn evenly from all data
   * - `own-book`: each node trains on its own part of the book
   * - `two-books`: each node trains on its own part of two books
   */
  readonly split: (typeof SPLITS)[number];
  readonly seed: number;
  /** Number of checkpoints after which the job ends. */
  readonly rounds: number;
  /** Number of honest nodes. */
  readonly honest: number;
  /** Number of optimiser steps of the fastest node in a round. */
  readonly steps: number;
  /** Whether the slowest honest node needs three times as long for a step as the fastest. */
  readonly unequal: boolean;
}

/** Number of rounds in which an attacker with a late start is honest. */
const GOOD_ROUNDS = 5;

/**
 * Returns the attack of one attacker. `attack` may list several attacks (`A + B`), which are assigned to the
 * attackers in turn.
 */
export function attackOf(attacker: number, attack: string): string {
  const attacks = attack.split(' + ');
  return attacks[attacker % attacks.length]!;
}

/** Returns whether the attackers attack in a round. */
export function attacksIn(round: number, behaviour: PoisonRun['behaviour']): boolean {
  if (behaviour === 'late-start') return round > GOOD_ROUNDS;
  return behaviour !== 'on-off' || round % 3 === 0;
}
