import { beforeEach, describe, expect, it } from 'vitest';
import type { Context } from '../../../../cli/context.ts';
import { failureOf } from '../../../../cli/errors.ts';
import { createProgram } from '../../../../cli/program.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { COMMIT, type HubWorld, hubWorld, impatientClock, NAME } from '../../../utils/registry/hub-world.ts';

describe('a command that takes a model from the hub', () => {
  let world: HubWorld;
  let environment: Record<string, string>;
  beforeEach(async () => {
    world = await hubWorld();
    environment = {
      HF_ENDPOINT: world.hub.endpoint,
      HF_HUB_CACHE: world.cacheDir,
      SWARM_CACHE: await temporaryFolder(),
    };
  });

  const generate = ['generate', '--model', NAME, '--prompt', 'it was', '--max-tokens', '2', '--json'];
  const run = async (context: Context): Promise<void> => {
    await createProgram(context).parseAsync(generate, { from: 'user' });
  };

  it('fetches it with progress, and uses it', async () => {
    const { context, out, err } = fakeContext({ environment });
    // A terminal shows progress at once. Other output gets the progress of long work only.
    await run({ ...context, stderr: { ...context.stderr, isTTY: true } });
    expect(JSON.parse(out())).toMatchObject({ prompt: 'it was', tokens: 2 });
    expect(err()).toMatch(/config\.json {2}0 B of /);
  });

  it('uses the cached commit without a network, and names it', async () => {
    await world.fetch();
    await world.hub.stop();
    const { context, out, err } = fakeContext({ environment });
    await run(context);
    expect(out()).not.toBe('');
    expect(err()).toContain(COMMIT);
  });

  it.each([
    ['a wrong name', () => world.hub.models.clear(), 'HUB_NOT_FOUND', 4],
    ['a gated model', () => Object.assign(world.model, { gated: true, token: 'x' }), 'HUB_GATED', 5],
    ['no network', () => world.hub.stop(), 'HUB_UNREACHABLE', 7],
  ])('fails on %s with its own code', async (_, spoil, code, exit) => {
    await spoil();
    const { context } = fakeContext({ environment, clock: impatientClock });
    const error: unknown = await run(context).catch((caught: unknown) => caught);
    expect(failureOf(error)).toMatchObject({ code, exitCode: exit, next: expect.any(String) });
  });
});
