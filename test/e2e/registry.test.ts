/** The registry of adapters, as a user and several processes at once work with it. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPeftFolder } from '../../lora/adapter/peft.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { VersionManifest } from '../../protocol/version-manifest.ts';
import { makeTinyTraining } from '../utils/models/tiny-training.ts';
import { smallPeftFolder } from '../utils/registry/registry.ts';
import { Daemon } from './swarm.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'swarm-registry-'));
const at = (name: string): string => join(folder, name);
let model = '';

interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
  /** The last line of JSON. */
  last: Record<string, unknown> & { versions?: unknown[] };
}

/** Runs a command with a registry in the folder of this file. @param killAfter milliseconds until SIGKILL */
function swarm(args: readonly string[], { registry = 'registry', killAfter = 0 } = {}): Promise<Run> {
  const env = {
    ...process.env,
    SWARM_CACHE: at('cache'),
    SWARM_REGISTRY: at(registry),
    SWARM_ENGINE: 'onnx-cpu',
  };
  const child = spawn(process.execPath, [SWARM, ...args], { cwd: folder, env });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  if (killAfter > 0) setTimeout(() => child.kill('SIGKILL'), killAfter).unref();
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => {
      const line = stdout.split('\n').findLast((text) => text.startsWith('{'));
      resolve({ status, stdout, stderr, last: line === undefined ? {} : JSON.parse(line) });
    });
  });
}

/** Runs a command that must succeed. */
async function run(...args: string[]): Promise<Run> {
  const done = await swarm(args);
  expect(done.status, `${args.join(' ')}\n${done.stderr}`).toBe(0);
  return done;
}

