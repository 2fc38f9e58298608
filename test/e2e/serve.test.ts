/** A server with an adapter of the registry whose tag moves while a request runs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { packageRoot } from '../../common/package.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { nanoAdapter, serveNano } from '../utils/models/served-nano.ts';

/** Runs a command that must succeed, and returns the JSON that it prints. Only `lora-swarm chat` reads the input. */
async function swarm(environment: Record<string, string>, ...args: string[]) {
  const child = spawn(process.execPath, [join(packageRoot(), 'cli', 'swarm.js'), ...args, '--json'], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end('Who are you?\n');
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8');
  });
  expect(await once(child, 'close')).toEqual([0, null]);
  return JSON.parse(out.trimEnd().split('\n').at(-1)!);
}

it('lora-swarm serve follows a tag that moves, and lets running requests end', async () => {
  const folder = await temporaryFolder();
  const environment = { SWARM_REGISTRY: join(folder, 'registry') };
  const add = async (seed: number): Promise<string> => {
    const dir = await nanoAdapter(join(folder, `adapter-${seed}`), seed);
    const nano = join(packageRoot(), 'models', 'nano');
    return (await swarm(environment, 'adapter', 'add', 'tale', dir, '--model', nano)).digest;
  };
  const first = await add(1);
  const served = await serveNano(async () => ['--adapter', 'tale', '--template', 'plain'], environment);
  onTestFinished(() => served.stop());
  const complete = (options: object): Promise<Response> =>
    fetch(`${served.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tale', prompt: 'The sea', temperature: 0, max_tokens: 8, ...options }),
    });
  const textOf = async (options: object = {}) => {
    const answer = (await (await complete(options)).json()) as {
      choices: { text: string }[];
      system_fingerprint: string;
    };
    return { text: answer.choices[0]!.text, version: answer.system_fingerprint };
  };
  const before = await textOf();
  expect(before.version).toBe(first);

  const running = await complete({ stream: true, max_tokens: 400, ignore_eos: true });
  const second = await add(2);
  const after = await textOf();
  expect(after.version).toBe(second);
  expect(after.text).not.toBe(before.text);
  expect(await textOf({ model: 'tale:v1' })).toEqual(before);
  const events = (await running.text()).trim().split('\n\n');
  expect(events.at(-1)).toBe('data: [DONE]');
  const chunks = events.slice(0, -1).map((line) => JSON.parse(line.replace('data: ', '')));
  expect(new Set(chunks.map((chunk) => chunk.system_fingerprint))).toEqual(new Set([first]));
  expect(chunks.at(-1).choices[0].finish_reason).toBe('length');

  const said = await swarm(environment, 'chat', '--url', served.url, '--max-tokens', '8');
  expect(said).toMatchObject({ event: 'answer', message: 'Who are you?' });
  expect(said.answer).not.toBe('');

  const last = complete({ stream: true, max_tokens: 300, ignore_eos: true });
  await (await last).body!.getReader().read();
  served.process.kill('SIGTERM');
  expect(await once(served.process, 'exit')).toEqual([0, null]);
});
