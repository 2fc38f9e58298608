import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { resumedLine } from '../../../cli/commands/node-control.ts';
import { createProgram } from '../../../cli/program.ts';
import type { Pause } from '../../../protocol/api/node.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';

const owners: Pause = { reason: 'paused', text: 'you have paused this node', until: null };
const busy: Pause = { reason: 'machine-busy', text: 'other programs use the processor', until: null };

it('warns in config about a limit on disk space that the home already exceeds', async () => {
  const home = await temporaryFolder();
  await writeFile(join(home, 'node.sqlite'), Buffer.alloc(2 * 1024 ** 2));
  const notes = async (...limits: string[]) => {
    const { context, out } = fakeContext({ cwd: home });
    const args = ['node', 'lora-swarm', 'node', 'config', '--home', home, ...limits];
    await createProgram(context).parseAsync(args);
    return out()
      .split('\n')
      .filter((line) => line.startsWith('note'));
  };
  expect(await notes()).toEqual([]);
  expect(await notes('max-disk=0.001')).toEqual([expect.stringMatching(/max-disk.*2\.1 MB.*1\.1 MB/)]);
  expect(await notes()).toHaveLength(1);
  const { context, out } = fakeContext({ cwd: home });
  const args = ['node', 'config', '--home', home, '--json'];
  await createProgram(context).parseAsync(args, { from: 'user' });
  expect(JSON.parse(out()).diskNote).toMatch(/2\.1 MB.*1\.1 MB/);
  expect(await notes('max-disk=0.01')).toEqual([]);
});

it('says whether resume has ended a pause of the owner, and why the node still waits', () => {
  const ended = resumedLine(owners, null);
  const none = resumedLine(null, null);
  expect(ended).not.toBe(none);
  expect(resumedLine(owners, busy)).toMatch(new RegExp(`^${ended}, .*: ${busy.text}$`));
  expect(resumedLine(busy, busy)).toMatch(new RegExp(`^${none}, .*: ${busy.text}$`));
  expect(resumedLine(busy, null)).toBe(none);
});
