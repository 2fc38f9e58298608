import { expect, it } from 'vitest';
import { leftOutText, withAdviceInUse } from '../../../../cli/daemon/node-home.ts';
import { commonError } from '../../../../common/common-errors.ts';

it('a home in use is reported with the commands that give its node a further job', () => {
  const locked = commonError('HOME_LOCKED', 'x', { home: '/srv/n', pid: 7 });
  const shown = withAdviceInUse(locked, ' --home /srv/n');
  expect(shown).toMatchObject({ code: 'HOME_LOCKED', values: { pid: 7 } });
  const { next } = shown as { next: string };
  for (const command of ['status', 'node drain', 'node -', 'node']) {
    expect(next).toContain(`npx lora-swarm ${command} --home /srv/n"`);
  }
  const other = commonError('STORE_FULL', 'x');
  expect(withAdviceInUse(other, '')).toBe(other);
});

it('jobs that the node leaves out are named, with the command that works for all', () => {
  const job = 'ab'.repeat(32);
  const known = { addresses: ['/ip4/1.2.3.4/tcp/1'], token: null, weight: 1 };
  const text = leftOutText(
    [
      { ...known, job, name: 'moby' },
      { ...known, job, name: null },
      { ...known, job: null, name: null },
    ],
    ' --home /srv/n',
  );
  expect(text).toMatch(
    /^moby, abababababab, \/ip4\/1\.2\.3\.4\/tcp\/1; .*"npx lora-swarm node --home \/srv\/n"/,
  );
});
