import { expect, it } from 'vitest';
import { pollOwnDaemon } from '../../../../cli/daemon/run.ts';
import { coordinatorError } from '../../../../coordinator/errors.ts';

it('goes on after an answer that came too late, and ends with any other error', async () => {
  const ended = new AbortController();
  let polls = 0;
  await pollOwnDaemon(ended.signal, async () => {
    if (++polls === 1) throw coordinatorError('DAEMON_TIMEOUT', 'the process was suspended');
    ended.abort();
  });
  expect(polls).toBe(2);
  const failing = pollOwnDaemon(new AbortController().signal, async () => {
    throw coordinatorError('API_FAILED', 'broken');
  });
  await expect(failing).rejects.toMatchObject({ code: 'API_FAILED' });
});
