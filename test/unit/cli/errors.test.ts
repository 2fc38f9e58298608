import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { withCommandName } from '../../../cli/command-name.ts';
import { failureJson, failureLines, failureOf, usageError } from '../../../cli/errors.ts';
import { exitCodes } from '../../../cli/exit-codes.ts';
import { commonError } from '../../../common/common-errors.ts';
import { type ErrorKind, type ErrorTable, fromSystem, SwarmError } from '../../../common/errors.ts';
import { dataError } from '../../../lora/data/errors.ts';
import { graphError } from '../../../lora/graph/errors.ts';
import { modelError } from '../../../lora/models/errors.ts';
import { trainError } from '../../../lora/train/errors.ts';
import { netError } from '../../../net/errors.ts';
import { protocolError } from '../../../protocol/errors.ts';
import { storageError } from '../../../storage/errors.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

describe('exit codes', () => {
  it('follow from the kind of the error', () => {
    const cases: [SwarmError, keyof typeof exitCodes][] = [
      [commonError('USAGE', 'x'), 'usage'],
      [protocolError('INVITE_INVALID', 'x'), 'usage'],
      [storageError('DAEMON_NOT_RUNNING', 'x'), 'notRunning'],
      [modelError('MODEL_DIR', 'x'), 'notFound'],
      [dataError('DATA_NO_FILES', 'x'), 'notFound'],
      [netError('RPC_REFUSED', 'x'), 'refused'],
      [commonError('HOME_LOCKED', 'x'), 'conflict'],
      [commonError('OUTPUT_EXISTS', 'x'), 'conflict'],
      [netError('RPC_TIMEOUT', 'x'), 'timeout'],
      [commonError('DEADLINE_EXCEEDED', 'x'), 'timeout'],
      [graphError('GRAPH_SHAPE', 'x'), 'internal'],
      [trainError('TRAINER_DIED', 'x'), 'failed'],
    ];
    for (const [error, kind] of cases) {
      expect(failureOf(error).exitCode, error.code).toBe(exitCodes[kind]);
    }
  });

  it('of data that cannot be read follow from the cause', async () => {
    const unreadable = (cause?: unknown) =>
      failureOf(dataError('DATA_UNREADABLE', 'x', {}, { cause, ...fromSystem(cause) })).exitCode;
    expect(unreadable()).toBe(exitCodes.usage);
    expect(unreadable(await readFile('/nowhere').catch((error: unknown) => error))).toBe(exitCodes.notFound);
    expect(unreadable(Object.assign(new Error('bad header'), { code: 'Z_DATA_ERROR' }))).toBe(
      exitCodes.failed,
    );
  });

  it('are all in docs/exit-codes.md, which lists each error code under its exit code', async () => {
    const root = join(import.meta.dirname, '../../..');
    const page = readFileSync(join(root, 'docs/exit-codes.md'), 'utf8');
    const sections = new Map(page.split(/^## (?=\d)/m).map((text) => [Number.parseInt(text, 10), text]));
    const kinds = await kindsOfCodes(root);
    for (const [kind, exitCode] of Object.entries(exitCodes)) {
      const text = sections.get(exitCode);
      expect(text, kind).toBeDefined();
      const codes = [...text!.matchAll(/`([A-Z_]+)`/g)].map(([, code]) => code!);
      for (const code of codes) {
        if (kinds.has(code)) expect(kinds.get(code), code).toBe(kind);
      }
    }
  });
});

/** The kind of every error code of the program. */
async function kindsOfCodes(root: string): Promise<Map<string, ErrorKind>> {
  const kinds = new Map<string, ErrorKind>();
  for (const { path } of sourcesIn(SHIPPED).filter(({ text }) => text.includes('= defineErrors('))) {
    const exported: Record<string, unknown> = await import(join(root, path));
    for (const value of Object.values(exported)) {
      if (typeof value !== 'function' || !('table' in value)) continue;
      for (const [code, entry] of Object.entries(value.table as ErrorTable)) {
        kinds.set(code, typeof entry === 'string' ? entry : entry.kind);
      }
    }
  }
  expect(kinds.size).toBeGreaterThan(150);
  return kinds;
}

describe('a failure', () => {
  it('is printed as a message and advice', () => {
    const failure = failureOf(usageError('there is no such thing', 'try another'));
    expect(failureLines(failure)).toEqual(['lora-swarm: there is no such thing', '  next: try another']);
    expect(failure.exitCode).toBe(2);
    expect(failureLines(failureOf(new SwarmError('X', 'it broke')))).toEqual(['lora-swarm: it broke']);
  });

  it('names commands as the user starts them, in advice of every module', () => {
    const next = 'see "lora-swarm status", or: lora-swarm job list; the swarm itself is fine';
    const failure = failureOf(new SwarmError('X', 'it broke', {}, { next }));
    expect(failure.next).toBe(
      'see "npx lora-swarm status", or: npx lora-swarm job list; the swarm itself is fine',
    );
    expect(withCommandName('lora-swarm job list --json')).toBe('npx lora-swarm job list --json');
  });

  it('is one object with --json, with code, values and exit code', () => {
    const options = { kind: 'notFound', next: 'list them' } as const;
    const error = new SwarmError('JOB_NOT_FOUND', 'no job "x"', { job: 'x' }, options);
    expect(failureJson(failureOf(error))).toEqual({
      schemaVersion: 1,
      event: 'error',
      error: {
        code: 'JOB_NOT_FOUND',
        message: 'no job "x"',
        next: 'list them',
        values: { job: 'x' },
        exitCode: 4,
      },
    });
  });

  it('has no control characters, even in a message from a peer', () => {
    const [line] = failureLines(failureOf(new SwarmError('RPC_REFUSED', '\u001b[2Jgone\nswarm: fine')));
    expect(line).toBe('lora-swarm: ·[2Jgone swarm: fine');
  });

  it('that is not a SwarmError exits with 70 and asks for a report', () => {
    expect(failureOf(new TypeError('x is not a function'))).toMatchObject({ kind: 'internal', exitCode: 70 });
    expect(failureOf('thrown text').exitCode).toBe(70);
    expect(failureOf(new TypeError('x')).next).not.toBeNull();
  });

  it('of the operating system keeps its code and path', async () => {
    const denied = await readFile('/nowhere/at/all').catch((error: unknown) => error);
    expect(failureOf(denied)).toMatchObject({
      code: 'ENOENT',
      exitCode: 4,
      message: expect.stringContaining('/nowhere'),
    });
    const full = Object.assign(new Error('no space'), { code: 'ENOSPC', syscall: 'write' });
    expect(failureOf(full)).toMatchObject({ exitCode: 1, next: expect.any(String) });
  });

  it('by Ctrl-C exits with 130', () => {
    const controller = new AbortController();
    controller.abort();
    expect(failureOf(controller.signal.reason).exitCode).toBe(130);
  });
});
