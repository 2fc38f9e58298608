import { expect, it } from 'vitest';
import { lifetime, pauseLength } from '../../../../cli/options/common.ts';
import { limitOption, parseLimits } from '../../../../cli/options/limits.ts';
import { limitText, NODE_LIMITS } from '../../../../monitor/node-limits.ts';

it.each([
  ['max-upload=0.05', /at least 0\.1/],
  ['threads=0', /from 1 to 1024/],
  ['max-traffic=-1', /at least 0\b/],
  ['max-disk=0', /at least 0\.001/],
])('names the smallest value when it refuses %s', (text, next) => {
  expect(() => parseLimits([text])).toThrow(
    expect.objectContaining({ code: 'USAGE', next: expect.stringMatching(next) }),
  );
});

it.each(Object.entries(NODE_LIMITS))('accepts the default of %s as it is shown', (key, limit) => {
  const shown = limitText(limit, undefined).replace('default: ', '');
  expect(parseLimits([`${key}=${shown}`])).toEqual({ [limit.field]: null });
  expect(parseLimits([`${key}=default`])).toEqual({ [limit.field]: null });
});

it('accepts all hours as an option, which then overrides the hours of the home', () => {
  expect(limitOption('hours')('all')).toBe('all');
  expect(limitOption('hours')('00:00-24:00')).toBe('00:00-24:00');
});

it('suggests lengths of a pause for a pause, and those of an invite for an invite', () => {
  expect(pauseLength('30m')).toBe(1_800_000);
  expect(() => pauseLength('20s')).toThrow(
    expect.objectContaining({ message: expect.not.stringContaining('never') }),
  );
  expect(() => lifetime('20s')).toThrow(/never/);
});
