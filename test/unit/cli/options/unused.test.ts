import { expect, it } from 'vitest';
import { createProgram } from '../../../../cli/program.ts';
import { servedAdapters } from '../../../../cli/serve/served-adapters.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { withCode } from '../../../utils/source/codes.ts';

const ADDRESS = `/ip4/127.0.0.1/tcp/4040/p2p/12D3KooW${'a'.repeat(44)}`;

it.each([
  ['adapter share --keep', '--keep'],
  ['adapter share --listen /ip4/127.0.0.1/tcp/1', '--listen'],
  ['adapter share demo --home /h', '--home'],
  ['checkpoint pull moby out --name demo', '--name'],
  ['checkpoint pull moby out --registry /r', '--registry'],
  ['checkpoint pull moby out --job abcd', '--job'],
  ['checkpoint pull moby out --invite-file invite', '--invite-file'],
  [`checkpoint pull ${ADDRESS} out --home /h`, '--home'],
])('refuses an option that "%s" would ignore', async (command, option) => {
  const { context } = fakeContext();
  const run = createProgram(context).parseAsync(command.split(' '), { from: 'user' });
  await expect(run).rejects.toEqual(withCode('USAGE', { options: [option] }));
});

it('refuses the home of a coordinator when a followed job belongs to another one', async () => {
  const { context } = fakeContext();
  const opened = servedAdapters(
    context,
    { follow: ADDRESS, home: '/h' },
    {} as never,
    async () => ({}) as never,
  );
  await expect(opened).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining('--home') });
});
