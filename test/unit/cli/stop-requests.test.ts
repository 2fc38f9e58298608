import { expect, it } from 'vitest';
import { StopRequests } from '../../../cli/stop-requests.ts';

function requests() {
  let now = 0;
  const stop = new StopRequests({ now: () => now });
  return (signal: Parameters<StopRequests['isNew']>[0], at: number) => {
    now = at;
    return stop.isNew(signal);
  };
}

it('counts a Ctrl-C that the terminal and npx deliver as one, and a second Ctrl-C as another', () => {
  const isNew = requests();
  expect([isNew('SIGINT', 0), isNew('SIGINT', 2), isNew('SIGINT', 499), isNew('SIGINT', 500)]).toEqual([
    true,
    false,
    false,
    true,
  ]);
});

it('counts a SIGTERM that several processes pass on as one', () => {
  const isNew = requests();
  expect([isNew('SIGTERM', 0), isNew('SIGTERM', 900), isNew('SIGTERM', 1_100)]).toEqual([true, false, true]);
});

it('counts a Ctrl-C after a SIGTERM, but no SIGHUP, as a new request', () => {
  const isNew = requests();
  expect([isNew('SIGTERM', 0), isNew('SIGHUP', 1), isNew('SIGINT', 2)]).toEqual([true, false, true]);
});
