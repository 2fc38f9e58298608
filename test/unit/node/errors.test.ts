import { expect, test } from 'vitest';
import { commonError } from '../../../common/common-errors.ts';
import { reasonOf } from '../../../node/errors.ts';

test('does not ask to run a command again when the disk of a running node is full', () => {
  const full = commonError('STORE_FULL', 'no space left to write /h/node.sqlite');
  expect(reasonOf(full)).toMatch(/^no space left to write \/h\/node\.sqlite; .*\bcontinues by itself$/);
  expect(reasonOf(full)).not.toContain(full.next);
});
