/**
 * Takes the pictures of the web page in docs/images again: `npm run docs:pictures`. Runs a swarm on this machine for a few
 * minutes: a coordinator and three nodes, one of which is killed at the end. Linux x64 only.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HelperProcess } from '../cli/daemon/helper-process.ts';
import { prepareData } from '../cli/demo/data.ts';
import { demoJob } from '../cli/demo/job.ts';
import { connect, createJob, followEvents, type JobEvent } from '../index.ts';
import { type Browser, openBrowser, type Page } from '../test/interop/browser.ts';
import { runCommand } from './run-command.ts';

const ROOT = join(import.meta.dirname, '..');
const SCRIPT = join(ROOT, 'cli', 'swarm.js');
const IMAGES = join(ROOT, 'docs', 'images');
/** Folder of sharp, which only this script uses. */
const PACKAGES = join(import.meta.dirname, 'pictures');
const NODES = ['otter', 'heron', 'badger'];
const ROUNDS = 30;
/** Round after which the pictures are taken. The charts then have enough points. */
const SHOWN_ROUND = 10;
/** Maximum time for everything, in milliseconds. */
const LIMIT_MS = 1_200_000;

const signal = AbortSignal.timeout(LIMIT_MS);

interface View {
  /** File name without its ending. */
  name: string;
  address: string;
  width?: number;
  /** Height of the picture. @default the height of the whole page */
  height?: number;
  scheme?: 'light' | 'dark';
  /** Selectors that must match before the picture is taken, in this order. */
  shows: readonly string[];
}

/** Takes one picture, and reduces its colours to those of a palette, because its file is then a third as large. */
async function take(
  browser: Browser,
  { name, address, width = 1280, height, scheme = 'light', shows }: View,
): Promise<void> {
  const page: Page = await browser.newPage({ width, height: height ?? 400, colorScheme: scheme });
  await page.goto(address);
  for (const selector of shows) await page.waitForSelector(selector);
  const path = join(IMAGES, `${name}.png`);
  await page.screenshot({ path, fullPage: height === undefined });
  const sharp = createRequire(join(PACKAGES, 'package.json'))('sharp');
  await sharp(await readFile(path))
    .png({ palette: true, colours: 128, dither: 0, effort: 10 })
    .toFile(path);
  console.log(name);
}

/** Starts the swarm in `folder`, and takes all pictures. The caller stops the processes in `helpers`. */
async function run(browser: Browser, folder: string, helpers: HelperProcess[]): Promise<void> {
  const environment = { ...process.env, SWARM_REGISTRY: join(folder, 'registry') };
  const start = (name: string, args: readonly string[]): HelperProcess => {
    const common = ['--home', join(folder, name), '--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--json'];
    const helper = new HelperProcess(
      { name, arguments: [...args, ...common], logFile: join(folder, 'logs', `${name}.log`) },
      { self: { node: process.execPath, script: SCRIPT }, cwd: ROOT, environment },
    );
    helpers.push(helper);
    return helper;
  };
  /** Returns the address of the page of a daemon, which contains its token. */
  const pageOf = async (name: string): Promise<string> => {
    const args = [SCRIPT, 'open', '--print', '--home', join(folder, name)];
    return (await promisify(execFile)(process.execPath, args, { signal })).stdout.trim();
  };

  const coordinator = start('coordinator', ['coordinator', '--public-page', '127.0.0.1:0']);
  const { publicPage } = await coordinator.first('ready', { signal });
  const open = () => connect({ home: join(folder, 'coordinator') }, { signal });
  const data = await prepareData(join(folder, 'data'), { cwd: ROOT });
  const spec = demoJob({ base: join(ROOT, 'models', 'nano'), data, rounds: ROUNDS, nodes: NODES.length });
  const { job, invite } = await createJob(
    await open(),
    {
      ...spec,
      rounds: { ...spec.rounds, localSteps: 8 },
      admission: 'open',
      samples: {
        prompts: ['The captain stood at the rail and', 'In the morning the whale'],
        every: SHOWN_ROUND / 2,
        maxTokens: 40,
      },
    },
    { signal },
  );
  const [, , lost] = NODES.map((name) =>
    start(name, ['node', invite!, '--name', name, '--no-polite', '--engine', 'onnx-cpu', '--threads', '1']),
  );
  const until = async (matches: (event: JobEvent) => boolean): Promise<void> => {
    for await (const event of followEvents(open, job, { signal, now: Date.now })) if (matches(event)) return;
  };

  await until((event) => event.type === 'sampled' && event.round === SHOWN_ROUND);
  const page = await pageOf('coordinator');
  const overview = `${page}&/jobs/${spec.name}`;
  const training = 'li:has-text("training, step")';
  await take(browser, {
    name: 'page-job',
    address: overview,
    width: 1100,
    shows: ['figure:has-text("Mean size of an update") canvas', training],
  });
  await take(browser, {
    name: 'page-phone',
    address: overview,
    width: 360,
    height: 800,
    scheme: 'dark',
    shows: ['.chart canvas', training],
  });
  await take(browser, { name: 'page-samples', address: `${overview}/samples`, shows: ['.sample'] });
  await take(browser, {
    name: 'page-public',
    address: `${publicPage}/jobs/${spec.name}`,
    shows: ['h2:has-text("Contributors")'],
  });
  await take(browser, {
    name: 'page-node',
    address: await pageOf(NODES[0]!),
    width: 1100,
    scheme: 'dark',
    shows: ['h2:has-text("Newest updates")', ':text-matches("of [0-9]+ steps")'],
  });
  lost!.kill();
  await take(browser, {
    name: 'page-start',
    address: page,
    width: 1100,
    shows: [`.alerts li:has-text("${NODES[2]}")`],
  });
  await take(browser, {
    name: 'page-peers',
    address: `${overview}/peers`,
    shows: [`td:has-text("${NODES[2]}")`],
  });
}

if (!existsSync(join(PACKAGES, 'node_modules')))
  await runCommand('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], PACKAGES);
const browser = await openBrowser();
if ('missing' in browser) throw new Error(browser.missing);
const folder = await mkdtemp(join(tmpdir(), 'lora-swarm-pictures-'));
const helpers: HelperProcess[] = [];
try {
  await run(browser, folder, helpers);
} finally {
  await browser.close();
  await Promise.all(helpers.map((helper) => helper.stop()));
  await rm(folder, { recursive: true });
}
