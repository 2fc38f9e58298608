/**
 * Tests of the code that depends on the operating system (test/utils/source/system-features.ts lists it). Stubs replace the system
 * calls, so that Linux runs the code for all systems. docs/systems.md says what has been run on the real systems.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { processContext } from '../../../cli/context.ts';
import { HelperProcess } from '../../../cli/daemon/helper-process.ts';
import { openerOf } from '../../../cli/daemon/open-file.ts';
import { isAlive, renameWithRetry, syncFolder, writeDurably } from '../../../common/files/durable.ts';
import { freeBytesOf, linkOrCopy, restrictToOwner } from '../../../common/files/file-system.ts';
import { ChildCalls } from '../../../common/workers/child-process.ts';
import { describeMachine } from '../../../lora/doctor/machine.ts';
import { GRAPH_PROCESS_ENVIRONMENT } from '../../../lora/engines/allocator.ts';
import { removeOutdated } from '../../../lora/models/base/base-cleanup.ts';
import { layOutBase } from '../../../lora/models/base/base-folder.ts';
import { baseDigest } from '../../../lora/models/base/base-identity.ts';
import { HubCache } from '../../../lora/models/hub/cache.ts';
import { fallbackFor } from '../../../lora/train/devices/fallback.ts';
import { hasSoftwareDriver } from '../../../lora/train/devices/software-driver.ts';
import { trainError } from '../../../lora/train/errors.ts';
import { availableMemory } from '../../../lora/train/memory/available-memory.ts';
import { parseVmStat } from '../../../lora/train/memory/mac-memory.ts';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { LogFile } from '../../../monitor/logs/log-file.ts';
import { loadIdentity } from '../../../net/identity.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { digestSchema, nameSchema } from '../../../protocol/ids.ts';
import { loadToken } from '../../../storage/api-token.ts';
import { Database } from '../../../storage/database.ts';
import { makeHomePrivate } from '../../../storage/private-home.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { expectMode, pretendPlatform } from '../../utils/source/platform.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';
import { SYSTEM_FEATURES, tableOffences } from '../../utils/source/system-features.ts';

/**
 * `refusals`: error codes of the next calls of each function, one code per call. `pauses`: the pauses that the code asked
 * for, in ms. No pause takes any time in these tests.
 */
const stubs = vi.hoisted(() => ({
  refusals: new Map<string, string[]>(),
  pauses: [] as number[],
  processors: true,
}));

const refusing = vi.hoisted(() => {
  const errnoOf = (code: string, syscall: string): Error =>
    Object.assign(new Error(`${code}: ${syscall}`), { code, syscall });
  return {
    errnoOf,
    wrap<T extends object>(real: T, names: readonly string[]): T {
      const wrapped = names.map((name) => {
        const call = (...args: unknown[]): unknown => {
          const code = stubs.refusals.get(name)?.shift();
          if (code === undefined)
            return (real as Record<string, (...a: unknown[]) => unknown>)[name]!(...args);
          if (name.endsWith('Sync')) throw errnoOf(code, name);
          return Promise.reject(errnoOf(code, name));
        };
        return [name, call];
      });
      return { ...real, ...Object.fromEntries(wrapped) } as T;
    },
  };
});

vi.mock(import('node:fs/promises'), async (original) => {
  const real = await original();
  const names = ['link', 'symlink', 'rename', 'chmod', 'statfs', 'readFile', 'rm', 'open'];
  return refusing.wrap(real, names);
});
vi.mock(import('node:fs'), async (original) =>
  refusing.wrap(await original(), ['openSync', 'renameSync', 'readFileSync']),
);
vi.mock(import('node:timers/promises'), async (original) => {
  const setTimeout = async (ms?: number): Promise<undefined> => void stubs.pauses.push(ms ?? 0);
  return { ...(await original()), setTimeout: setTimeout as never };
});
vi.mock(import('node:os'), async (original) => {
  const real = await original();
  return { ...real, cpus: () => (stubs.processors ? real.cpus() : []) };
});

