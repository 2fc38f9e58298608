import { expect, test } from 'vitest';
import { confirm } from '../../../cli/confirm.ts';
import type { Context } from '../../../cli/context.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { withCode } from '../../utils/source/codes.ts';

function typing(text: string): { context: Context; asked: () => string } {
  const { context, err } = fakeContext({
    stdin: {
      isTerminal: true,
      read: async function* () {
        yield* text;
      },
    },
  });
  return { context, asked: err };
}

test('asks on a terminal, and goes on only after a yes', async () => {
  for (const yes of ['y\n', ' Yes \nno\n']) {
    const { context, asked } = typing(yes);
    await confirm(context, 'Ban it?');
    expect(asked()).toBe('Ban it? [y/N] ');
  }
  for (const no of ['\n', 'n\n', 'yesterday\n', '']) {
    await expect(confirm(typing(no).context, 'Ban it?')).rejects.toEqual(withCode('NOT_CONFIRMED'));
  }
});

test('does not ask without a terminal', async () => {
  const { context, err } = fakeContext();
  await confirm(context, 'Ban it?');
  expect(err()).toBe('');
});
