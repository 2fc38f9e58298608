/** The packed package in an empty folder, as its users have it: the command, the library, its types and the examples. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it as test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MODULES = join(ROOT, 'node_modules');
/** Long enough for npm on a slow network, and for training on a busy machine. */
const PATIENCE_MS = 600_000;

let folder: string;
/** A project in which the package is installed. */
let app: string;
/** Reason why the package is not installed; null if it is installed. */
let missing: string | null = null;

interface Result {
  status: number | null;
  out: string;
  err: string;
}

/** Returns the environment with the Node.js of the checkout first in PATH. */
function withNode(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...environment, PATH: `${join(MODULES, '.bin')}${delimiter}${process.env.PATH}` };
}

/** Starts a program with a home folder of its own. npm itself keeps the home folder of the user, which has its cache. */
function program(command: string, ...args: string[]): { child: ChildProcess; end: Promise<Result> } {
  const {
    XDG_CACHE_HOME: _cache,
    XDG_DATA_HOME: _data,
    SWARM_HOME: _home,
    npm_command: _command,
    ...others
  } = process.env;
  const home = join(folder, 'home');
  return start(app, command, args, {
    npm_config_cache: join(homedir(), '.npm'),
    ...others,
    HOME: home,
    SWARM_CACHE: join(folder, 'cache'),
  });
}

function start(cwd: string, command: string, args: readonly string[], environment = process.env) {
  const child = spawn(command, args, {
    cwd,
    env: withNode(environment),
    stdio: ['ignore', 'pipe', 'pipe'],
    // npm and npx are .cmd files on Windows.
    shell: process.platform === 'win32',
  });
  const result: Result = { status: null, out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    result.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    result.err += text;
  });
  const end = once(child, 'close').then(
    ([status]): Result => ({ ...result, status: status as number | null }),
  );
  return { child, end };
}

/** Runs a program, expects exit code 0, and returns its output. */
async function output(command: string, ...args: string[]): Promise<string> {
  const { status, out, err } = await program(command, ...args).end;
  expect(status, `${command} ${args.join(' ')}\n${out}\n${err}`).toBe(0);
  return out;
}

function it(name: string, body: () => Promise<void>): void {
  test(name, { timeout: PATIENCE_MS }, async ({ skip }) => {
    if (missing !== null) skip(missing);
    await body();
  });
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'swarm-package-')));
  app = join(folder, 'app');
  await mkdir(join(folder, 'home'));
  await mkdir(app);
  const npm = (cwd: string, ...args: string[]): Promise<Result> => start(cwd, 'npm', args).end;
  const ping = await npm(app, 'ping', '--fetch-retries=0', '--fetch-timeout=20000');
  if (ping.status !== 0) {
    missing = `the npm registry cannot be reached: ${ping.err.trim().split('\n')[0]}`;
    // A release must not pass on a skipped test.
    if (process.env.SWARM_TEST_NETWORK === 'required') throw new Error(missing);
    return;
  }
  const packed = await npm(ROOT, 'pack', '--pack-destination', folder);
  expect(packed.status, packed.err).toBe(0);
  const [tarball] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'));
  await npm(app, 'init', '-y');
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund'];
  const installed = await npm(app, 'install', join(folder, tarball!), ...quiet);
  expect(installed.status, installed.err).toBe(0);
  // Node.js does not strip types from files inside node_modules, so the examples run outside of it.
  await cp(join(app, 'node_modules', 'lora-swarm', 'examples'), join(app, 'examples'), { recursive: true });
  // examples/README.md contains this command.
  expect((await npm(app, 'pkg', 'set', 'type=module')).status).toBe(0);
}, PATIENCE_MS);

afterAll(() => rm(folder, { recursive: true, force: true }));

it('npx lora-swarm demo trains a model', async () => {
  const lines = (await output('npx', 'lora-swarm', 'demo', '--json', '--nodes', '2', '--rounds', '1'))
    .trim()
    .split('\n');
  const summary = JSON.parse(lines.at(-1)!) as { event: string; baseLoss: number; finalLoss: number };
  expect(summary).toMatchObject({ event: 'summary', peers: 2, rounds: 1 });
  expect(summary.finalLoss).toBeLessThan(summary.baseLoss);
});

it('advice names the command as the user started it', async () => {
  const throughNpx = await program('npx', 'lora-swarm', 'status').end;
  expect(throughNpx.err).toContain('"npx lora-swarm ');
  const direct = await program(join(app, 'node_modules', '.bin', 'lora-swarm'), 'status').end;
  expect(direct.err).toContain('"lora-swarm ');
});

it('a coordinator of the package serves the web page with its modules', async () => {
  const home = join(folder, 'page');
  const options = ['--home', home, '--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--json'];
  // Do not use npx here, because it would not pass on the signal below.
  const script = join('node_modules', 'lora-swarm', 'cli', 'swarm.js');
  const coordinator = program('node', script, 'coordinator', ...options);
  const ready = new Promise<string>((resolve) => {
    let text = '';
    coordinator.child.stdout!.on('data', (piece: string) => {
      text += piece;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
  });
  const line = await Promise.race([ready, coordinator.end.then(({ err }) => Promise.reject(new Error(err)))]);
  const { api } = JSON.parse(line) as { api: string };
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const page = await (await fetch(api, { signal })).text();
  const [, main] = /<script type="module" src="([^"]+)"/.exec(page)!;
  for (const path of [main!, '/page/packages/preact.js']) {
    const module = await fetch(new URL(path, api), { signal });
    expect([module.status, module.headers.get('content-type')], path).toEqual([
      200,
      expect.stringContaining('text/javascript'),
    ]);
  }
  coordinator.child.kill();
  await coordinator.end;
});

