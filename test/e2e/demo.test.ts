/** `lora-swarm demo` as a user runs it: its output, and that no process outlives it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { SWARM as SWARM_COMMAND } from '../../cli/command-name.ts';
import { wordsOf } from '../../scripts/doc-commands/page.ts';
import { shapeOf } from '../../scripts/doc-commands/shape.ts';
import { eventuallyHolds } from '../utils/eventually.ts';
import { temporaryFolder } from '../utils/folder.ts';

const execute = promisify(execFile);
const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
/** Milliseconds. The demo really trains, on cores that it shares with other tests. */
const PATIENCE_MS = 180_000;

interface Line {
  event: string;
  [key: string]: unknown;
}

interface Demo {
  process: ChildProcess;
  lines: Line[];
  stderr: () => string;
  exited: Promise<unknown[]>;
  /** Waits for the first line that `matches`. */
  line(matches: (line: Line) => boolean): Promise<Line>;
}

async function startDemo(args: readonly string[], environment: Record<string, string> = {}) {
  const cwd = await temporaryFolder();
  return { demo: startSwarm(['demo', '--json', ...args], { cwd, environment }), cwd };
}

/** Starts `lora-swarm` in a folder. It must print JSON. */
function startSwarm(
  args: readonly string[],
  { cwd, environment = {} }: { cwd: string; environment?: Record<string, string> },
): Demo {
  const child = spawn(process.execPath, [SWARM, ...args], {
    cwd,
    env: { ...environmentOf(cwd), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines: Line[] = [];
  const listeners = new Set<(line: Line) => void>();
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8');
  });
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    for (const listener of listeners) listener(line);
  });
  const exited = once(child, 'close');
  const line = (matches: (line: Line) => boolean): Promise<Line> =>
    new Promise((resolve, reject) => {
      listeners.add((each) => matches(each) && resolve(each));
      lines.filter(matches).forEach(resolve);
      void exited.then(() =>
        reject(new Error(`the demo ended before:\n${stderr}\n${JSON.stringify(lines.at(-1))}`)),
      );
    });
  return { process: child, lines, stderr: () => stderr, exited, line };
}

function environmentOf(cwd: string): NodeJS.ProcessEnv {
  return { ...process.env, SWARM_CACHE: join(cwd, 'cache') };
}

/** Only Linux has /proc. On other systems these tests see no processes, and check only the output. */
const PROC = existsSync('/proc/self/cmdline') ? '/proc' : null;

/** Returns the running processes with the folder in their arguments or environment: all processes of the demo. */
function processesOf(folder: string): string[] {
  if (PROC === null) return [];
  return readdirSync(PROC)
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        // Trainers have no arguments; their environment names the folder.
        const about = ['cmdline', 'environ']
          .map((file) => readFileSync(`/proc/${pid}/${file}`, 'latin1'))
          .join();
        return about.includes(folder) && Number(pid) !== process.pid;
      } catch {
        return false;
      }
    });
}

it('trains, reports each round, ends with the summary, and leaves an adapter and no process', {
  timeout: PATIENCE_MS,
}, async () => {
  const { demo, cwd } = await startDemo(['--nodes', '2', '--rounds', '2']);
  expect((await demo.exited)[0], demo.stderr()).toBe(0);
  const summary = demo.lines.at(-1)!;
  expect(Object.keys(summary)).toEqual([
    'event',
    'peers',
    'rounds',
    'baseLoss',
    'finalLoss',
    'bytesPerParameterPerRound',
    'wallSeconds',
    'adapter',
  ]);
  expect(summary).toMatchObject({ event: 'summary', peers: 2, rounds: 2 });
  expect(summary.finalLoss as number).toBeLessThan(summary.baseLoss as number);
  expect(summary.bytesPerParameterPerRound as number).toBeLessThan(0.6);
  const folder = summary.adapter as string;
  expect(folder.startsWith(join(cwd, '.swarm', 'demo-'))).toBe(true);
  for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
    expect(existsSync(join(folder, file)), file).toBe(true);
  }
  const jobEvents = demo.lines.filter((line) => line.event === 'job-event').map((line) => line.type);
  expect(jobEvents.filter((type) => type === 'peer-joined')).toHaveLength(2);
  expect(jobEvents).toContain('finished');
  expect(processesOf(cwd)).toEqual([]);
});

