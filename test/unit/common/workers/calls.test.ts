import { describe, expect, it, onTestFinished } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { Calls } from '../../../../common/workers/calls.ts';
import { ChildCalls } from '../../../../common/workers/child-process.ts';
import { ThreadCalls } from '../../../../common/workers/thread.ts';
import type { TestMethods } from '../../../utils/calls-entry.ts';
import { eventually } from '../../../utils/eventually.ts';

const entry = new URL('../../../utils/calls-entry.ts', import.meta.url);
const ended = (): SwarmError => new SwarmError('ENDED', 'it ended');

const starters: Record<string, (onNotice: (text: string) => void) => Calls<TestMethods>> = {
  'a child process': (onNotice) => {
    const child = new ChildCalls<TestMethods>(entry, { onNotice, ended });
    onTestFinished(() => child.kill());
    return child;
  },
  'a thread': () => {
    const thread = new ThreadCalls<TestMethods>(entry, { ended });
    onTestFinished(() => thread.terminate());
    return thread;
  },
};

describe.each(Object.entries(starters))('calls to %s', (name, start) => {
  it('carry typed arrays, progress and notices', async () => {
    const notices: string[] = [];
    const calls = start((text) => notices.push(text));
    expect(await calls.call('double', Float32Array.of(1, 2.5))).toEqual(Float32Array.of(2, 5));
    const progress: number[] = [];
    expect(await calls.call('count', 3, { onProgress: (i) => progress.push(i) })).toBe('done');
    expect(progress).toEqual([1, 2, 3]);
    if (name === 'a child process') expect(notices).toEqual(['counted to 3']);
  });

  it('pause where the callee waits, until they are resumed or aborted', async () => {
    const calls = start(() => {});
    calls.pause(true);
    calls.pause(true);
    const steps: number[] = [];
    const stepping = calls.call('step', 3, { onProgress: (i) => steps.push(i) });
    const controller = new AbortController();
    const aborted = calls.call('step', 3, { signal: controller.signal });
    controller.abort();
    calls.pause(false);
    await stepping;
    await expect(aborted).rejects.toThrow();
    expect(steps).toEqual([1, 2, 3]);
    calls.pause(true);
    const stuck = new AbortController();
    const later = calls.call('step', 1, { signal: stuck.signal });
    // The abort must end the call although the calls are paused.
    stuck.abort();
    await expect(later).rejects.toThrow();
  });

  it("reject with the callee's error and all its fields", async () => {
    const calls = start(() => {});
    await expect(calls.call('refuse', null)).rejects.toMatchObject({
      code: 'DATA_COLUMNS',
      kind: 'usage',
      values: { column: 'x' },
      next: 'name another',
    });
  });

  it("reject with an error of the callee's table after any other error", async () => {
    const calls = start(() => {});
    await expect(calls.call('crash', null)).rejects.toMatchObject({
      code: 'CRASHED',
      kind: 'internal',
      next: 'report it',
    });
    // For an error of the operating system, this error decides the kind and the advice.
    await expect(calls.call('read', './no-such-file')).rejects.toMatchObject({
      code: 'CRASHED',
      kind: 'notFound',
      next: 'check the path',
    });
  });

  it('end with the error of their progress callback', async () => {
    const calls = start(() => {});
    const onProgress = (i: number): void => {
      if (i === 2) throw new RangeError(`step ${i}`);
    };
    await expect(calls.call('count', 3, { onProgress })).rejects.toThrow(RangeError);
    expect(await calls.call('double', Float32Array.of(1))).toEqual(Float32Array.of(2));
  });

  it('are aborted, running and waiting ones, and the next one is served', async () => {
    const calls = start(() => {});
    const controller = new AbortController();
    const both = [calls.call('wait', null, controller), calls.call('wait', null, controller)];
    controller.abort();
    for (const call of both) await expect(call).rejects.toMatchObject({ code: 'ABORTED', kind: 'timeout' });
    expect(await calls.call('double', Float32Array.of(1))).toEqual(Float32Array.of(2));
    await expect(calls.call('wait', null, controller)).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('reject when the callee ends, and so do later ones', async () => {
    const calls = start(() => {});
    const waiting = calls.call('wait', null, { signal: AbortSignal.timeout(60_000) });
    calls.abortAll();
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(calls.call('exit', 3)).rejects.toMatchObject({ code: 'ENDED' });
    await expect(calls.call('count', 1)).rejects.toMatchObject({ code: 'ENDED' });
  });
});

it.each([
  ['null', null],
  ['a text', 'reply'],
  ['an unknown type', { type: 'other', id: 1 }],
  ['a reply without a number', { type: 'reply', reply: 1 }],
  ['a notice without a text', { type: 'notice' }],
  ['a failure without an error', { type: 'failed', id: 1 }],
  ['an error without values', { type: 'failed', id: 1, error: { code: 'A', message: 'b', kind: 'failed' } }],
  [
    'an error of an unknown kind',
    { type: 'failed', id: 1, error: { ...new SwarmError('A', 'b').toJSON(), kind: 'x' } },
  ],
])('a malformed message (%s) fails all calls', async (_, message) => {
  let receive = (_message: never): void => {};
  const calls = new Calls<TestMethods>({
    channel: {
      send: () => {},
      onMessage: (listener) => {
        receive = listener;
      },
    },
  });
  const waiting = calls.call('count', 1);
  receive(message as never);
  await expect(waiting).rejects.toMatchObject({ code: 'CALL_MALFORMED' });
  await expect(calls.call('count', 1)).rejects.toMatchObject({ code: 'CALL_MALFORMED' });
});

it('an error of the notice callback ends the calls in progress, or the next one if there is none', async () => {
  const mistake = new TypeError('a mistake of the caller');
  let receive = (_message: never): void => {};
  const sent: object[] = [];
  const calls = new Calls<TestMethods>({
    channel: {
      send: (message) => void sent.push(message as object),
      onMessage: (listener) => {
        receive = listener;
      },
    },
    onNotice: () => {
      throw mistake;
    },
  });
  const waiting = calls.call('count', 1);
  receive({ type: 'notice', text: 'hello' } as never);
  await expect(waiting).rejects.toBe(mistake);
  expect(sent.at(-1)).toEqual({ type: 'abort', id: 1 });
  receive({ type: 'notice', text: 'hello again' } as never);
  await expect(calls.call('count', 1)).rejects.toBe(mistake);
});

it('a child process that fails to start rejects its calls', async () => {
  const child = new ChildCalls<TestMethods>(new URL('./no-such-file.ts', import.meta.url), {
    ended: ({ code, stderr }) => new SwarmError('ENDED', stderr, { code }),
  });
  await expect(child.call('count', 1)).rejects.toMatchObject({ code: 'ENDED', values: { code: 1 } });
  expect((await child.closed).stderr).toContain('no-such-file.ts');
  await eventually(() => child.process.exitCode === 1);
});

it('a child process passes on whole lines of its error output, also the last one without an end', async () => {
  const lines: string[] = [];
  const child = new ChildCalls<TestMethods>(entry, { onLog: (line) => lines.push(line), ended });
  onTestFinished(() => child.kill());
  for (const text of ['one\r', '\ntw', 'o\n\nthr', 'ee\nfour']) {
    await child.call('complain', text);
    // The next text arrives in a separate `data` event.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(lines).toEqual(['one', 'two', 'three']);
  await child.call('exit', 0).catch(() => {});
  await child.closed;
  expect(lines).toEqual(['one', 'two', 'three', 'four']);
});
