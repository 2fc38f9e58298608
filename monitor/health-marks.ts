import type { HealthLevel, HealthMark } from '../protocol/api/health.ts';
/** A rule that gives a level to a peer or job. */
export interface HealthRule<F> {
  readonly level: HealthLevel;
  /** Condition of the rule in words, for lists of the rules. */
  readonly rule: string;
  /** Advice for the operator. @default the level needs none */
  readonly next?: string;
  /** Returns the reason in words if the rule applies; null otherwise. */
  readonly applies: (facts: F) => string | null;
}

/** Returns the health by the first rule that applies. The last rule must always apply. */
export function markOf<F>(facts: F, rules: readonly HealthRule<F>[]): HealthMark {
  for (const { level, next = '', applies } of rules) {
    const reason = applies(facts);
    if (reason !== null) return { level, reason, next };
  }
  throw new Error('no rule of health applies, but the last rule must apply to everything');
}

/** Returns a rule with its condition as the reason. */
export function inWords<F>({ level, rule, next = '' }: HealthRule<F>): HealthMark {
  return { level, reason: rule, next };
}
