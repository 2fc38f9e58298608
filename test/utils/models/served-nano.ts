/** A process of `lora-swarm serve` with models/nano. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../../../common/package.ts';
import { initialAdapter } from '../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../lora/adapter/layout.ts';
import { loraConfig } from '../../../lora/adapter/lora-config.ts';
import { writePeftFolder } from '../../../lora/adapter/peft.ts';
import { openBase } from '../../../lora/models/base/base-model.ts';

const NANO = join(packageRoot(), 'models', 'nano');

export interface ServedNano {
  /** Root of the server's URLs, without /v1. */
  readonly url: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

/**
 * Starts `lora-swarm serve` on any free port. @param prepare gets an empty folder, which is deleted at the end, and
 * returns the further arguments
 */
export async function serveNano(
  prepare: (folder: string) => Promise<string[]>,
  environment: Record<string, string> = {},
): Promise<ServedNano> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-serve-'));
  const args = ['--model', NANO, '--port', '0', '--threads', '1', '--json', ...(await prepare(folder))];
  const child = spawn(process.execPath, [join(packageRoot(), 'cli', 'swarm.js'), 'serve', ...args], {
    env: { ...process.env, SWARM_API_KEY: '', SWARM_REGISTRY: join(folder, 'registry'), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString('utf8')).slice(-4_000);
  });
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await rm(folder, { recursive: true, force: true });
  };
  const lines = createInterface({ input: child.stdout });
  const url = await new Promise<string>((resolve, reject) => {
    lines.on('line', (text) => {
      const line = JSON.parse(text) as { event: string; url: string };
      if (line.event === 'ready') resolve(line.url);
    });
    child.once('exit', () => reject(new Error(`lora-swarm serve has ended:\n${errors}`)));
  });
  return { url, process: child, stop };
}

/** Writes a PEFT folder for models/nano whose values follow from `seed` and change what the model says. */
export async function nanoAdapter(dir: string, seed: number): Promise<string> {
  const model = await openBase(NANO);
  const lora = loraConfig({ rank: 4, alpha: 64 });
  const layout = adapterLayout(model, lora);
  const tensors = await initialAdapter(model, lora, seed);
  // B is zero at the start of training, and such an adapter changes nothing.
  const filled = tensors.map((values, i) =>
    layout[i]!.group === 'B' ? values.map((_, at) => 0.05 * Math.sin(seed + at)) : values,
  );
  await writePeftFolder(dir, { layout, tensors: filled, lora, baseModelName: 'nano' });
  return dir;
}
