/** Peers of other implementations, as child processes that report JSON lines. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';

const run = promisify(execFile);

export interface Report {
  event: 'connected' | 'published' | 'heard' | 'disconnected' | 'done';
  peer?: string;
  sha256?: string;
}

/** A command that starts the peer, or the reason why it cannot run on this machine. */
export type Prepared = { command: string; args: readonly string[] } | { missing: string };

/** Time for installing or building a peer; the first build of go-libp2p takes about three minutes on two cores. */
const PREPARE_MS = 600_000;

/** @chainsafe/libp2p-gossipsub 14 on libp2p 2: its packages are installed on first use, in a folder of their own. */
export async function prepareGossipsub14(): Promise<Prepared> {
  const cwd = join(import.meta.dirname, 'gossipsub-14');
  const peer = { command: process.execPath, args: [join(cwd, 'peer.js')] };
  if (existsSync(join(cwd, 'node_modules', 'libp2p'))) return peer;
  const install = ['ci', '--ignore-scripts', '--no-audit', '--no-fund'];
  const shell = process.platform === 'win32';
  return run('npm', install, { cwd, timeout: PREPARE_MS, shell }).then(
    () => peer,
    (error: Error) => ({ missing: `its npm packages cannot be installed: ${lastLine(error)}` }),
  );
}

/** go-libp2p with go-libp2p-pubsub, built on first use where there is a Go toolchain that reaches its modules. */
export async function prepareGoLibp2p(): Promise<Prepared> {
  const folder = join(tmpdir(), 'lora-swarm-interop');
  await mkdir(folder, { recursive: true });
  const command = join(folder, process.platform === 'win32' ? 'go-peer.exe' : 'go-peer');
  const cwd = join(import.meta.dirname, 'go-libp2p');
  return run('go', ['build', '-mod=readonly', '-o', command, '.'], { cwd, timeout: PREPARE_MS }).then(
    () => ({ command, args: [] }),
    (error: NodeJS.ErrnoException) => ({
      missing:
        error.code === 'ENOENT' ? 'there is no Go toolchain' : `it cannot be built: ${lastLine(error)}`,
    }),
  );
}

function lastLine({ message }: Error): string {
  return message.trim().split('\n').at(-1)!.slice(0, 200);
}

/** A running peer; killed when the test ends. */
export class ForeignPeer {
  readonly reports: Report[] = [];
  readonly #child: ChildProcess;
  readonly #exited: Promise<never>;
  readonly #listeners = new Set<() => void>();
  #stderr = '';

  constructor(command: string, args: readonly string[]) {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-4000);
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.reports.push(JSON.parse(line) as Report);
      for (const listener of this.#listeners) listener();
    });
    this.#exited = new Promise((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        reject(new Error(`the peer ended (${signal ?? code}): ${this.#stderr}`)),
      );
    });
    this.#exited.catch(() => {
      // `first` throws this error to a test that waits for a report. After the test, the peer is expected to end.
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
  }

  /** Waits for the first report of this event. @throws when the process ends before */
  async first(event: Report['event']): Promise<Report> {
    const found = Promise.withResolvers<Report>();
    const look = (): void => {
      const report = this.reports.find((one) => one.event === event);
      if (report !== undefined) found.resolve(report);
    };
    this.#listeners.add(look);
    look();
    try {
      return await Promise.race([found.promise, this.#exited]);
    } finally {
      this.#listeners.delete(look);
    }
  }

  /** Digests of the messages that the peer published or heard, in order. */
  digests(event: 'published' | 'heard'): string[] {
    return this.reports.filter((report) => report.event === event).map(({ sha256 }) => sha256!);
  }

  /** Tells the peer to start publishing. */
  start(): void {
    this.#child.stdin!.write('start\n');
  }
}
