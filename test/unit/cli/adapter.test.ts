import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { BASE, smallPeftFolder } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';

/** Returns a function that runs `lora-swarm adapter` with a registry of its own. */
async function adapterCommand() {
  const environment = { SWARM_REGISTRY: join(await temporaryFolder(), 'registry') };
  return async (...args: string[]) => {
    const { context, out } = fakeContext({ environment });
    await createProgram(context).parseAsync(['adapter', ...args], { from: 'user' });
    return out();
  };
}

describe('lora-swarm adapter', () => {
  it('adds, lists, shows, tags, rolls back and removes versions', async () => {
    const run = await adapterCommand();
    const json = async (...args: string[]) => JSON.parse(await run(...args, '--json'));
    expect(await json('list')).toMatchObject({ versions: [] });
    expect(await run('list')).toContain('lora-swarm adapter add');
    const other = join(await temporaryFolder(), 'other');
    expect(await run('list', '--registry', other)).toContain(other);
    const [first, second] = [await smallPeftFolder(1), await smallPeftFolder(2)];
    expect(await run('add', 'demo', first, '--tag', 'prod')).toContain('demo:v1');
    expect(await json('add', 'demo', second)).toMatchObject({ created: true, label: 'demo:v2', version: 2 });
    expect(await json('add', 'demo', second)).toMatchObject({ created: false, label: 'demo:v2' });
    const list = await run('list');
    expect(list).toMatch(/demo:v1 +prod/);
    expect(list).toMatch(/demo:v2 +latest/);
    expect((await json('list', 'demo')).versions).toHaveLength(2);
    expect(await run('show', 'demo:prod')).toMatch(new RegExp(`demo:v1[^]*${BASE}[^]*lora.rank = 1`));
    expect(await json('show', 'demo')).toMatchObject({
      tags: ['latest'],
      manifest: { base: { digest: BASE } },
    });

    expect(await run('tag', 'demo:v2', 'prod', '--reason', 'better')).toContain('demo:prod  v1 -> v2');
    expect(await json('rollback', 'demo:prod')).toMatchObject({ kind: 'rollback', from: 2, to: 1 });
    const log = await run('tag', 'demo');
    expect(log).toMatch(/set +v1 +v2 +better/);
    expect(log).toMatch(/rollback +v2 +v1/);
    await expect(run('rollback', 'demo:v1')).rejects.toThrow(withCode('USAGE'));

    await expect(run('rm', 'demo:prod')).rejects.toThrow(withCode('VERSION_TAGGED'));
    expect(await run('rm', 'demo:v2')).toContain('demo:v2');
    expect((await json('list', 'demo', '--removed')).versions).toHaveLength(2);
    expect(await json('gc')).toMatchObject({ deleted: false, blobs: [] });
    expect(await run('gc'), 'says why the removed files are not listed').toContain('--grace');
    await expect(run('show', 'demo:v2')).rejects.toThrow(withCode('VERSION_REMOVED'));
    await expect(run('list', 'other')).rejects.toThrow(withCode('VERSION_UNKNOWN'));
  });

  it('keeps the chat template of a merge if all versions share it, and else says that it is gone', async () => {
    const environment = { SWARM_REGISTRY: join(await temporaryFolder(), 'registry') };
    const { context, out, err } = fakeContext({ environment });
    const run = (...args: string[]) =>
      createProgram(context).parseAsync(['adapter', ...args], { from: 'user' });
    for (const [value, template] of [
      [1, 'a'],
      [2, 'a'],
      [3, 'b'],
    ] as const) {
      const folder = await smallPeftFolder(value);
      await writeFile(join(folder, 'chat_template.jinja'), template);
      await run('add', 'demo', folder);
    }
    await run('merge', 'kept', 'demo:v1', 'demo:v2', '--json');
    expect(err()).toBe('');
    await run('merge', 'lost', 'demo:v1', 'demo:v3', '--json');
    expect(err()).toContain('lost:v1');
    const [kept, lost] = out()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line).manifest.files.map(({ path }: { path: string }) => path));
    expect(kept).toContain('chat_template.jinja');
    expect(lost).not.toContain('chat_template.jinja');
  });

  it('merges versions with weights, and shows where the result comes from', async () => {
    const run = await adapterCommand();
    for (const value of [1, 2]) await run('add', 'demo', await smallPeftFolder(value));
    const merged = JSON.parse(
      await run('merge', 'sum', 'demo:v1=2', 'demo:v2=-0.5', '--tag', 'good', '--json'),
    );
    expect(merged).toMatchObject({ label: 'sum:v1', tags: ['good', 'latest'] });
    expect(merged.manifest).toMatchObject({
      base: { digest: BASE },
      parents: [
        { label: 'demo:v1', method: 'cat', weight: 2 },
        { label: 'demo:v2', method: 'cat', weight: -0.5 },
      ],
      settings: { 'lora.rank': 2, 'lora.alpha': 2, 'merge.method': 'cat' },
    });
    // Both versions have the same A, and the B of the second is twice the B of the first. So 2 × first − 0.5 × second is
    // equal to the first.
    const diff = JSON.parse(await run('diff', 'demo:v1', 'sum', '--json'));
    expect(diff.modules[0]).toMatchObject({ rank: [1, 2], difference: expect.closeTo(0, 5) });
    const options = ['--method', 'ties', '--density', '0.5'];
    expect(await run('merge', 'agreed', 'demo:v1', 'demo:v2', ...options)).toMatch(/ties, rank 1: .*× 0\.5/);
    const log = await run('log', 'agreed');
    expect(log).toMatch(/agreed:v1[\s\S]*demo:v1[\s\S]*ties[\s\S]*demo:v2/);
    await expect(run('merge', 'x', 'demo:v1', 'sum', '--method', 'linear')).rejects.toThrow(
      withCode('COMBINE_RANKS'),
    );
    await expect(run('merge', 'x', 'demo:v1', '--density', '0.5')).rejects.toThrow(withCode('USAGE'));
    await run('add', 'other', await smallPeftFolder(1, 'abcd'.repeat(16)));
    await expect(run('merge', 'x', 'demo:v1', 'other')).rejects.toThrow(withCode('ADAPTER_BASE'));
  });
});
