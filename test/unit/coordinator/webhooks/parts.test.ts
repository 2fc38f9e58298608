import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { SwarmError } from '../../../../common/errors.ts';
import type { Logger } from '../../../../common/logger.ts';
import { systemClock } from '../../../../common/time/system-clock.ts';
import type { Coordinator } from '../../../../coordinator/coordinator.ts';
import type { Store } from '../../../../coordinator/store/store.ts';
import { keyOf, newSecret, signatureHeaders } from '../../../../coordinator/webhooks/message.ts';
import { type LossMemory, newsOf } from '../../../../coordinator/webhooks/news.ts';
import { openWebhooks } from '../../../../coordinator/webhooks/open.ts';
import { postOverHttp } from '../../../../coordinator/webhooks/post.ts';
import { isPrivateAddress } from '../../../../coordinator/webhooks/private-addresses.ts';
import { loadWebhooks } from '../../../../coordinator/webhooks/settings.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import type { JobEvent, JobEventBody } from '../../../../protocol/api/job-events.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

describe('a signature', () => {
  it('is that of the test vector of Standard Webhooks', () => {
    const message = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', body: '{"test": 2432232314}' };
    const key = keyOf('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')!;
    expect(signatureHeaders(message, { key, at: 1_614_265_330_999 })).toEqual({
      'webhook-id': message.id,
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  it('has a key of 24 to 64 bytes in base64', () => {
    expect(keyOf(newSecret())).toHaveLength(32);
    expect(keyOf('whsec_c2hvcnQ=')).toBeNull();
    expect(keyOf('not base64 but long enough to be a key of 24 bytes')).toBeNull();
  });
});

describe('news of a job', () => {
  const about = { name: 'toy', needsOperator: true };
  const event = (body: JobEventBody): JobEvent => ({ sequence: 1, at: 0, job: 'a', ...body });
  const checkpoint = (round: number, heldOutLoss: number | null): JobEvent =>
    event({ type: 'checkpoint', round, heldOutLoss } as JobEventBody);

  it('tells of a rising loss once, until it has fallen again', () => {
    const told: string[] = [];
    let memory: LossMemory = { lowest: null, isUp: false };
    for (const [round, loss] of [3, 2, 2.01, 2.03, 2.1, null, 2.01, 2.05, 1.9].entries()) {
      const result = newsOf(checkpoint(round, loss), memory, about);
      memory = result.memory;
      if (result.news) told.push(`${round} ${result.news.type}`);
    }
    expect(told).toEqual(['3 loss-up', '7 loss-up']);
    expect(memory).toEqual({ lowest: 1.9, isUp: false });
  });

  it('compares with the restored checkpoint after a roll-back', () => {
    const rolledBack = event({ type: 'rolled-back', round: 5, to: 2, heldOutLoss: 2.5 } as JobEventBody);
    const { memory } = newsOf(rolledBack, { lowest: 2, isUp: true }, about);
    expect(newsOf(checkpoint(6, 2.51), memory, about).news).toBeNull();
    expect(newsOf(checkpoint(6, 2.6), memory, about).news).toMatchObject({ data: { lowestLoss: 2.5 } });
  });

  it('calls a job finished only if it was not stopped', () => {
    const memory = { lowest: null, isUp: false };
    const losses = { round: 3, heldOutLoss: 2, baseLoss: 4 };
    const done = newsOf(event({ type: 'finished', ...losses }), memory, about).news;
    expect(done).toMatchObject({ type: 'job-finished', data: losses });
    const stopped = newsOf(event({ type: 'finished', ...losses, stopReason: 'not needed' }), memory, about);
    expect(stopped.news).toMatchObject({ type: 'job-stopped', data: { ...losses, reason: 'not needed' } });
  });

  it('tells of a pause only if the job paused itself, and makes texts of strangers safe', () => {
    const paused = event({ type: 'paused', reason: 'bad\u001b[31m' });
    const memory = { lowest: null, isUp: false };
    expect(newsOf(paused, memory, { ...about, needsOperator: false }).news).toBeNull();
    const { news } = newsOf(paused, memory, about);
    expect(news).toMatchObject({ type: 'job-paused' });
    expect(JSON.stringify(news)).not.toContain('u001b');
  });
});

describe('private addresses', () => {
  it.each([
    '127.0.0.1',
    '10.1.2.3',
    '192.168.1.1',
    '172.31.0.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '::1',
    '::',
    'fd00::1',
    'fe80::1',
    '::ffff:10.0.0.1',
    '64:ff9b::a00:1',
  ])('%s is private', (address) => expect(isPrivateAddress(address)).toBe(true));

  it.each(['1.1.1.1', '172.32.0.1', '2606:4700::1111', '::ffff:1.1.1.1'])('%s is public', (address) => {
    expect(isPrivateAddress(address)).toBe(false);
  });

  it('get no request, whether the URL has the address or a name', async () => {
    const signal = new AbortController().signal;
    const request = { headers: {}, body: '{}', allowPrivate: false, signal };
    for (const url of [
      'http://127.0.0.1:1/',
      'http://[::1]:1/',
      'http://2130706433:1/',
      'https://inside.test:1/',
    ]) {
      const lookup = async () => [{ address: '10.0.0.1', family: 4 }];
      await expect(postOverHttp({ ...request, url }, { lookup }), url).rejects.toMatchObject({
        code: 'WEBHOOK_PRIVATE',
      });
    }
  });
});

describe('an opened webhook', () => {
  it.each([
    [{ url: 'http://127.0.0.1:1/hook' }, 1],
    [{ url: 'http://localhost:1/hook' }, 1],
    [{ url: 'http://127.0.0.1:1/hook', allowPrivate: true }, 0],
    [{ url: 'https://a.test/hook' }, 0],
  ])('warns of a private address that is not allowed: %j', async (setting, count) => {
    const warnings: string[] = [];
    const log: Logger = { ...silentLogger, warn: (_, action) => void warnings.push(action) };
    const coordinator = { jobs: () => [], onEvent: () => () => {} } as unknown as Coordinator;
    const options = { home: await temporaryFolder(), given: [setting], version: '1.2.3' };
    await openWebhooks(options, { coordinator, store: {} as Store, clock: systemClock, log });
    expect(warnings).toEqual(Array(count).fill('webhook-private'));
  });
});

describe('the settings of webhooks', () => {
  it('come from the file and the command line, and share one secret that only the owner can read', async () => {
    const home = await temporaryFolder();
    const own = newSecret();
    const file = join(home, 'webhooks.yaml');
    await writeFile(
      file,
      `webhooks:\n  - url: https://a.test/x?token=1\n    events: [loss-up]\n  - url: https://b.test\n    secret: ${own}\n`,
    );
    await chmod(file, 0o644);
    const given = [{ url: 'https://c.test/y' }, { url: 'https://a.test/x?token=1', allowPrivate: true }];
    const targets = await loadWebhooks(home, given);
    expect(targets.map(({ shown, events, allowPrivate }) => [shown, events.length, allowPrivate])).toEqual([
      ['https://a.test/…', 1, true],
      ['https://b.test', 5, false],
      ['https://c.test/…', 5, false],
    ]);
    expect(targets[1]!.key).toEqual(keyOf(own));
    expect(targets[0]!.key).toEqual(targets[2]!.key);
    const secret = join(home, 'webhook-secret');
    expect(targets[0]!.key).toEqual(keyOf((await readFile(secret, 'utf8')).trim()));
    expect((await loadWebhooks(home, given))[2]!.key).toEqual(targets[2]!.key);
    if (process.platform === 'win32') return;
    for (const path of [secret, file]) expect((await stat(path)).mode & 0o077, path).toBe(0);
  });

  it.each([
    ['webhooks: [{ url: "ftp://a.test/hidden" }]', 'webhooks.0.url'],
    ['webhooks: [{ url: "https://a.test", secret: hidden }]', 'webhooks.0.secret'],
    ['webhooks: [{ url: "https://a.test", events: [hidden] }]', 'webhooks.0.events'],
    ['webhooks: [{ url: hidden', 'not YAML'],
  ])('are refused without quoting what can be secret: %s', async (text, problem) => {
    const home = await temporaryFolder();
    await writeFile(join(home, 'webhooks.yaml'), text);
    const error = await loadWebhooks(home, []).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({ code: 'WEBHOOKS_INVALID', message: expect.stringContaining(problem) });
    expect((error as Error).message).not.toContain('hidden');
    // The page that the advice names must have an example of the file.
    const [page] = /docs\/[\w-]+\.md/.exec((error as SwarmError).next!)!;
    expect(await readFile(join(import.meta.dirname, '../../../..', page), 'utf8')).toContain('webhooks.yaml');
  });

  it('need no secret if there are no webhooks', async () => {
    const home = await temporaryFolder();
    expect(await loadWebhooks(home, [])).toEqual([]);
    await expect(stat(join(home, 'webhook-secret'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