/** Makes the next calls of a function fail with these codes, until the test ends. */
function refuse(name: string, ...codes: string[]): void {
  stubs.refusals.set(name, codes);
  onTestFinished(() => void stubs.refusals.delete(name));
}

const modulePath = (name: string): string => join(import.meta.dirname, '../../..', name);
const moduleUrl = (name: string): string => JSON.stringify(pathToFileURL(modulePath(name)).href);
const runModule = (source: string, env: NodeJS.ProcessEnv = process.env) =>
  spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8', env });

describe('code that depends on the system', () => {
  it('is in the table, with its guard', () => {
    // The page runs in browsers. There, paths are paths of URLs, and the user's language decides how dates look.
    const sources = sourcesIn(SHIPPED, ['.ts', '.js']).filter(({ path }) => !path.startsWith('monitor/web/'));
    expect(sources.length).toBeGreaterThan(300);
    expect(tableOffences(sources)).toEqual([]);
  });

  it('is reported with file and advice if the table and the sources differ', () => {
    const source = (text: string) => [{ path: 'net/new.ts', text }];
    const { links } = SYSTEM_FEATURES;
    const table = (files: Record<string, string>) => ({ links: { ...links!, files } });
    expect(tableOffences(source('await link(from, to);'), table({}))).toEqual([
      expect.stringMatching(/net\/new\.ts.*"links".*system-features\.ts/),
    ]);
    expect(tableOffences(source('// link(from, to)'), table({ 'net/new.ts': 'x' }))).toEqual([
      expect.stringMatching(/net\/new\.ts.*"links".*system-features\.ts/),
    ]);
    expect(tableOffences(source('await link(from, to);'), table({ 'net/new.ts': 'x' }))).toEqual([]);
  });

  it('is found by the pattern of its feature', () => {
    const uses: Record<string, readonly string[]> = {
      platform: ["process.platform === 'win32'", 'process.arch'],
      'files of Linux': ["readFile('/proc/x')", "join(root, 'sys/fs')", "'/tmp'", '`/dev/$' + '{x}`'],
      rights: ['chmod(path)', 'mode: 0o600', 'process.umask()', 'process.getuid()'],
      links: ['link(a, b)', 'symlinkSync(a, b)', 'fs.lstat(a)'],
      'free space': ['statfs(a)'],
      signals: ["kill('SIGTERM')"],
      processes: ['process.kill(-pid)', 'detached: true'],
      'child processes': ["import { spawn } from 'node:child_process'", "require('child_process')"],
      allocator: ['MALLOC_ARENA_MAX', "'GLIBC_TUNABLES'", 'LD_PRELOAD'],
      'folders of the user': ['homedir()', 'XDG_DATA_HOME', 'env.APPDATA', 'tmpdir()', 'environment.HOME'],
      separators: ["import { join, sep } from 'node:path'", "path.split('/')", 'x = `$' + '{dir}/a`'],
      'file URLs': ['url.pathname', 'fileURLToPath(x)'],
      renames: ['await rename(a, b)', 'renameSync(a, b)'],
      syncs: ['await handle.sync()', 'x.datasync()'],
      'handles for appending': ["open(path, 'a+')", "openSync(path, 'a', 0o600)"],
      patterns: ['glob(path)', 'fs.glob(path)'],
      SQLite: ['new DatabaseSync(path)'],
      'numbered values of SQL': ['WHERE job = ?1'],
      machine: ['cpus()', 'freemem()', 'process.availableMemory()'],
      terminals: ['stdout.isTTY', "'\\u001b[K'"],
      locales: ['n.toLocaleString()', 'new Intl.NumberFormat()', 'a.localeCompare(b)', 'date.getHours()'],
      'multicast DNS': ["from '@libp2p/mdns'"],
    };
    expect(Object.keys(uses)).toEqual(Object.keys(SYSTEM_FEATURES));
    for (const [name, samples] of Object.entries(uses)) {
      for (const sample of samples) expect(sample, name).toMatch(SYSTEM_FEATURES[name]!.pattern);
    }
  });
});