beforeAll(async () => {
  model = await makeTinyTraining(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the registry', { timeout: 120_000 }, () => {
  it('gets the version of a resumed run as the run began: in its folder, with its name, or not at all', async () => {
    const train = ['train', '--model', model, '--data', 'texts', '--sequence-length', '32', '--steps', '2'];
    const resume = ['train', '--resume', '--json', '--output'];
    const far = ['--output', 'far', '--name', 'told', '--registry', 'elsewhere', '--tensorboard', 'curves'];
    await run(...train, ...far);
    await rm(at('curves'), { recursive: true });
    expect((await run(...resume, 'far', '--steps', '3')).last).toMatchObject({ version: 'told:v2' });
    expect(existsSync(at('curves/far'))).toBe(true);
    const told = await run('adapter', 'list', '--registry', 'elsewhere', '--json');
    expect(told.last.versions).toMatchObject([{ label: 'told:v1' }, { label: 'told:v2' }]);
    const hidden = ['--output', 'hidden', '--registry', 'elsewhere', '--no-publish'];
    await run(...train, ...hidden);
    expect((await run(...resume, 'hidden')).last).toMatchObject({ event: 'trained', version: null });
    expect((await run(...resume, 'hidden', '--name', 'shown')).last).toMatchObject({ version: 'shown:v1' });
  });

  it('keeps each run as a version that is tagged, compared, rolled back, exported and trained further', async () => {
    const train = [
      ...['train', '--model', model, '--data', 'texts', '--held-out', 'held-out.jsonl', '--json'],
      ...['--sequence-length', '32', '--batch-size', '2', '--learning-rate', '1e-2', '--steps', '4'],
    ];
    const first = (await run(...train, '--rank', '4', '--output', 'demo')).last;
    expect(first).toMatchObject({ event: 'trained', version: 'demo:v1' });
    const second = (await run(...train, '--from', 'demo:v1', '--name', 'demo', '--output', 'more')).last;
    expect(second).toMatchObject({ version: 'demo:v2', lossBefore: first.lossAfter });
    await run(...train, '--rank', '4', '--output', 'private', '--no-publish');
    expect((await run('adapter', 'list', '--json')).last.versions).toMatchObject([
      { label: 'demo:v1', tags: [], manifest: { metrics: { heldOutLoss: first.lossAfter } } },
      { label: 'demo:v2', tags: ['latest'], manifest: { parents: [{ label: 'demo:v1', method: 'train' }] } },
    ]);
    const other = await swarm([...train, '--from', 'demo:v1', '--rank', '8', '--output', 'x']);
    expect(other.last).toMatchObject({ error: { code: 'ADAPTER_START' } });

    await run('adapter', 'tag', 'demo:v1', 'best');
    await run('adapter', 'tag', 'demo:v2', 'best');
    expect((await run('adapter', 'rollback', 'demo:best', '--json')).last).toMatchObject({ from: 2, to: 1 });
    expect((await run('adapter', 'log', 'demo')).stdout).toMatch(/^demo:v2 .*\n└─ demo:v1 .*\(train\)/);
    expect((await run('adapter', 'diff', 'demo:best', 'demo')).stdout).toMatch(/model\.layers\.0 /);

    await run('adapter', 'export', 'demo:best', 'exported');
    const adapter = await readPeftFolder(at('exported'), await openBase(model));
    expect(adapter.lora.rank).toBe(4);
    await run('adapter', 'export', 'demo:best', 'merged', '--merged');
    await run('adapter', 'export', 'demo:best', 'gguf', '--merged', '--gguf', 'q8_0');
    for (const exported of ['demo', 'private', 'merged', 'gguf']) {
      const card = await readFile(at(`${exported}/README.md`), 'utf8');
      for (const part of ['## Results', '## Loss curve', '| 4 | ', '| lora.rank |', 'data: held-out']) {
        expect(card, exported).toContain(part);
      }
    }
    const evaluate = async (...args: string[]) =>
      (await run('evaluate', '--data', 'held-out.jsonl', '--json', ...args)).last.loss as number;
    const named = await evaluate('--model', model, '--adapter', 'demo:best');
    expect(await evaluate('--model', model, '--adapter', 'exported')).toBe(named);
    expect(await evaluate('--model', 'merged')).toBeCloseTo(named, 3);
    const refused = await swarm([
      'evaluate',
      '--data',
      'held-out.jsonl',
      '--model',
      'merged',
      '--adapter',
      'demo',
      '--json',
    ]);
    expect(refused.last).toMatchObject({ error: { code: 'ADAPTER_BASE' } });
  });

  it('gives a job its first adapter, and the job its lineage', async () => {
    const home = at('coordinator');
    const listen = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--json'];
    const daemon = new Daemon('coordinator', ['coordinator', '--home', home, ...listen]);
    await daemon.ready();
    const job = (start: string, lora: string): Promise<void> =>
      writeFile(
        at('job.yaml'),
        `name: further\nbase: ${JSON.stringify(model)}\nstart: ${start}\nlora: ${lora}\n` +
          'data: { train: [texts/a.txt], heldOut: [held-out.jsonl] }\n' +
          'training: { sequenceLength: 32, batchSize: 2, microBatch: 2 }\n',
      );
    const create = (...args: string[]) =>
      swarm(['job', 'create', 'job.yaml', '--home', home, '--json', ...args]);
    await job('demo:v1', '{ rank: 8 }');
    expect((await create('--dry-run')).last).toMatchObject({ error: { code: 'ADAPTER_START' } });
    await job('demo:v9', '{}');
    expect((await create('--dry-run')).last).toMatchObject({ error: { code: 'VERSION_UNKNOWN' } });
    await job('demo:v1', '{ dropout: 0.1 }');
    const created = await create();
    expect(created.status, created.stderr).toBe(0);
    const published = (await run('checkpoint', 'publish', 'further', '--home', home, '--json')).last;
    expect((await run('checkpoint', 'publish', 'further', '--home', home)).stdout).toContain(at('registry'));
    const start = (await run('adapter', 'show', 'demo:v1', '--json')).last;
    const files = ({ manifest }: Run['last']) =>
      (manifest as VersionManifest).files.map(({ path, digest }) => [path, digest]);
    expect(files(published)[1]).toEqual(files(start)[1]);
    expect(published).toMatchObject({
      label: 'further:v1',
      manifest: { parents: [{ digest: start.digest, method: 'job' }], job: { name: 'further', round: 0 } },
    });

    // A job can also start from a checkpoint of another job. The newest checkpoint of `further` is its initial adapter.
    await writeFile(at('job.yaml'), (await readFile(at('job.yaml'), 'utf8')).replace(/^start.*\n/m, ''));
    await writeFile(at('job.yaml'), (await readFile(at('job.yaml'), 'utf8')).replace('further', 'again'));
    expect((await create('--round', 'best')).last).toMatchObject({ error: { code: 'USAGE' } });
    const unknown = await create('--from', 'further', '--round', '7');
    expect(unknown.last).toMatchObject({ error: { code: 'CHECKPOINT_UNKNOWN' } });
    const again = await create('--from', 'further');
    expect(again.status, again.stderr).toBe(0);
    const initialOf = async (name: string) =>
      ((await run('job', 'show', name, '--home', home, '--json')).last.manifest as Manifest).adapter.initial;
    expect(await initialOf('again')).toEqual(await initialOf('further'));
    await job('demo:v1', '{}');
    expect((await create('--from', 'again')).last).toMatchObject({ error: { code: 'USAGE' } });
    await daemon.kill();
  });

  it('is safe when several processes add versions at once, and when one of them is killed', async () => {
    const folders = await Promise.all([1, 2, 3].map((value) => smallPeftFolder(value)));
    const registry = 'crowded';
    const add = (dir: string, killAfter = 0) =>
      swarm(['adapter', 'add', 'demo', dir, '--tag', 'newest', '--json'], { registry, killAfter });
    const added = await Promise.all(folders.map((dir) => add(dir)));
    expect(added.map(({ status }) => status)).toEqual([0, 0, 0]);
    expect(added.map(({ last }) => last.version).sort()).toEqual([1, 2, 3]);
    // The processes are killed at different moments while they add a version.
    const more = await Promise.all([4, 5, 6, 7].map((value) => smallPeftFolder(value)));
    await Promise.all(more.map((dir, i) => add(dir, 350 + 70 * i)));
    const again = await add(more[0]!);
    expect(again.status, again.stderr).toBe(0);
    const listed = await swarm(['adapter', 'list', 'demo', '--json'], { registry });
    const versions = listed.last.versions as { label: string; version: number }[];
    expect(versions.map(({ version }) => version)).toEqual(versions.map((_, i) => i + 1));
    for (const { label } of versions) {
      const shown = await swarm(['adapter', 'show', label, '--json'], { registry });
      expect(shown.status, shown.stderr).toBe(0);
    }
  });
});