it('ends as README.md shows, and names commands that work', { timeout: 2 * PATIENCE_MS }, async () => {
  const cwd = await temporaryFolder();
  const options = { cwd, env: environmentOf(cwd) };
  const run = (args: readonly string[]) => execute(process.execPath, [SWARM, ...args], options);
  const { stdout } = await run(['demo', '--nodes', '2', '--rounds', '2']);
  // The demo divides a long command into lines that end with a backslash. Joins them again.
  const lines = stdout
    .trimEnd()
    .replaceAll(/ \\\n */g, ' ')
    .split('\n');
  const next = lines.indexOf('next');
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8').split('\n');
  const last = readme.findIndex((line) => line.startsWith('adapter '));
  expect(lines.slice(next - 3, next).map(shapeOf)).toEqual(readme.slice(last - 2, last + 1).map(shapeOf));

  const calls = lines.slice(next + 1).filter((line) => !line.startsWith('  # '));
  const [generate, evaluate, train, coordinator, open, ...others] = calls.map((line) =>
    wordsOf(line).slice(wordsOf(SWARM_COMMAND).length),
  );
  expect(others).toEqual([]);
  const text = (await run([...generate!, '--max-tokens', '4'])).stdout;
  expect(text.startsWith('Call me') && text.trim() !== 'Call me', text).toBe(true);
  const { loss } = JSON.parse((await run([...evaluate!, '--limit', '1', '--json'])).stdout);
  expect(loss).toBeLessThan(6);
  const dryRun = await run([...train!, '--dry-run', '--json']);
  const estimate = JSON.parse(dryRun.stdout.trimEnd().split('\n').at(-1)!);
  expect(estimate).toMatchObject({ event: 'estimate', fits: true });
  const daemon = startSwarm([...coordinator!, '--no-mdns', '--json'], { cwd });
  await daemon.line(({ event }) => event === 'ready');
  const address = (await run([...open!, '--print'])).stdout.trim();
  expect((await fetch(address)).headers.get('content-type')).toContain('text/html');
  daemon.process.kill('SIGINT');
  await daemon.exited;
});

it('leaves no process when it is interrupted in a round', {
  timeout: PATIENCE_MS,
}, async () => {
  const { demo, cwd } = await startDemo(['--nodes', '2']);
  await demo.line((line) => line.type === 'round-opened');
  if (PROC !== null) expect(processesOf(cwd).length).toBeGreaterThanOrEqual(4);
  demo.process.kill('SIGINT');
  expect((await demo.exited)[0]).toBe(130);
  await eventuallyHolds(async () => expect(await processesOf(cwd)).toEqual([]), { timeout: 10_000 });
});

it('leaves no process when it is killed in a round', {
  timeout: PATIENCE_MS,
}, async () => {
  const { demo, cwd } = await startDemo(['--nodes', '2']);
  await demo.line((line) => line.type === 'round-opened');
  demo.process.kill('SIGKILL');
  await demo.exited;
  await eventuallyHolds(async () => expect(await processesOf(cwd)).toEqual([]), { timeout: 15_000 });
});

it('shows the last lines of a process that does not start', { timeout: PATIENCE_MS }, async () => {
  const { demo, cwd } = await startDemo([], { SWARM_LOG_LEVEL: 'deafening' });
  expect((await demo.exited)[0]).toBe(1);
  const { error } = demo.lines.at(-1) as unknown as { error: { code: string; values: { lines: string[] } } };
  expect(error.code).toBe('HELPER_FAILED');
  expect(error.values.lines.join('\n')).toContain('LOG_LEVEL');
  expect(processesOf(cwd)).toEqual([]);
});
