import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { describeBase } from '../../../lora/models/base/base-identity.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { copyOf, temporaryFolder } from '../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../utils/models/tiny-model.ts';
import { COMMIT, hubWorld, NAME } from '../../utils/registry/hub-world.ts';

/** Returns functions that run commands in a temporary folder, with a hub. */
async function setUp() {
  const world = await hubWorld();
  const cwd = await temporaryFolder();
  const environment = {
    HF_ENDPOINT: world.hub.endpoint,
    HF_HUB_CACHE: world.cacheDir,
    SWARM_CACHE: await temporaryFolder(),
  };
  await writeFile(join(cwd, 'data.txt'), TINY_TEXT);
  const swarm = async (...args: string[]): Promise<{ out: string; err: string }> => {
    const { context, out, err } = fakeContext({ cwd, environment });
    await createProgram(context).parseAsync(args, { from: 'user' });
    return { out: out(), err: err() };
  };
  const train = (model: string) =>
    swarm(
      ...['train', '--model', model, '--data', 'data.txt', '--output', 'adapter', '--force', '--steps', '2'],
      ...['--sequence-length', '16', '--batch-size', '2', '--rank', '2'],
    );
  return { world, cwd, swarm, train };
}

const uses = [
  ['evaluate', ['evaluate', '--data', 'data.txt', '--adapter', 'adapter']],
  ['generate', ['generate', '--prompt', 'it', '--max-tokens', '1', '--adapter', 'adapter']],
  ['merge', ['checkpoint', 'export', 'adapter', 'merged', '--merge', '--force']],
] as const;

/** Returns whether a line reports progress: "130 tokens measured", or "wrote 38 kB of 113 kB". */
const isProgress = (line: string): boolean => /^(\d+ tokens|wrote \d+ kB)\b/.test(line);

describe('an adapter trained on a base from the hub', () => {
  it('records name, commit and digest of its base, and every command checks them', async () => {
    const { world, cwd, swarm, train } = await setUp();
    await train(NAME);
    const config = JSON.parse(await readFile(join(cwd, 'adapter/adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ base_model_name_or_path: NAME, revision: COMMIT });

    const own = await world.fetch();
    const copy = await copyOf(own);
    const other = await makeTinyModel(await temporaryFolder(), { seed: 2 });
    for (const [name, args] of uses) {
      // The content is compared, not the path, so there is no warning.
      const { err } = await swarm(...args, '--model', copy);
      expect(
        err.split('\n').filter((line) => line !== '' && !isProgress(line)),
        name,
      ).toEqual([]);
      await expect(swarm(...args, '--model', other), name).rejects.toMatchObject({
        code: 'ADAPTER_BASE',
        values: {
          expected: (await describeBase(own)).digest,
          found: (await describeBase(other)).digest,
        },
        next: expect.stringContaining(NAME),
      });
    }
  }, 120_000);

  it('is not resumed on another base', async () => {
    const { world, swarm, train } = await setUp();
    await train(NAME);
    const other = await makeTinyModel(await temporaryFolder(), { seed: 2 });
    const resumed = swarm('train', '--model', other, '--output', 'adapter', '--resume', '--steps', '3');
    await expect(resumed).rejects.toMatchObject({ code: 'RESUME_CONFLICT' });
    // The branch of the base on the hub now has a newer commit than the one with which the run started.
    world.model.commit = 'b'.repeat(40);
    world.model.files.set('generation_config.json', Buffer.from('{"eos_token_id": 1}'));
    const moved = swarm('train', '--model', NAME, '--output', 'adapter', '--resume');
    await expect(moved).rejects.toMatchObject({ code: 'RESUME_CONFLICT' });
    await expect(swarm('train', '--output', 'adapter', '--resume')).resolves.toBeDefined();
  }, 120_000);
});

it('an adapter that names another base without a digest is used, with a warning', async () => {
  const { cwd, swarm } = await setUp();
  const fixture = join(import.meta.dirname, '../../fixtures/llama-tiny-tied');
  const adapter = await copyOf(join(fixture, 'adapter'));
  const file = join(adapter, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...config, base_model_name_or_path: 'org/other', revision: null }));
  const args = ['checkpoint', 'export', adapter, join(cwd, 'out'), '--merge', '--force', '--model', fixture];
  const { err } = await swarm(...args);
  expect(err).toContain('org/other');
});

it('a job whose file names a base on the hub has the name of that base', async () => {
  const { cwd, swarm } = await setUp();
  const settings = 'training: { sequenceLength: 16 }\nlora: { rank: 2 }\n';
  await writeFile(
    join(cwd, 'job.yaml'),
    `name: x\nbase: ${NAME}\ndata: { train: data.txt, heldOut: [data.txt] }\n${settings}`,
  );
  const { out } = await swarm('job', 'create', 'job.yaml', '--dry-run', '--json');
  expect(JSON.parse(out)).toMatchObject({
    spec: { base: expect.stringContaining(`models--ada--tiny/snapshots/${COMMIT}`) },
    check: { base: { name: NAME } },
  });
});
