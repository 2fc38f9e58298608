import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { topComment } from '../../../scripts/options.ts';
import { sourcesIn } from '../../utils/source/sources.ts';

const SCRIPTS = join(import.meta.dirname, '../../../scripts');

/** Runs a script. Returns its exit code and the lines of its output. */
async function run(script: string, ...args: string[]) {
  const call = promisify(execFile)(process.execPath, [join(SCRIPTS, script), ...args]);
  const { code = 0, stdout, stderr } = await call.catch((error) => error);
  const lines = (text: string): string[] => text.trimEnd().split('\n');
  return { code, stdout: lines(stdout), stderr: lines(stderr) };
}

it('a script prints the comment at its top with --help', async () => {
  const comment = topComment(readFileSync(join(SCRIPTS, 'bench.ts'), 'utf8'));
  expect(comment).toMatch(/^Runs .*\n\n {2}npm run bench /);
  expect(comment).not.toContain('*');
  expect(await run('bench.ts', 'swarm', '--help')).toEqual({
    code: 0,
    stdout: comment.split('\n'),
    stderr: [''],
  });
});

it.each([
  [['--speed'], '--speed'],
  [['--seeds'], '--seeds'],
  [['--seeds', '1.5'], '1.5'],
  [['--rounds=-1'], '-1'],
  [['swarms'], 'swarms'],
  [['belief', '--shape', 'round'], '"balanced", "dense"'],
  [['codec', '--shape', 'round'], 'codec'],
  [['--shape', 'balanced'], '--shape'],
])(
  'a script that is called with %j exits with 2 and one line that names the mistake',
  async (args, mistake) => {
    const { code, stdout, stderr } = await run('bench.ts', ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: [''] });
    expect(stderr).toEqual([expect.stringContaining(mistake)]);
  },
);

it('every script reads its options in this way', () => {
  const others = sourcesIn(['scripts']).filter(
    ({ path, text }) => /\bparseArgs\(/.test(text) && path !== 'scripts/options.ts',
  );
  expect(others.map(({ path }) => path)).toEqual([]);
});
