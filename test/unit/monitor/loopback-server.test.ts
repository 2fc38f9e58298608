import Fastify from 'fastify';
import { expect, it, onTestFinished } from 'vitest';
import { listenOnLoopback } from '../../../monitor/loopback-server.ts';
import { withCode } from '../../utils/source/codes.ts';

function server() {
  const made = Fastify();
  onTestFinished(() => made.close());
  return made;
}

it('listens on a free port, and refuses a port in use as a conflict that names it', async () => {
  const url = await listenOnLoopback(server(), 0);
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  const listen = url.slice('http://'.length);
  const again = listenOnLoopback(server(), Number(new URL(url).port));
  await expect(again).rejects.toEqual(withCode('LISTEN_FAILED', { listen }));
  await expect(again).rejects.toMatchObject({
    kind: 'conflict',
    message: expect.stringContaining('EADDRINUSE'),
    next: expect.stringContaining('port 0'),
  });
});