describe('on Windows', () => {
  it('a rename is tried again while another process has the file open', async () => {
    pretendPlatform('win32');
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'a'), 'text');
    refuse('rename', 'EPERM', 'EACCES', 'EBUSY');
    await renameWithRetry(join(folder, 'a'), join(folder, 'b'));
    expect(await readdir(folder)).toEqual(['b']);
  });

  it('a rename is given up after two seconds, and after any other error at once', async () => {
    pretendPlatform('win32');
    const path = join(await temporaryFolder(), 'file');
    stubs.pauses.length = 0;
    refuse('rename', ...Array<string>(50).fill('EPERM'));
    await expect(writeDurably(path, 'text')).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    const waited = stubs.pauses.reduce((sum, pause) => sum + pause, 0);
    expect(waited).toBeGreaterThan(1_000);
    expect(waited).toBeLessThan(3_000);
    stubs.pauses.length = 0;
    refuse('rename', 'ENOENT');
    await expect(renameWithRetry(path, `${path}2`)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(stubs.pauses).toEqual([]);
  });

  it('no folder is opened to sync it', async () => {
    pretendPlatform('win32');
    await syncFolder('/no/such/folder');
  });

  it('a helper is asked by a message to drain, because SIGTERM would kill it', async () => {
    pretendPlatform('win32');
    const dir = await temporaryFolder();
    const script = join(dir, 'child.mjs');
    await writeFile(
      script,
      `import { drainOnSignals } from ${moduleUrl('cli/signals.ts')};
       drainOnSignals().addEventListener('abort', () => process.exit(7));
       console.log(JSON.stringify({ event: 'ready' })); setInterval(() => {}, 1000);`,
    );
    const { context } = fakeContext({ cwd: dir, self: { node: process.execPath, script } });
    const options = { name: 'node otter', arguments: [], logFile: join(dir, 'log') };
    const helper = new HelperProcess(options, context);
    onTestFinished(() => helper.kill());
    await helper.first('ready', { signal: new AbortController().signal });
    await helper.stop();
    expect(await helper.exited).toEqual({ code: 7, signal: null });
  });

  it('a helper is killed without a process group', async () => {
    pretendPlatform('win32');
    const kill = vi.spyOn(process, 'kill');
    onTestFinished(() => kill.mockRestore());
    const dir = await temporaryFolder();
    const script = join(dir, 'child.mjs');
    await writeFile(script, 'setInterval(() => {}, 1000);');
    const { context } = fakeContext({ cwd: dir, self: { node: process.execPath, script } });
    const helper = new HelperProcess({ name: 'x', arguments: [], logFile: join(dir, 'log') }, context);
    helper.kill();
    expect(await helper.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(kill).not.toHaveBeenCalled();
  });

  it('Ctrl-Break drains a command', () => {
    const drainOn = (platform: string) =>
      runModule(
        `Object.defineProperty(process, 'platform', { value: '${platform}' });
         const { drainOnSignals } = await import(${moduleUrl('cli/signals.ts')});
         const signal = drainOnSignals();
         process.emit('SIGBREAK');
         process.exit(signal.aborted ? 7 : 8);`,
      ).status;
    expect(drainOn('win32')).toBe(7);
    expect(drainOn('linux')).toBe(8);
  });

  it('each system opens a file in a browser with a program of its own', () => {
    const on = (platform: NodeJS.Platform): readonly string[] => {
      pretendPlatform(platform);
      return openerOf('page.html');
    };
    expect(on('win32')).toEqual(['rundll32', 'url.dll,FileProtocolHandler', 'page.html']);
    expect(on('darwin')).toEqual(['open', 'page.html']);
    expect(on('linux')).toEqual(['xdg-open', 'page.html']);
  });

  it('exit codes say that a trainer ran out of memory', () => {
    const compute = {
      devices: [{ engine: 'onnx-cpu' }],
      threads: 1,
      baseBits: 32,
      precision: 'float32',
      checkpointing: false,
      memoryLimit: Number.POSITIVE_INFINITY,
    } as const;
    const died = (exitCode: number) =>
      trainError('TRAINER_DIED', 'died', { code: exitCode, signal: null, stderr: '' });
    const next = (exitCode: number) =>
      fallbackFor(
        { compute: { ...compute, checkpointing: 'auto' }, microBatch: 4 },
        { compute, microBatch: 4 },
        died(exitCode),
      );
    pretendPlatform('linux');
    expect(next(134)).toBe(null);
    pretendPlatform('win32');
    for (const exitCode of [134, 0xc0000409, 0xc0000017]) {
      expect(next(exitCode)).toMatchObject({ compute: { checkpointing: true }, microBatch: 4 });
    }
    expect(next(1)).toBe(null);
  });

  it('lines that a child process prints end with \\r\\n', async () => {
    const entry = join(await temporaryFolder(), 'entry.mjs');
    await writeFile(entry, "process.stderr.write('one\\r\\ntwo\\r\\n'); process.disconnect();");
    const lines: string[] = [];
    const child = new ChildCalls(pathToFileURL(entry), {
      onLog: (line) => lines.push(line),
      ended: () => new Error('ended'),
    });
    await child.closed;
    expect(lines).toEqual(['one', 'two']);
  });

  it('converted weights that another process has mapped are deleted at a later attempt', async () => {
    const cache = await temporaryFolder();
    const old = `${'a'.repeat(64)}.q8v1`;
    await writeFile(join(cache, old), 'weights');
    refuse('rm', 'EBUSY');
    const undeleted: unknown[] = [];
    const options = { version: 2, onUndeleted: (what: unknown) => undeleted.push(what) };
    await removeOutdated(cache, options);
    expect(await readdir(cache)).toEqual([old]);
    expect(undeleted).toMatchObject([{ path: join(cache, old), error: { code: 'EBUSY' } }]);
    await removeOutdated(cache, options);
    expect(await readdir(cache)).toEqual([]);
    expect(undeleted).toHaveLength(1);
  });

  it('a log that cannot be rotated continues as soon as it can be rotated', async () => {
    const path = join(await temporaryFolder(), 'log');
    const log = new LogFile(path, { maxBytes: 4 });
    log.write('one\n');
    refuse('renameSync', 'EPERM');
    log.write('two\n');
    log.write('six\n');
    expect([await readFile(`${path}.1`, 'utf8'), await readFile(path, 'utf8')]).toEqual(['one\n', 'six\n']);
  });

  it('names that peers choose hold no reserved character', () => {
    for (const character of '<>:"/\\|?*\0 ') {
      expect(nameSchema.safeParse(`a${character}b`).success, character).toBe(false);
      expect(digestSchema.safeParse(character.repeat(64)).success, character).toBe(false);
    }
  });
});

