import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { monitorError } from '../../../../monitor/errors.ts';
import { createLogger } from '../../../../monitor/logs/log.ts';
import { LogFile } from '../../../../monitor/logs/log-file.ts';
import { logModules, parseLevels } from '../../../../monitor/logs/log-levels.ts';
import { REPEAT_WINDOW_MS } from '../../../../monitor/logs/repeated-warnings.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { SHIPPED, sourcesIn } from '../../../utils/source/sources.ts';

function capture(format: 'json' | 'pretty', levels = 'debug') {
  const lines: string[] = [];
  let now = 1_700_000_000_000;
  const log = createLogger(
    { outputs: [{ sink: { write: (l) => lines.push(l) }, levels: parseLevels(levels, 'info'), format }] },
    { clock: { now: () => now, monotonic: () => now } },
  );
  return { log, lines, advance: (ms: number) => (now += ms), json: () => lines.map((l) => JSON.parse(l)) };
}

describe('logger', () => {
  it('writes one JSON object per line with level, time, action and fields', () => {
    const { log, json } = capture('json');
    log.child({ module: 'net' }).info({ peers: 3 }, 'connected');
    expect(json()).toEqual([
      { level: 'info', time: '2023-11-14T22:13:20.000Z', module: 'net', peers: 3, msg: 'connected' },
    ]);
  });

  it('writes one readable line in a terminal', () => {
    const { log, lines } = capture('pretty');
    log.info({ round: 7 }, 'round-opened');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/INFO.*round-opened.*"round":7/);
    expect(lines[0]!.trimEnd()).not.toContain('\n');
  });

  it('removes terminal control characters from strings of peers, in both formats', () => {
    for (const format of ['json', 'pretty'] as const) {
      const { log, lines } = capture(format);
      log.child({ name: '\u009b2Jx' }).info({ detail: '\u001b[31mred\n{"level":"info"}' }, 'hello');
      expect(lines, format).toHaveLength(1);
      expect(lines[0]!.trimEnd(), format).not.toMatch(/[\p{Cc}]/u);
    }
  });

  it('carries the code and values of an error, and the cause', () => {
    const { log, json } = capture('json');
    const cause = new Error('disk on fire');
    log.error({ error: new SwarmError('STORE_FULL', 'no room', { bytes: 5 }, { cause }) }, 'write failed');
    expect(json()[0].error).toMatchObject({ code: 'STORE_FULL', values: { bytes: 5 } });
    expect(json()[0].error.cause.message).toBe('disk on fire');
  });

  it('shows only the length of binary data', () => {
    const { log, json } = capture('json');
    log.info({ payload: new Uint8Array(1000) }, 'update');
    expect(json()[0].payload).toBe('1000 bytes');
  });

  it('filters by level, with a level of its own for a module', () => {
    const { log, json } = capture('json', 'warn,net=debug');
    log.info({}, 'dropped');
    log.child({ module: 'net' }).debug({}, 'kept');
    log.child({ module: 'other' }).warn({}, 'kept too');
    expect(json().map((l) => l.msg)).toEqual(['kept', 'kept too']);
  });

  it('counts repeated warnings for each peer and code', () => {
    const { log, json, advance } = capture('json');
    const net = log.child({ module: 'net' });
    for (let i = 0; i < 5; i++) net.warn({ peer: 'A', tries: i }, 'dial failed');
    net.warn({ peer: 'B' }, 'dial failed');
    advance(REPEAT_WINDOW_MS);
    net.warn({ peer: 'A' }, 'dial failed');
    expect(json().map((l) => [l.peer, l.repeated])).toEqual([
      ['A', undefined],
      ['B', undefined],
      ['A', 4],
    ]);
  });

  it('refuses an unknown level or module', () => {
    expect(() => parseLevels('loud', 'info')).toThrow(withCode('LOG_LEVEL', { found: 'loud' }));
    expect(() => parseLevels('info,gossip=debug', 'info')).toThrow(
      withCode('LOG_LEVEL', { found: 'gossip' }),
    );
    expect(parseLevels('', 'warn')).toEqual({ level: 'warn', modules: {} });
  });
});

describe('log file', () => {
  it('is rotated when full, and keeps one older file', () => {
    const dir = mkdtempSync(join(tmpdir(), 'swarm-log-'));
    const file = new LogFile(join(dir, 'logs', 'node.log'), { maxBytes: 20 });
    for (const line of [
      'first line of ten\n',
      'second line, it is\n',
      'third\n',
      'fourth line here\n',
      'last\n',
    ]) {
      file.write(line);
    }
    expect(readdirSync(join(dir, 'logs')).sort()).toEqual(['node.log', 'node.log.1']);
    expect(readFileSync(join(dir, 'logs', 'node.log'), 'utf8')).toBe('last\n');
  });

  it('drops lines that cannot be written, and continues when they can', () => {
    const dir = mkdtempSync(join(tmpdir(), 'swarm-log-'));
    const path = join(dir, 'node.log');
    const file = new LogFile(path, { maxBytes: 10 });
    // Rotation fails while a folder has the name of the older file.
    mkdirSync(join(`${path}.1`, 'in the way'), { recursive: true });
    for (const line of ['one, then full\n', 'lost\n', 'lost\n']) file.write(line);
    expect(readFileSync(path, 'utf8')).toBe('one, then full\n');
    rmSync(`${path}.1`, { recursive: true });
    file.write('two\n');
    expect(readFileSync(path, 'utf8')).toBe('two\n');
    if (process.platform === 'linux') expect(() => new LogFile('/dev/full').write('line\n')).not.toThrow();
  });
});

it('the advice about levels names every module that logs', () => {
  const used = sourcesIn(SHIPPED).flatMap(({ text }) =>
    [...text.matchAll(/\.child\(\{ module: '(\w+)'/g)].map(([, module]) => module!),
  );
  expect([...new Set(used)].sort()).toEqual([...logModules].sort());
  const { next } = monitorError.table.LOG_LEVEL;
  for (const module of logModules) expect(next).toContain(module);
});
