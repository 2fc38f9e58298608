import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { failureJson, failureLines, failureOf, usageError } from '../../../cli/errors.ts';
import { exitCodes, exitFor } from '../../../cli/exit-codes.ts';
import { SwarmError } from '../../../common/errors.ts';

describe('exit codes', () => {
  it('follow from the code of an error', () => {
    const expected: [string, keyof typeof exitCodes][] = [
      ['USAGE', 'usage'],
      ['INVITE_INVALID', 'usage'],
      ['DAEMON_NOT_RUNNING', 'notRunning'],
      ['JOB_NOT_FOUND', 'notFound'],
      ['MODEL_DIR', 'notFound'],
      ['DATA_NO_FILES', 'notFound'],
      ['RPC_REFUSED', 'refused'],
      ['NOT_ADMITTED', 'refused'],
      ['HOME_LOCKED', 'conflict'],
      ['OUTPUT_EXISTS', 'conflict'],
      ['RPC_TIMEOUT', 'timeout'],
      ['CONNECT_FAILED', 'timeout'],
      ['DEADLINE_EXCEEDED', 'timeout'],
      ['UNHEALTHY', 'unhealthy'],
      ['GRAPH_SHAPE', 'internal'],
      ['TRAINER_DIED', 'failed'],
      ['A_CODE_THAT_NOBODY_KNOWS', 'failed'],
    ];
    for (const [code, exit] of expected) expect(exitFor(code).exit, code).toBe(exit);
  });

  it('of data that cannot be read follow from why not', async () => {
    const unreadable = (cause?: unknown) =>
      failureOf(new SwarmError('DATA_UNREADABLE', 'x', {}, cause === undefined ? {} : { cause })).exitCode;
    expect(unreadable()).toBe(exitCodes.usage);
    expect(unreadable(await readFile('/nowhere').catch((error: unknown) => error))).toBe(exitCodes.notFound);
    expect(unreadable(Object.assign(new Error('bad header'), { code: 'Z_DATA_ERROR' }))).toBe(
      exitCodes.failed,
    );
  });

  it('are all explained in the docs, with how to fix each', () => {
    const page = readFileSync(join(import.meta.dirname, '../../../docs/exit-codes.md'), 'utf8');
    for (const [name, code] of Object.entries(exitCodes)) {
      expect(page, name).toMatch(new RegExp(`^## ${code}: `, 'm'));
    }
  });
});

describe('a failure', () => {
  it('is shown as what happened and the next thing to do', () => {
    const failure = failureOf(usageError('there is no such thing', 'try another'));
    expect(failureLines(failure)).toEqual(['swarm: there is no such thing', '  next: try another']);
    expect(failure.exitCode).toBe(2);
    expect(failureLines(failureOf(new SwarmError('X', 'it broke; mend it')))).toEqual([
      'swarm: it broke; mend it',
    ]);
  });

  it('is one object with --json, with code, values and exit code', () => {
    const error = new SwarmError('JOB_NOT_FOUND', 'no job "x"', { job: 'x', next: 'list them' });
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

  it('cannot command the terminal, whoever wrote its message', () => {
    const [line] = failureLines(failureOf(new SwarmError('RPC_REFUSED', '\u001b[2Jgone\nswarm: fine')));
    expect(line).toBe('swarm: ·[2Jgone swarm: fine');
  });

  it('of another kind than ours is a defect: 70 and a call to report it', () => {
    expect(failureOf(new TypeError('x is not a function'))).toMatchObject({ exit: 'internal', exitCode: 70 });
    expect(failureOf('thrown text').exitCode).toBe(70);
    expect(failureOf(new TypeError('x')).next).not.toBeNull();
  });

  it('of the operating system says what it refuses, and is no defect', async () => {
    const denied = await readFile('/nowhere/at/all').catch((error: unknown) => error);
    expect(failureOf(denied)).toMatchObject({
      code: 'ENOENT',
      exitCode: 4,
      message: expect.stringContaining('/nowhere'),
    });
    expect(exitFor('ENOSPC').exit).toBe('failed');
  });

  it('by Ctrl-C is an interruption', () => {
    const controller = new AbortController();
    controller.abort();
    expect(failureOf(controller.signal.reason).exitCode).toBe(130);
  });
});