describe('on a file system without', () => {
  it.each(['EPERM', 'ENOTSUP', 'ENOSYS', 'EISDIR', 'EXDEV'])(
    'hard links (%s), files are copied',
    async (errno) => {
      const home = await temporaryFolder();
      const blob = join(home, 'blob');
      await writeFile(blob, 'weights');
      const digest = sha256(Buffer.from('weights'));
      const files = [{ path: 'model.safetensors', size: 7, digest }];
      refuse('link', errno, errno, errno);
      const folder = await layOutBase({
        home,
        base: { digest: baseDigest(files), files },
        pathOf: () => blob,
      });
      expect(await readFile(join(folder, 'model.safetensors'), 'utf8')).toBe('weights');
      // A copy never replaces an existing file.
      await writeFile(join(home, 'taken'), 'mine');
      await expect(linkOrCopy(blob, join(home, 'taken'))).rejects.toMatchObject({ code: 'EEXIST' });
      expect(await readFile(join(home, 'taken'), 'utf8')).toBe('mine');
      const own = join(home, 'own');
      const first = await loadIdentity(own);
      expect((await loadIdentity(own)).signer.peerId).toBe(first.signer.peerId);
      expect(await readdir(own)).toEqual(['identity']);
      await expectMode(join(own, 'identity'), 0o600);
    },
  );

  it('symbolic links, the cache of the hub holds copies', async () => {
    const cacheDir = await temporaryFolder();
    const cache = new HubCache({ cacheDir, name: 'org/model' });
    await cache.prepare();
    await writeFile(cache.blob('etag'), '{}');
    refuse('symlink', 'EPERM');
    const commit = 'c'.repeat(40);
    await cache.place(commit, 'config.json', 'etag');
    expect(await readFile(join(cache.snapshot(commit), 'config.json'), 'utf8')).toBe('{}');
  });

  it('permissions of files, keys and tokens are still read', async () => {
    const home = await temporaryFolder();
    const token = await loadToken(home);
    const { signer } = await loadIdentity(home);
    refuse('chmod', 'ENOTSUP', 'ENOSYS', 'EPERM');
    expect(await loadToken(home)).toBe(token);
    expect((await loadIdentity(home)).signer.peerId).toBe(signer.peerId);
    // On a file system with permissions, a refusal is still an error.
    await expect(restrictToOwner(join(home, 'identity'))).rejects.toMatchObject({ code: 'EPERM' });
  });

  it('permissions of files, a home is used as it is, and the log says so', async () => {
    const home = await temporaryFolder();
    await writeFile(join(home, 'identity'), 'key', { mode: 0o644 });
    const lines: [string, object][] = [];
    const log = {
      ...silentLogger,
      warn: (fields: object, action: string) => void lines.push([action, fields]),
    };
    refuse('chmod', 'ENOTSUP', 'EPERM');
    await makeHomePrivate(home, { log });
    if (process.platform !== 'win32') expect(lines.map(([action]) => action)).toContain('home-not-private');
  });

  it('private files, SQLite creates the file of a database', async () => {
    const path = join(await temporaryFolder(), 'a.sqlite');
    refuse('openSync', 'ENOTSUP');
    const database = new Database({ path, schema: { version: 1, sql: 'CREATE TABLE t (x)' } });
    database.run('INSERT INTO t VALUES (1)');
    expect(database.one('SELECT x FROM t')).toEqual({ x: 1 });
    database.close();
  });

  it('a figure for free space, the space counts as enough', async () => {
    const folder = await temporaryFolder();
    expect(await freeBytesOf(folder)).toBeLessThan(Number.POSITIVE_INFINITY);
    refuse('statfs', 'ENOSYS', 'ENOTSUP', 'EIO');
    expect(await freeBytesOf(folder)).toBe(Number.POSITIVE_INFINITY);
    expect(await freeBytesOf(folder)).toBe(Number.POSITIVE_INFINITY);
    await expect(freeBytesOf(folder)).rejects.toMatchObject({ code: 'EIO' });
  });

  it.skipIf(process.platform === 'win32')('syncs of folders, files are still replaced', async () => {
    const folder = await temporaryFolder();
    const handle = await open(folder, 'r');
    const sync = vi.spyOn(Object.getPrototypeOf(handle) as typeof handle, 'sync');
    onTestFinished(() => sync.mockRestore());
    await handle.close();
    for (const errno of ['EINVAL', 'EBADF', 'ENOTSUP']) {
      sync.mockRejectedValueOnce(refusing.errnoOf(errno, 'fsync'));
      await syncFolder(folder);
    }
    sync.mockRejectedValueOnce(refusing.errnoOf('EIO', 'fsync'));
    await expect(syncFolder(folder)).rejects.toMatchObject({ code: 'EIO' });
  });
});

