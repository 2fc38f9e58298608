import { expect, it } from 'vitest';
import { cloneStartText } from '../../../../cli/commands/job-changes.ts';
import type { JobDetail } from '../../../../index.ts';

const starting = (digest: string, roundsDone: number): JobDetail =>
  ({ name: 'tale', roundsDone, manifest: { adapter: { initial: { digest } } } }) as JobDetail;

it('says from which adapter a copy starts, and how to start from a checkpoint if the job has one', () => {
  const same = cloneStartText(starting('aa', 7), starting('aa', 0));
  expect(same).toMatch(/\binitial\b.* --from tale$/);
  const other = cloneStartText(starting('aa', 7), starting('bb', 0));
  expect(other).toMatch(/^(?!.*\binitial\b).*\bnew\b.* --from tale$/);
  expect(cloneStartText(starting('aa', 0), starting('aa', 0))).not.toContain('--from');
});
