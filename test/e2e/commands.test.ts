/** The commands of operators, contributors and users of the adapter, on a running swarm. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { eventuallyHolds } from '../utils/eventually.ts';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';
import { Daemon, TestSwarm } from './swarm.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));

/** Runs a command to its end. `json` is the last JSON line of its output. */
async function command(cwd: string, ...args: string[]) {
  // Commands that download checkpoints keep a key in the user's data folder. XDG_DATA_HOME moves this folder into `cwd`.
  const env = { ...process.env, XDG_DATA_HOME: join(cwd, 'data') };
  const child = spawn(process.execPath, [SWARM, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8');
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('utf8');
  });
  const [status] = (await once(child, 'close')) as [number];
  const last = out.trimEnd().split('\n').at(-1) ?? '';
  return { status, out, err, json: last.startsWith('{') ? JSON.parse(last) : null };
}

it('commands take a job from its file to an adapter', { timeout: 240_000 }, async () => {
  const swarm = await TestSwarm.create();
  const { folder, home } = swarm;
  const run = (...args: string[]) => command(folder, ...args);
  const ask = (...args: string[]) => run(...args, '--home', home);
  expect((await ask('status')).status).toBe(3);

  const coordinator = await (await swarm.coordinator()).ready();
  await makeTinyModel(join(folder, 'base'));
  await writeFile(join(folder, 'text.jsonl'), `${JSON.stringify({ text: TINY_TEXT })}\n`.repeat(40));
  const job = {
    name: 'tale',
    base: './base',
    data: { train: './text.jsonl', heldOut: 0.2, template: 'plain' },
    lora: { rank: 4, alpha: 8 },
    training: { sequenceLength: 32, batchSize: 4, microBatch: 4 },
    rounds: { count: 2, localSteps: 10, minPeers: 1 },
    admission: 'invite',
  };
  // A JSON file is also a YAML file.
  await writeFile(join(folder, 'job.yaml'), JSON.stringify(job));
  await writeFile(join(folder, 'wrong.yaml'), JSON.stringify({ ...job, ruonds: 3 }));
  const wrong = await ask('job', 'create', 'wrong.yaml');
  expect(wrong.status).toBe(2);
  expect(wrong.err).toContain('ruonds');
  expect(
    (await ask('job', 'create', 'job.yaml', '--dry-run', '--json')).json.spec.training.learningRate,
  ).toBeGreaterThan(0);
  const created = await ask('job', 'create', 'job.yaml', '--json');
  expect(created.status, created.err).toBe(0);
  swarm.invite = created.json.invite;

  expect((await ask('job', 'list', '--json')).json.jobs).toMatchObject([{ name: 'tale', phase: 'waiting' }]);
  expect((await ask('job', 'pause', 'tale', '--json')).json.phase).toBe('paused');
  expect((await ask('job', 'wait', '--timeout', '0.5')).status).toBe(7);
  expect((await ask('job', 'resume', 'tale', '--json')).json.phase).toBe('waiting');
  expect((await ask('job', 'show', 'nothing')).status).toBe(4);
  expect((await ask('status', '--check')).status).toBe(0);

  const node = await swarm.node('otter', ['--witness', '--log-level', 'debug']).ready();
  const waited = await ask('job', 'wait', 'tale', '--timeout', '120');
  expect(waited.status, waited.err).toBe(0);
  expect(waited.out).toMatch(/otter .*joined[\s\S]*round +1 [\s\S]*round +2 [\s\S]*finished/);

  expect((await run('status', '--home', join(folder, 'otter'), '--json')).json).toMatchObject({
    role: 'node',
    name: 'otter',
  });
  expect((await ask('peers', '--json')).json.peers).toMatchObject([
    { name: 'otter', accepted: 2, refused: 0 },
  ]);
  const why = await ask('peers', '--why', 'otter', '--json');
  expect(why.json.receipts.map((receipt: { code: string }) => receipt.code)).toEqual([
    'accepted',
    'accepted',
  ]);
  const list = await ask('checkpoint', 'list', '--json');
  expect(list.json.checkpoints.map((checkpoint: { round: number }) => checkpoint.round)).toEqual([2, 1, 0]);
  const checked = await ask('doctor', '--swarm', '--json');
  expect(checked.json.daemons[0].addresses[0]).toMatchObject({ reach: 'this machine' });
  const ofNode = await run('doctor', '--swarm', '--home', join(folder, 'otter'), '--json');
  const [{ clocks }] = ofNode.json.daemons ?? ofNode.json.error.values.daemons;
  expect(clocks).toHaveLength(1);
  // Both daemons run on this machine, so they have the same clock.
  expect(Math.abs(clocks[0].offsetMs)).toBeLessThanOrEqual(clocks[0].roundTripMs / 2 + 2);
  expect((await ask('checkpoint', 'show', '--round', '7')).status).toBe(4);
  expect((await ask('job', 'rollback', 'tale', '--to', '7')).status).toBe(4);
  expect((await ask('job', 'rollback', 'tale', '--to', 'best')).status).toBe(6);

  const best = await ask('checkpoint', 'show', '--round', 'best', '--json');
  expect(best.json.isBest).toBe(true);
  expect((await ask('checkpoint', 'export', 'tale', 'exported')).status).toBe(0);
  expect((await ask('checkpoint', 'export', 'tale', 'exported')).status).toBe(6);
  const initial = await ask('checkpoint', 'export', 'tale', 'initial', '--round', '0');
  expect(initial.out).toContain('initial adapter');
  const pulled = await run('checkpoint', 'pull', swarm.invite, 'pulled', '--json');
  expect(pulled.status, pulled.err).toBe(0);
  expect(pulled.json).toMatchObject({ name: 'tale', round: 2 });
  for (const file of ['adapter_config.json', 'adapter_model.safetensors', 'chat_template.jinja']) {
    const [a, b] = await Promise.all(['exported', 'pulled'].map((dir) => readFile(join(folder, dir, file))));
    expect(a!.equals(b!), file).toBe(true);
  }
  const published = await run(
    ...['checkpoint', 'pull', swarm.invite, 'published', '--publish'],
    ...['--name', 'told', '--registry', 'pulled-versions', '--json'],
  );
  expect(published.status, published.err).toBe(0);
  expect(published.json).toMatchObject({ name: 'tale', round: 2, version: 'told:v1' });
  const told = await run('adapter', 'list', '--registry', 'pulled-versions', '--json');
  expect(told.json.versions).toMatchObject([{ label: 'told:v1', manifest: { job: { round: 2 } } }]);
  // A personal invite counts each machine only once, even if the machine downloads several times.
  const personal = await ask('invite', 'create', 'tale', '--json');
  await writeFile(join(folder, 'invite'), `${personal.json.text}\n`);
  for (const dir of ['first', 'second']) {
    const again = await run('checkpoint', 'pull', '--invite-file', 'invite', dir);
    expect(again.status, again.err).toBe(0);
  }
  await rm(join(folder, 'data', 'lora-swarm', 'reader'), { recursive: true });
  const other = await run('checkpoint', 'pull', '--invite-file', 'invite', 'third', '--json');
  expect(other.status).toBe(5);
  expect(other.json.error.values.code).toBe('INVITE_USED');
  const evaluated = await run(
    'evaluate',
    '--model',
    'base',
    '--adapter',
    'pulled',
    '--data',
    'text.jsonl',
    '--json',
  );
  expect(evaluated.json.loss, evaluated.err).toBeGreaterThan(0);

  // Anyone can verify the job: the operator, a stranger with a file, and a reader with an invite.
  expect((await ask('verify', '--json')).json).toMatchObject({ ok: true, recomputed: 2, problems: [] });
  const log = join(folder, 'otter', 'logs', 'node.log');
  await eventuallyHolds(async () => expect(await readFile(log, 'utf8')).toContain('witness-verified'), {
    timeout: 60_000,
  });
  expect(await readFile(log, 'utf8')).not.toMatch(/witness-(failed|found-problem)/);
  const bundled = await ask('job', 'bundle', 'tale', 'tale.bundle', '--json');
  expect(bundled.status, bundled.err).toBe(0);
  expect((await ask('job', 'bundle', 'tale', 'tale.bundle')).status).toBe(6);
  expect((await ask('job', 'report', 'tale', 'tale.html')).status).toBe(0);
  expect(await readFile(join(folder, 'tale.html'), 'utf8')).toContain('2 of 2 checkpoints');
  expect((await ask('job', 'report', 'tale', 'tale.html')).status).toBe(6);
  expect((await ask('job', 'report', 'tale', 'tale.html', '--force')).status).toBe(0);
  const verified = await run('verify', 'tale.bundle', '--data', 'job.yaml', '--scores');
  expect(verified.status, verified.err).toBe(0);
  expect(verified.out).toMatch(/^merges +2, \D*\b2\D*$/m);
  expect(verified.out).toMatch(/^losses +3\b\D*\b0(\.0+)?\d* %$/m);
  expect(verified.out).toMatch(/^scores +2 effects\D+2 gains\D+2 merges\b/m);
  const reader = await ask('invite', 'create', 'tale', '--role', 'observer', '--json');
  await writeFile(join(folder, 'observer'), `${reader.json.text}\n`);
  const remote = await run('verify', '--invite-file', 'observer', '--json');
  expect(remote.json, remote.err).toMatchObject({ ok: true, recomputed: 2, problems: [] });
  const content = await readFile(join(folder, 'tale.bundle'));
  content[content.length - 1]! ^= 1;
  await writeFile(join(folder, 'damaged.bundle'), content);
  const damaged = await run('verify', 'damaged.bundle', '--json');
  expect([damaged.status, damaged.out.trim().split('\n').length]).toEqual([1, 1]);
  expect(damaged.json).toMatchObject({ ok: false, problems: [{ code: 'VERIFY_BLOB' }] });

  // The coordinator serves a version of the registry to anyone who has the ticket.
  const kept = await ask('adapter', 'share', 'tale', '--keep', '--json');
  expect(kept.status, kept.err).toBe(0);
  const fetched = () => run('adapter', 'pull', kept.json.ticket, '--registry', 'elsewhere', '--json');
  await eventuallyHolds(async () => expect((await fetched()).status).toBe(0), { timeout: 30_000 });
  expect(
    (await run('adapter', 'list', 'tale', '--registry', 'elsewhere', '--json')).json.versions,
  ).toMatchObject([{ digest: kept.json.digest }]);
  expect((await run('adapter', 'share', '--json')).json.shares).toMatchObject([{ digest: kept.json.digest }]);
  expect((await ask('adapter', 'share', 'tale', '--keep', '--registry', 'elsewhere')).status).toBe(2);
  expect((await run('adapter', 'unshare', 'tale')).status).toBe(0);
  expect((await run('adapter', 'unshare', 'tale')).status).toBe(4);

  // A server follows the job, and then continues without the coordinator.
  const args = ['--model', join(folder, 'base'), '--follow', 'tale', '--home', home, '--port', '0', '--json'];
  const server = await new Daemon('server', ['serve', ...args, '--threads', '1']).ready();
  const { url } = await server.line('ready', ({ event }) => event === 'ready');
  const complete = async () => {
    const body = JSON.stringify({ model: 'tale', prompt: 'It was', max_tokens: 3 });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body });
    return (await response.json()) as { system_fingerprint: string; choices: { text: string }[] };
  };
  const newest = (await ask('checkpoint', 'show', '--json')).json;
  expect((await complete()).system_fingerprint).toBe(newest.digest);

  // A home can have only one daemon, of one role.
  expect((await ask('coordinator')).status).toBe(6);
  expect((await ask('node', swarm.invite)).status).toBe(6);
  expect((await node.interrupt()).code).toBe(0);
  expect((await coordinator.interrupt()).code).toBe(0);
  expect((await ask('peers')).status).toBe(3);
  expect((await complete()).choices).toHaveLength(1);
  expect((await server.interrupt()).code).toBe(0);
});
