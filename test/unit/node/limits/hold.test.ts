import { expect, it } from 'vitest';
import { commonError } from '../../../../common/common-errors.ts';
import { engineError } from '../../../../lora/engines/errors.ts';
import { netError } from '../../../../net/errors.ts';
import { nodeError } from '../../../../node/errors.ts';
import { holdOf } from '../../../../node/limits/hold.ts';
import { labelSchema } from '../../../../protocol/ids.ts';

it('tells what a person must change from what passes by itself', () => {
  const disk = nodeError('POLICY_DISK', 'too large', { needed: 2.5 * 1024 ** 3, allowed: 1024 ** 3 });
  expect(holdOf(disk)).toEqual({
    reason: 'disk',
    detail: expect.stringMatching(/\b2\.50 GiB\b.*\b1\.00 GiB$/),
  });
  const huge = nodeError('POLICY_MEMORY', '', { needed: Number.MAX_SAFE_INTEGER, allowed: 1 / 3 });
  expect(labelSchema.safeParse(holdOf(huge)!.detail).success).toBe(true);
  const refused = netError('RPC_REFUSED', 'the clock is wrong', { code: 'CLOCK_OFF' });
  expect(holdOf(refused)).toEqual({ reason: 'clock', detail: '' });
  for (const code of ['ENGINE_UNAVAILABLE', 'PRECISION'] as const)
    expect(holdOf(engineError(code, 'no engine'))).toEqual({ reason: 'engine', detail: '' });
  expect(holdOf(netError('RPC_REFUSED', 'full', { code: 'JOB_FULL' }))).toBeNull();
  expect(holdOf(netError('RPC_REFUSED', 'odd', { code: 'constructor' }))).toBeNull();
  expect(holdOf(commonError('DEADLINE_EXCEEDED', 'late'))).toBeNull();
  expect(holdOf(new Error('other'))).toBeNull();
});
