import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import type { SwarmError } from '../../../common/errors.ts';
import { writeError } from '../../../common/files/durable.ts';
import { coordinatorError } from '../../../coordinator/errors.ts';
import { adapterError } from '../../../lora/adapter/errors.ts';
import { dataFiles } from '../../../lora/data/files.ts';
import { parseDataSettings } from '../../../lora/data/settings.ts';
import { evaluateError } from '../../../lora/evaluate/errors.ts';
import { finetuneError } from '../../../lora/finetune/errors.ts';
import { resolveSpec } from '../../../lora/finetune/settings/settings.ts';
import { idleSettings } from '../../../lora/finetune/settings/warnings.ts';
import { hubError } from '../../../lora/models/hub/errors.ts';
import { netError } from '../../../net/errors.ts';
import { protocolError } from '../../../protocol/errors.ts';
import { serveError } from '../../../serve/errors.ts';
import { answeringCoordinator } from '../../utils/answering-coordinator.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';

/** Returns the advice of the error with which `run` fails. */
async function adviceOf(run: () => unknown): Promise<string | null> {
  const error = await Promise.resolve()
    .then(run)
    .catch((thrown: unknown) => thrown);
  return (error as SwarmError).next;
}

it('errors that people see have advice', () => {
  const errors = [
    adapterError('LORA_CONFIG', 'x'),
    coordinatorError('CHECKPOINT_DAMAGED', 'x'),
    coordinatorError('REQUEST_INVALID', 'x'),
    evaluateError('TASK_CHANGED', 'x'),
    finetuneError('PARTIAL_NOT_KEPT', 'x'),
    finetuneError('RATE_JUMPS', 'x'),
    hubError('HUB_FILE_MISSING', 'x'),
    hubError('HUB_TOO_LARGE', 'x'),
    netError('BLOB_UNAVAILABLE', 'x'),
    netError('RPC_TIMEOUT', 'x'),
    protocolError('PEER_ID_INVALID', 'x'),
    serveError('SERVER_REFUSED', 'x'),
    serveError('SERVE_REQUEST', 'x'),
    serveError('SERVE_STOPPING', 'x'),
  ];
  expect(errors.flatMap(({ code, next }) => (next === null ? [code] : []))).toEqual([]);
});

it('wrong settings and files come with advice', async () => {
  const file = join(await temporaryFolder(), 'notes.docx');
  await writeFile(file, 'x');
  const base = { base: '/base', data: { train: ['/data'] } };
  const full = Object.assign(new Error('denied'), { code: 'EACCES', syscall: 'open' });
  for (const run of [
    () => dataFiles([file]),
    () => parseDataSettings({ packing: 'tight' } as never),
    () => resolveSpec({ ...base, run: { steps: -1 } }),
    () => {
      throw writeError(full, file);
    },
  ]) {
    expect(await adviceOf(run)).toEqual(expect.any(String));
  }
  const idle = { run: { minDelta: 0.1 } };
  expect(idleSettings(idle, resolveSpec({ ...base, ...idle }))[0]!.next).toContain('run.minDelta');
});

it('a daemon that is not ready comes with the command that finds the cause', async () => {
  const home = await answeringCoordinator(({ url }, response) => {
    const failing = [{ check: 'disk', reason: 'full' }];
    response.statusCode = url === '/readyz' ? 503 : 200;
    response.end(JSON.stringify(url === '/readyz' ? { ok: false, failing } : { role: 'coordinator' }));
  });
  const { context } = fakeContext({ cwd: home });
  const args = ['status', '--check', '--json', '--home', home];
  const failed = createProgram(context).parseAsync(args, { from: 'user' });
  await expect(failed).rejects.toMatchObject({
    code: 'UNHEALTHY',
    next: expect.stringContaining('lora-swarm doctor --swarm'),
  });
});
