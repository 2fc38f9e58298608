import { expect, it } from 'vitest';
import { dataError } from '../../../../lora/data/errors.ts';

const JOB_KEYS = {
  '--bad-rows': 'data.badRowShare',
  '--column': 'data.columns',
  '--template': 'data.template',
  '--train-on': 'data.trainOn',
};

it.each(Object.entries(JOB_KEYS))('advice with %s names the key of a job file too', (option, key) => {
  const advice = Object.values(dataError.table).flatMap((entry) =>
    typeof entry === 'object' && entry.next?.includes(option) ? [entry.next] : [],
  );
  expect(advice.length).toBeGreaterThan(0);
  for (const text of advice) expect(text).toContain(key);
});
