import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MIN_EXACT_EFFECTS } from '../../../../verify/scores/belief.ts';
import { LOSS_COST, SCORING_SHARE } from '../../../../verify/scores/extra-work.ts';
import {
  type Candidate,
  EXACT_ROWS,
  MAX_OWN_ROWS,
  MIN_OWN_ROWS,
  planScoring,
  RANDOM_BATCHES,
  REFERENCES,
} from '../../../../verify/scores/score-plan.ts';

const ROWS = 10_000;
const seed = new Uint8Array(32).fill(1);

function candidates(count: number, rows: number, isDoubtful = (_: number): boolean => false): Candidate[] {
  return Array.from({ length: count }, (_, i) => ({
    key: `peer ${i}`,
    start: i * rows,
    end: (i + 1) * rows,
    isDoubtful: isDoubtful(i),
  }));
}

const sizes = (plan: ReturnType<typeof planScoring>) => plan.own.map(({ positions }) => positions.length);
const costOf = (plan: ReturnType<typeof planScoring>) =>
  total(sizes(plan)) +
  plan.random.flat().length +
  LOSS_COST * plan.exact.positions.length * (1 + plan.exact.most);
const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

test('rows that no node was assigned come from behind the assigned ones, each once', () => {
  const all = candidates(4, 160);
  const { random } = planScoring(all, { assignedEnd: 640, rows: ROWS, seed });
  expect(random).toHaveLength(RANDOM_BATCHES);
  const positions = random.flat();
  expect(new Set(positions).size).toBe(positions.length);
  expect(Math.min(...positions)).toBeGreaterThanOrEqual(640);
  expect(Math.max(...positions)).toBeLessThan(ROWS);
});

test("own rows lie in the author's interval, each once, and another seed chooses others", () => {
  const all = candidates(4, 160);
  const plan = planScoring(all, { assignedEnd: 640, rows: ROWS, seed });
  for (const { candidate, positions } of plan.own) {
    const { start, end } = all[candidate]!;
    expect(positions.every((position) => position >= start && position < end)).toBe(true);
    expect(new Set(positions).size).toBe(positions.length);
  }
  expect(planScoring(all, { assignedEnd: 640, rows: ROWS, seed })).toEqual(plan);
  const other = planScoring(all, { assignedEnd: 640, rows: ROWS, seed: new Uint8Array(32).fill(2) });
  expect(other.random).not.toEqual(plan.random);
});

test('scoring costs at most its share of the work, and most of this share is used', () => {
  const swarm = fc.record({
    count: fc.integer({ min: 1, max: 40 }),
    rows: fc.integer({ min: 200, max: 400 }),
    doubtful: fc.func(fc.boolean()),
  });
  fc.assert(
    fc.property(swarm, ({ count, rows, doubtful }) => {
      const all = candidates(count, rows, doubtful);
      const share =
        costOf(planScoring(all, { assignedEnd: count * rows, rows: 100_000, seed })) / (count * rows);
      expect(share).toBeLessThanOrEqual(SCORING_SHARE);
      expect(share).toBeGreaterThan(0.7 * SCORING_SHARE);
    }),
    { numRuns: 50 },
  );
});

test('the default intervals of two or more nodes are large enough for this', () => {
  for (const count of [1, 2, 3, 4, 6, 10, 100]) {
    for (const doubtful of [0, 1, 3, count]) {
      const all = candidates(count, 160, (i) => i < doubtful);
      const plan = planScoring(all, { assignedEnd: count * 160, rows: 100_000, seed });
      expect(costOf(plan) / (count * 160), `${count} nodes, ${doubtful} doubtful`).toBeLessThanOrEqual(
        SCORING_SHARE,
      );
    }
  }
});

test('doubtful authors come first and get four times as many of the rows beyond eight', () => {
  const plan = planScoring(
    candidates(10, 1000, (i) => i < 2),
    { assignedEnd: 10_000, rows: 100_000, seed },
  );
  expect(
    plan.own
      .slice(0, 2)
      .map(({ candidate }) => candidate)
      .sort(),
  ).toEqual([0, 1]);
  expect(sizes(plan).slice(0, 2)).toEqual([MAX_OWN_ROWS, MAX_OWN_ROWS]);
  expect(Math.min(...sizes(plan))).toBeGreaterThan(MIN_OWN_ROWS);
  const small = planScoring(candidates(3, 12), { assignedEnd: 36, rows: 96, seed });
  expect(sizes(small)).toEqual([8, 8, 8]);
  expect(sizes(planScoring(candidates(3, 4), { assignedEnd: 12, rows: 96, seed }))).toEqual([4, 4, 4]);
});

test('exact effects are measured for doubtful authors and some others, as far as the rows suffice', () => {
  const doubted = planScoring(
    candidates(10, 400, (i) => i < 2),
    { assignedEnd: 4000, rows: ROWS, seed },
  );
  const { exact } = doubted;
  expect(exact.positions).toHaveLength(EXACT_ROWS);
  expect(doubted.random.flat()).toEqual(expect.arrayContaining([...exact.positions]));
  expect(exact.candidates).toHaveLength(REFERENCES + 2);
  expect([...exact.candidates.slice(REFERENCES)].sort()).toEqual([0, 1]);
  expect(exact.most).toBe(REFERENCES + 2);
  // In the first round of a job, all authors are new. With four nodes, at most three exact effects are measured. With ten
  // nodes or more, all are measured.
  for (const [count, most] of [
    [4, MIN_EXACT_EFFECTS],
    [10, 10],
    [100, 100],
  ] as const) {
    const all = candidates(count, 160, () => true);
    const plan = planScoring(all, { assignedEnd: count * 160, rows: 100_000, seed });
    expect(plan.exact.candidates).toHaveLength(count);
    expect(plan.exact.most, `${count} nodes`).toBe(most);
  }
});

test('no exact effects are measured without doubtful authors, or if they would cost too much', () => {
  const none = { positions: [], candidates: [], most: 0 };
  const trusted = planScoring(candidates(10, 400), { assignedEnd: 4000, rows: ROWS, seed });
  expect(trusted.exact).toEqual(none);
  const small = planScoring(
    candidates(3, 12, () => true),
    { assignedEnd: 36, rows: 96, seed },
  );
  expect(small.exact).toEqual(none);
});

test('data with too few unassigned rows gives rows of all of it', () => {
  const { random } = planScoring(candidates(2, 50), { assignedEnd: 100, rows: 90, seed });
  expect(random.flat().length).toBeGreaterThan(0);
  expect(Math.max(...random.flat())).toBeLessThan(90);
});

test('a plan without candidates has no rows, also if all rows are assigned', () => {
  const plan = planScoring([], { assignedEnd: ROWS, rows: ROWS, seed });
  expect([plan.random.flat(), plan.own]).toEqual([[], []]);
});
