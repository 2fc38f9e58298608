import { expect, test } from 'vitest';
import { checkExchange } from '../../../../coordinator/jobs/job-base.ts';
import type { AdapterLayout } from '../../../../lora/adapter/layout.ts';

const saved = (rows: number): AdapterLayout => [
  { name: 'lm_head.weight', shape: [rows, 1024], group: 'saved' },
];

test('refuses an adapter whose updates would be too large to exchange', () => {
  checkExchange(saved(100_000));
  expect(() => checkExchange(saved(150_000))).toThrow(
    expect.objectContaining({
      code: 'LORA_TOO_LARGE',
      values: expect.objectContaining({ parameters: 153_600_000 }),
    }),
  );
});
