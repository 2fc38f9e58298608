import { expect, it } from 'vitest';
import { addProblems, LISTED_PROBLEMS, type Problem } from '../../../verify/findings.ts';

const problem = (code: Problem['code'], round: number): Problem => ({ code, round, message: '', values: {} });

it('keeps the oldest problems, and the first that disproves the coordinator', () => {
  const problems: Problem[] = [];
  for (let round = 0; round < 150; round++) addProblems(problems, [problem('VERIFY_BLOB', round)]);
  expect(problems).toHaveLength(LISTED_PROBLEMS);
  addProblems(problems, [problem('VERIFY_BLOB', 150), problem('VERIFY_MERGE', 150)]);
  addProblems(problems, [problem('VERIFY_CHAIN', 151)]);
  expect(problems).toHaveLength(LISTED_PROBLEMS);
  expect(problems.map(({ code, round }) => [code, round])).toEqual([
    ...Array.from({ length: LISTED_PROBLEMS - 1 }, (_, round) => ['VERIFY_BLOB', round]),
    ['VERIFY_MERGE', 150],
  ]);
});
