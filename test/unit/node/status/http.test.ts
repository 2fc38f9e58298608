import { Registry } from '@prometheus-io/client';
import { expect, it, onTestFinished, vi } from 'vitest';
import { ApiClient } from '../../../../coordinator/client/api-client.ts';
import { startNodeHttp } from '../../../../node/status/http.ts';
import { eventually } from '../../../utils/eventually.ts';

const TOKEN = 'token';

it('the fetch of a checkpoint has no deadline, and ends when the client disconnects', async () => {
  let finish: (answer: object) => void = () => {};
  let fetching: AbortSignal | null = null;
  const deps = {
    registry: new Registry(),
    checkpoint: (_job: string, signal: AbortSignal) => {
      fetching = signal;
      return new Promise((resolve) => {
        finish = resolve;
      });
    },
  };
  const { url, server } = await startNodeHttp({ port: 0, token: TOKEN }, deps as never);
  onTestFinished(() => server.close());
  const command = new AbortController();
  const client = await ApiClient.connect({ url, token: TOKEN }, { role: 'node', signal: command.signal });
  // With this replacement, every request that has a deadline fails at once.
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort());
  onTestFinished(() => timeout.mockRestore());
  const answer = client.orderNode('checkpoint', { job: 'moby' });
  await eventually(() => fetching !== null);
  finish({ weights: '/copy' });
  expect(await answer).toEqual({ weights: '/copy' });

  fetching = null;
  const aborted = expect(client.orderNode('checkpoint', { job: 'moby' })).rejects.toThrow();
  await eventually(() => fetching !== null);
  expect(fetching!.aborted).toBe(false);
  command.abort();
  await aborted;
  await eventually(() => fetching!.aborted);
});
