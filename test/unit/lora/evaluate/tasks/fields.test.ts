import { expect, it } from 'vitest';
import { fromJson, isDeeperThan } from '../../../../../lora/evaluate/python/values.ts';
import type { TaskConfig } from '../../../../../lora/evaluate/tasks/config.ts';
import { Fields } from '../../../../../lora/evaluate/tasks/fields.ts';
import { withCode } from '../../../../utils/source/codes.ts';

it('a column that is nested too deeply to print is a problem of the document', () => {
  const config = { file: { path: 'task.yaml', entries: new Map() } } as unknown as TaskConfig;
  const fields = new Fields(config, new Set(['question']));
  const nested = (depth: number) => ({
    question: fromJson(JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`)),
  });
  expect(fields.plain('doc_to_text', nested(2), 'question')).toBe('[[]]');
  expect(() => fields.plain('doc_to_text', nested(1000), 'question')).toThrow(withCode('TASK_DOCUMENT'));
});

it('values that are nested too deeply are found without a deep stack', () => {
  const nested = (depth: number): unknown => {
    let value: unknown = 1;
    for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value, 2] : { a: value, b: null };
    return value;
  };
  expect(isDeeperThan(nested(256), 256)).toBe(false);
  expect(isDeeperThan(nested(257), 256)).toBe(true);
  expect(isDeeperThan(nested(100_000), 256)).toBe(true);
  expect(isDeeperThan('text', 0)).toBe(false);
});
