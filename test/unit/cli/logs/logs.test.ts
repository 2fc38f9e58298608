import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { logFileOf } from '../../../../cli/daemon/log.ts';
import { createProgram } from '../../../../cli/program.ts';
import { createLogger } from '../../../../monitor/logs/log.ts';
import { LogFile } from '../../../../monitor/logs/log-file.ts';
import { parseLevels } from '../../../../monitor/logs/log-levels.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { eventually } from '../../../utils/eventually.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const NOW = Date.parse('2026-11-28T12:00:00Z');
const OTTER = '12D3KooWOtterOtterOtter1111';
const HERON = '12D3KooWHeronHeronHeron2222';

/** Runs `lora-swarm logs` in a home whose coordinator has logged. */
async function setUp({ maxBytes }: { maxBytes?: number } = {}) {
  const home = await temporaryFolder();
  const path = logFileOf(home, 'coordinator');
  let now = NOW - 3_600_000;
  const file = new LogFile(path, { ...(maxBytes !== undefined && { maxBytes }) });
  const outputs = [{ sink: file, levels: parseLevels('debug', 'info'), format: 'json' as const }];
  const log = createLogger({ outputs }, { clock: { now: () => now, monotonic: () => now } });
  const run = async (...args: string[]) => {
    const stopping = new AbortController();
    const { context, out } = fakeContext({
      signal: stopping.signal,
      clock: { now: () => NOW, monotonic: () => NOW, after: () => () => {} },
    });
    const ended = createProgram(context).parseAsync(['logs', '--home', home, ...args], { from: 'user' });
    const lines = () =>
      out()
        .split('\n')
        .filter((line) => line !== '');
    if (!args.includes('--follow')) await ended;
    return { lines, ended, stop: () => stopping.abort() };
  };
  return { home, path, log, at: (ms: number) => (now = ms), run };
}

describe('lora-swarm logs', () => {
  it('shows entries as text, without damaged characters of a hostile peer', async () => {
    const { log, run } = await setUp();
    log.info({ peer: OTTER, name: '\u001b[31mred\u202e' }, 'peer-joined');
    const { lines } = await run();
    expect(lines()).toHaveLength(1);
    expect(lines()[0]).toContain('peer-joined');
    expect(lines()[0]).toContain(OTTER);
    expect(lines()[0]).not.toContain('\u001b');
    expect(lines()[0]).not.toContain('\u202e');
  });

  it('filters by level, by time and by peer', async () => {
    const { log, at, run } = await setUp();
    log.warn({ peer: OTTER }, 'before-name');
    log.info({ peer: OTTER, name: 'otter' }, 'joined');
    log.info({ peer: HERON, name: 'heron' }, 'joined');
    at(NOW - 60_000);
    log.debug({ peer: OTTER }, 'detail');
    log.warn({ peer: HERON }, 'slow');
    expect((await run('--level', 'warn')).lines()).toHaveLength(2);
    expect((await run('--level', 'debug')).lines()).toHaveLength(5);
    expect((await run('--since', '30m')).lines()).toEqual([expect.stringContaining('slow')]);
    expect((await run('--since', '2026-11-28T11:30Z')).lines()).toHaveLength(1);
    expect((await run('--peer', 'otter')).lines()).toEqual([
      expect.stringContaining('before-name'),
      expect.stringContaining('joined'),
    ]);
    expect((await run('--peer', HERON.slice(-6))).lines()).toHaveLength(2);
    expect((await run('--peer', `…${HERON.slice(-6)}`)).lines()).toHaveLength(2);
    expect((await run('--lines', '1')).lines()).toEqual([expect.stringContaining('slow')]);
  });

  it('refuses a peer that no entry names, but follows the log for its entries', async () => {
    const { log, run } = await setUp();
    log.info({ peer: OTTER, name: 'otter' }, 'joined');
    await expect(run('--peer', 'ottr')).rejects.toMatchObject({
      code: 'PEER_NOT_FOUND',
      values: { peer: 'ottr' },
    });
    expect((await run('--peer', 'otter', '--level', 'error')).lines()).toEqual([]);
    const { lines, ended, stop } = await run('--peer', 'heron', '--follow');
    log.info({ peer: HERON, name: 'heron' }, 'joined');
    await eventually(() => lines().length === 1);
    stop();
    await ended;
  });

  it('prints the entries as JSON, and a damaged line as well', async () => {
    const { path, log, run } = await setUp();
    log.info({ round: 7 }, 'round-opened');
    await appendFile(path, '{"level":"in\n');
    const { lines } = await run('--json');
    expect(lines().map((line) => JSON.parse(line))).toMatchObject([
      { level: 'info', round: 7, msg: 'round-opened' },
      { damaged: '{"level":"in' },
    ]);
  });

  it('reads the older file too, and follows the log across a rotation', async () => {
    const { path, log, run } = await setUp({ maxBytes: 200 });
    for (let i = 0; i < 4; i++) log.info({ i }, 'early');
    const older = (await readFile(`${path}.1`, 'utf8')).trim().split('\n').length;
    const newer = (await readFile(path, 'utf8')).trim().split('\n').length;
    const { lines, ended, stop } = await run('--follow');
    await eventually(() => lines().length === older + newer);
    log.info({ i: 100 }, 'late');
    log.info({ i: 101 }, 'late');
    log.info({ i: 102 }, 'late');
    await eventually(() => lines().filter((line) => line.includes('late')).length === 3);
    stop();
    await ended;
  });

  it('says where it looked if there is no log', async () => {
    const home = await temporaryFolder();
    const { context } = fakeContext();
    const ended = createProgram(context).parseAsync(['logs', '--home', home], { from: 'user' });
    await expect(ended).rejects.toMatchObject({
      code: 'LOG_NOT_FOUND',
      message: expect.stringContaining(logFileOf(home, 'node')),
    });
  });

  it('says which daemon wrote an entry if both have a log', async () => {
    const { home, log, run } = await setUp();
    log.info({}, 'second');
    const other = logFileOf(home, 'node');
    await mkdir(dirname(other), { recursive: true });
    await writeFile(join(other), '{"level":"info","time":"2026-11-28T10:00:00Z","msg":"first"}\n');
    const { lines } = await run();
    expect(lines()).toEqual([
      expect.stringMatching(/^node .*first/),
      expect.stringMatching(/^coordinator .*second/),
    ]);
  });
});