describe('on a system without', () => {
  const SAID = 12_345;
  const sayMemory = (): void => {
    const said = vi.spyOn(process, 'availableMemory').mockReturnValue(SAID);
    onTestFinished(() => said.mockRestore());
  };

  it('control groups, Node.js says how much memory there is', async () => {
    sayMemory();
    expect(availableMemory(await temporaryFolder())).toBe(SAID);
  });

  it.skipIf(existsSync('/usr/bin/vm_stat'))('vm_stat, Node.js says how much memory there is', async () => {
    sayMemory();
    pretendPlatform('darwin');
    expect(availableMemory(await temporaryFolder())).toBe(SAID);
  });

  it('control groups, macOS counts inactive pages as available', () => {
    const text = `Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                          200000.
Pages speculative:                         5000.
Pages wired down:                        100000.
`;
    expect(parseVmStat(text)).toBe(215_000 * 16_384);
    expect(parseVmStat(text.replace('16384', 'many'))).toBe(null);
    expect(parseVmStat('')).toBe(null);
  });

  it('/proc, the processor is unknown', async () => {
    refuse('readFile', 'ENOENT');
    stubs.processors = false;
    onTestFinished(() => void Object.assign(stubs, { processors: true }));
    expect(await describeMachine()).toMatchObject({ processor: 'unknown', instructions: null });
  });

  it.skipIf(process.platform === 'darwin')(
    'sysctl, the processor is described without instructions',
    async () => {
      pretendPlatform('darwin');
      const path = process.env.PATH;
      process.env.PATH = '';
      onTestFinished(() => void Object.assign(process.env, { PATH: path }));
      expect(await describeMachine()).toMatchObject({ instructions: null });
    },
  );

  it('/proc and /dev, no software driver is recognised', async () => {
    const root = await temporaryFolder();
    expect(await hasSoftwareDriver(root)).toBe(false);
    await mkdir(join(root, 'proc/self'), { recursive: true });
    await writeFile(join(root, 'proc/self/maps'), '7f00 r-xp /usr/lib/libvulkan_lvp.so\n');
    expect(await hasSoftwareDriver(root)).toBe(true);
    await mkdir(join(root, 'dev/dri'), { recursive: true });
    await writeFile(join(root, 'dev/dri/renderD128'), '');
    expect(await hasSoftwareDriver(root)).toBe(false);
  });

  it('glibc, trainers get no setting of its allocator', () => {
    expect(Object.keys(GRAPH_PROCESS_ENVIRONMENT)).toEqual(['GLIBC_TUNABLES']);
  });

  it('access to a process, the process still counts as running', () => {
    const kill = vi.spyOn(process, 'kill');
    onTestFinished(() => kill.mockRestore());
    const answer = (errno: string) =>
      kill.mockImplementationOnce(() => {
        throw refusing.errnoOf(errno, 'kill');
      });
    answer('EPERM');
    expect(isAlive(1)).toBe(true);
    answer('ESRCH');
    expect(isAlive(1)).toBe(false);
  });

  it('a known width, a terminal has 80 columns', () => {
    const { stdout } = processContext(new AbortController().signal);
    const columns = Object.getOwnPropertyDescriptor(process.stdout, 'columns');
    Object.defineProperty(process.stdout, 'columns', { value: 0, configurable: true });
    onTestFinished(() => {
      if (columns === undefined) Reflect.deleteProperty(process.stdout, 'columns');
      else Object.defineProperty(process.stdout, 'columns', columns);
    });
    expect(stdout.columns).toBe(80);
  });

  it('English as its language, texts stay English', () => {
    const { stdout } = runModule(
      `const { formatCount } = await import(${moduleUrl('common/text.ts')});
       process.stdout.write(formatCount(1234567));`,
      { ...process.env, LC_ALL: 'de_DE.UTF-8', LANG: 'de_DE.UTF-8', TZ: 'Asia/Tokyo' },
    );
    expect(stdout).toBe('1,234,567');
  });
});
