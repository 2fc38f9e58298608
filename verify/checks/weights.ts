import { stalenessWeight } from '../../lora/update/index.ts';
import type { ClaimedUpdate } from '../../protocol/evidence.ts';
import { OUTER_RATE_FRACTIONS } from '../../protocol/job/outer-rates.ts';
import type { Checkpoint, Figures } from '../../protocol/messages.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts } from '../job-facts.ts';
import { believableTokens } from '../merge/update-weights.ts';

/** Relative tolerance of a weight. A weight is rounded to float32 up to three times. */
const ROUNDING = 1e-6;

/**
 * Checks that no update has more weight than its tokens allow. The maximum weight is a number of tokens, multiplied by
 * the factor for late updates and by the belief in the author. This number is what the author claims, but at most what
 * `believableTokens` returns for the assigned steps. The limits for persons and newcomers can only lower a weight.
 */
export function checkWeights(
  { manifest }: JobFacts,
  checkpoint: Checkpoint,
  figures: Figures | null,
  findings: Findings,
): void {
  findings.done('weights');
  findings.skip(
    'weights',
    'the limits for persons and newcomers: no signed message says which nodes belong to one person',
  );
  for (const { peer, round, tokens, weight } of checkpoint.contributors) {
    const scored = figures?.updates.find((one) => one.peer === peer && one.round === round);
    const steps = scored?.steps ?? null;
    const belief = scored?.belief ?? 1;
    const counted = steps === null ? tokens : Math.min(tokens, believableTokens(steps, manifest));
    const most = counted * stalenessWeight(Math.max(0, checkpoint.round - round)) * belief;
    if (Number.isFinite(weight) && weight >= 0 && weight <= most * (1 + ROUNDING)) continue;
    const text = `the update of ${peer} has the weight ${weight}, but its tokens, lateness and belief allow only 0 to ${most}`;
    findings.problem('VERIFY_WEIGHT', text, { peer, weight, most });
  }
}

/** Checks the metrics of a checkpoint that follow from its contributors. */
export function checkMetrics(
  { manifest, record }: JobFacts,
  { contributors, metrics }: Checkpoint,
  updates: readonly (ClaimedUpdate | null)[],
  findings: Findings,
): void {
  findings.done('metrics');
  const off = (
    what: string,
    published: number | null,
    expected: number,
    code: 'VERIFY_METRICS' | 'VERIFY_SOURCE' = 'VERIFY_METRICS',
  ): void => {
    const text = `the published ${what} is ${published}, but the contributors give ${expected}`;
    findings.problem(code, text, { what, published, expected });
  };
  const tokens = contributors.reduce((sum, one) => sum + one.tokens, 0);
  if (metrics.tokens !== tokens) off('number of tokens', metrics.tokens, tokens);
  const { outerRate: rate } = manifest.rounds;
  const fractions = Object.values(OUTER_RATE_FRACTIONS);
  if (!fractions.some((part) => metrics.outerRate === rate * part))
    off('outer rate', metrics.outerRate, rate);
  const known = updates.flatMap((one) => (one === null ? [] : [one.update]));
  if (known.length < updates.length) {
    const reason = record.partial?.reasons.updates ?? 'the source lacks a signed update';
    findings.skip('metrics', `train loss and size of the updates: ${reason}`);
    return;
  }
  // A difference in the next two figures proves nothing. An author may have signed several updates with the
  // same payload and different claims, and the source chooses one.
  const bytes = known.reduce((sum, { payload }) => sum + payload.size, 0);
  if (metrics.updateBytes !== bytes) off('size of the updates', metrics.updateBytes, bytes, 'VERIFY_SOURCE');
  const loss = known.reduce((sum, { lossLast }) => sum + lossLast / known.length, 0);
  if (metrics.trainLoss !== loss) off('train loss', metrics.trainLoss, loss, 'VERIFY_SOURCE');
}