it('importing the library starts, writes and changes nothing, and loads no native module', async () => {
  await writeFile(
    join(app, 'import.js'),
    `const state = () => JSON.stringify([process.env, process.getActiveResourcesInfo(), process.eventNames()]);
     const before = state();
     const library = await import('lora-swarm');
     await import('lora-swarm/protocol');
     await import('lora-swarm/update');
     console.log(JSON.stringify({ same: state() === before, names: Object.keys(library) }));`,
  );
  // With --permission, a process may only read the allowed files: it cannot write, start processes or threads, or load native modules.
  const found = JSON.parse(await output('node', '--permission', '--allow-fs-read=*', 'import.js'));
  expect(found).toMatchObject({ same: true, names: expect.arrayContaining(['finetune', 'startNode']) });
  expect(await readdir(join(folder, 'home'))).toEqual([]);
});

it('its types resolve, and the examples fit them', async () => {
  await writeFile(
    join(app, 'types.ts'),
    `import { finetune, isSwarmError, type FinetuneResult } from 'lora-swarm';
     import { verifyMessage } from 'lora-swarm/protocol';
     import { Merge, type SparseUpdate } from 'lora-swarm/update';
     const result: FinetuneResult = await finetune({ settings: { lora: { rank: 4 } }, output: 'x' });
     const loss: number | null = result.lossAfter;
     // @ts-expect-error the rank is a number
     await finetune({ settings: { lora: { rank: 'high' } }, output: 'x' });
     // @ts-expect-error there is no such option
     await finetune({ settings: {}, output: 'x', outputs: 'y' });
     export const used = [loss, isSwarmError, verifyMessage, Merge, null as SparseUpdate | null];`,
  );
  const compilerOptions = {
    module: 'nodenext',
    moduleResolution: 'nodenext',
    target: 'es2024',
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    typeRoots: [join(MODULES, '@types')],
    types: ['node'],
  };
  await writeFile(
    join(app, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, include: ['types.ts', 'examples'] }),
  );
  const { status, out } = await program('tsc', '-p', 'tsconfig.json').end;
  expect(out).toBe('');
  expect(status).toBe(0);
});

it('examples/fine-tune.ts trains an adapter and generates text', async () => {
  const out = await output('node', 'examples/fine-tune.ts', 'adapter');
  const [, before, after] = /^held-out loss\D+([\d.]+)\D+([\d.]+)/m.exec(out)!;
  expect(Number(after)).toBeLessThan(Number(before));
  expect(out).toMatch(/^step 40\b.*\b40\b/m);
  expect(out).toMatch(/^The whale.+$/m);
  expect(await readdir(join(app, 'adapter'))).toContain('adapter_model.safetensors');
});

it('examples/serve.ts serves the base and the adapter that the example before trained', async () => {
  const out = await output('node', 'examples/serve.ts', 'adapter');
  expect(out).toMatch(/ http:\/\/127\.0\.0\.1:\d+\/v1\n/);
  const [, base, mine] = /nano: (.+)\n[\s\S]*mine: (.+)\n/.exec(out)!;
  expect(mine).not.toBe(base);
});

it('examples of a swarm: run it, follow it, read its checkpoints', async () => {
  const swarm = program('node', 'examples/swarm-in-one-process.ts', 'swarm');
  const joined = new Promise<void>((resolve) => {
    swarm.child.stdout!.on('data', (text: string) => text.includes('joined') && resolve());
  });
  await Promise.race([joined, swarm.end]);
  const followed = await output('node', 'examples/follow-events.ts', 'swarm/coordinator', 'moby');
  const { status, out, err } = await swarm.end;
  expect(status, `${out}\n${err}`).toBe(0);
  expect(out).toMatch(/^otter [\s\S]*^finished\b/m);
  // On a busy machine, a round may end without a checkpoint. The job then makes another round.
  const [first, second] = [...out.matchAll(/^checkpoint (\d)\b.* [\d.]+$/gm)].map(([, round]) => round!);
  expect(followed).toMatch(/^moby .*\b\d\b.*\b2\b[\s\S]*\bpeer-joined\b.*\bheron[\s\S]*\bfinished\n$/);

  const read = await output('node', 'examples/read-checkpoints.ts', 'swarm/coordinator', 'moby');
  expect(read).toMatch(/^3 .*\b12D3KooW\w+\nround 0\b/m);
  expect([...read.matchAll(/^round (\d)\b/gm)].map(([, round]) => round)).toEqual(['0', first, second]);
  const unsigned = join(app, 'swarm/coordinator/checkpoints/moby', `000${second}`, 'checkpoint.cbor');
  await writeFile(unsigned, 'not a signed message');
  const refused = await program('node', 'examples/read-checkpoints.ts', 'swarm/coordinator', 'moby').end;
  expect(refused).toMatchObject({ status: 1, err: expect.stringContaining('MESSAGE_MALFORMED') });
});

it('examples that need arguments print their usage without them, and Node.js warns of nothing', async () => {
  for (const name of ['follow-events', 'read-checkpoints']) {
    const { status, err } = await program('node', `examples/${name}.ts`).end;
    expect({ status, err }).toEqual({ status: 2, err: `usage: node examples/${name}.ts HOME JOB\n` });
  }
});

it('examples/custom-merge-rule.ts trims what the standard rule clips', async () => {
  const out = await output('node', 'examples/custom-merge-rule.ts');
  const [clipped, trimmed] = [...out.matchAll(/cosine ([\d.]+)/g)].map(([, cosine]) => Number(cosine));
  expect(out).toMatch(/^node-3 /m);
  expect(trimmed!).toBeGreaterThan(clipped!);
});
