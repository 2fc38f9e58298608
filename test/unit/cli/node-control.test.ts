import { expect, it } from 'vitest';
import { resumedLine } from '../../../cli/commands/node-control.ts';
import type { Pause } from '../../../node/limits/pauses.ts';

const owners: Pause = { reason: 'paused', text: 'you have paused this node', until: null };
const busy: Pause = { reason: 'machine-busy', text: 'other programs use the processor', until: null };

it('says whether resume has ended a pause of the owner, and why the node still waits', () => {
  const ended = resumedLine(owners, null);
  const none = resumedLine(null, null);
  expect(ended).not.toBe(none);
  expect(resumedLine(owners, busy)).toMatch(new RegExp(`^${ended}, .*: ${busy.text}$`));
  expect(resumedLine(busy, busy)).toMatch(new RegExp(`^${none}, .*: ${busy.text}$`));
  expect(resumedLine(busy, null)).toBe(none);
});
