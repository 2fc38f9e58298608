import { expect, test } from 'vitest';
import {
  type Candidate,
  EXACT_ROWS,
  LEAST_OWN_ROWS,
  MOST_OWN_ROWS,
  planScoring,
  RANDOM_BATCHES,
  REFERENCES,
} from '../../../../coordinator/merge/score-plan.ts';

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

test('all rows together are about a tenth of those that the nodes trained', () => {
  for (const [count, rows] of [
    [4, 160],
    [20, 160],
    [100, 400],
  ] as const) {
    const plan = planScoring(candidates(count, rows), { assignedEnd: count * rows, rows: 100_000, seed });
    const cost = (total(sizes(plan)) + total(plan.random.map(({ length }) => length))) / (count * rows);
    expect(cost).toBeGreaterThan(0.07);
    expect(cost).toBeLessThanOrEqual(0.1);
  }
});

test('doubtful authors come first and get four times as many rows, and all get at least eight', () => {
  const plan = planScoring(
    candidates(10, 400, (i) => i < 2),
    { assignedEnd: 4000, rows: ROWS, seed },
  );
  expect(
    plan.own
      .slice(0, 2)
      .map(({ candidate }) => candidate)
      .sort(),
  ).toEqual([0, 1]);
  expect(sizes(plan).slice(0, 2)).toEqual([MOST_OWN_ROWS, MOST_OWN_ROWS]);
  expect(Math.min(...sizes(plan))).toBeGreaterThan(LEAST_OWN_ROWS);
  const small = planScoring(candidates(3, 12), { assignedEnd: 36, rows: 96, seed });
  expect(sizes(small)).toEqual([8, 8, 8]);
  expect(sizes(planScoring(candidates(3, 4), { assignedEnd: 12, rows: 96, seed }))).toEqual([4, 4, 4]);
});

test('exact effects are measured for doubtful authors and some others, within the same cost', () => {
  const doubted = planScoring(
    candidates(10, 400, (i) => i < 2),
    { assignedEnd: 4000, rows: ROWS, seed },
  );
  const { exact } = doubted;
  expect(exact.positions).toHaveLength(EXACT_ROWS);
  expect(doubted.random.flat()).toEqual(expect.arrayContaining([...exact.positions]));
  expect(exact.candidates).toHaveLength(REFERENCES + 2);
  expect([...exact.candidates.slice(REFERENCES)].sort()).toEqual([0, 1]);
  for (const count of [4, 6, 20, 100]) {
    const all = candidates(count, 160, () => true);
    const plan = planScoring(all, { assignedEnd: count * 160, rows: 100_000, seed });
    expect(plan.exact.candidates).toHaveLength(count);
    const losses = (plan.exact.positions.length * (1 + count)) / 3;
    const gradients = total(sizes(plan)) + total(plan.random.map(({ length }) => length));
    expect((losses + gradients) / (count * 160)).toBeLessThanOrEqual(0.12);
  }
});

test('no exact effects are measured without doubtful authors, or if they would cost too much', () => {
  const none = { positions: [], candidates: [] };
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
