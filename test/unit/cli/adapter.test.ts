import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { withCode } from '../../utils/codes.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { BASE, smallPeftFolder } from '../../utils/registry.ts';

/** Returns a function that runs `swarm adapter` with a registry of its own. */
async function adapterCommand() {
  const environment = { SWARM_REGISTRY: join(await temporaryFolder(), 'registry') };
  return async (...args: string[]) => {
    const { context, out } = fakeContext({ environment });
    await createProgram(context).parseAsync(['adapter', ...args], { from: 'user' });
    return out();
  };
}

describe('swarm adapter', () => {
  it('adds, lists, shows, tags, rolls back and removes versions', async () => {
    const run = await adapterCommand();
    const json = async (...args: string[]) => JSON.parse(await run(...args, '--json'));
    expect(await run('list')).toContain('the registry is empty');
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
    await expect(run('show', 'demo:v2')).rejects.toThrow(withCode('VERSION_REMOVED'));
    await expect(run('list', 'other')).rejects.toThrow(withCode('VERSION_UNKNOWN'));
  });
});
