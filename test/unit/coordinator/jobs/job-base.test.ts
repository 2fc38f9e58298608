import { expect, test } from 'vitest';
import { checkExchange } from '../../../../coordinator/jobs/job-base.ts';
import type { AdapterLayout } from '../../../../lora/adapter/layout.ts';
import { withCode } from '../../../utils/source/codes.ts';

const saved = (rows: number): AdapterLayout => [
  { name: 'lm_head.weight', shape: [rows, 1024], group: 'saved' },
];

test('refuses an adapter whose updates would be too large to exchange', () => {
  checkExchange(saved(100_000));
  expect(() => checkExchange(saved(150_000))).toThrow(
    withCode('LORA_TOO_LARGE', { parameters: 153_600_000 }),
  );
});
