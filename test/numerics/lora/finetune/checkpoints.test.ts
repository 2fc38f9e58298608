import { fork } from 'node:child_process';
import { appendFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CheckpointFolder } from '../../../../lora/finetune/checkpoints.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { trainingState } from '../../../utils/swarm/checkpoints.ts';

const WRITER = fileURLToPath(new URL('../../../utils/swarm/checkpoint-writer.ts', import.meta.url));

async function write(
  folder: CheckpointFolder,
  step: number,
  ...change: [Parameters<typeof trainingState>[1]?]
) {
  const { about, ...state } = trainingState(step, ...change);
  return folder.write(state, about);
}

describe('checkpoints of a run', () => {
  it('are restored bit for bit', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 2 });
    const { about, adapter, optimizer, state } = trainingState(7, { seconds: 0.1 + 0.2, loss: 1 / 3 });
    await write(folder, 7, { seconds: 0.1 + 0.2, loss: 1 / 3 });
    const found = await folder.newest();
    expect(found).toEqual({ ...state, digests: expect.any(Object) });
    expect(await folder.load(7, about.layout)).toEqual({ adapter, optimizer });
  });

  it('keeps the newest and the best, and no incomplete one', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 2 });
    const best = { step: 2, loss: 1 };
    for (const step of [1, 2, 3, 4, 5]) {
      await mkdir(join(folder.path, `.step-0000000${step}.partial`), { recursive: true });
      await write(folder, step, { best: step >= 2 ? best : null });
    }
    expect(await readdir(folder.path)).toEqual(['step-00000002', 'step-00000004', 'step-00000005']);
    await write(folder, 6, { best: { step: 5, loss: 0.5 } });
    expect(await folder.steps()).toEqual([6, 5]);
  });

  it('skips a damaged one, and reports it', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 5 });
    for (const step of [1, 2, 3, 4]) await write(folder, step);
    await appendFile(join(folder.path, 'step-00000004/adapter_model.safetensors'), 'x');
    await writeFile(join(folder.path, 'step-00000003/state.json'), '{"schemaVersion": 2}');
    await rm(join(folder.path, 'step-00000002/optimizer.bin'));
    const damaged: string[] = [];
    const newest = await folder.newest((error) => damaged.push(error.code));
    expect(newest?.step).toBe(1);
    expect(damaged).toEqual(['TRAIN_CHECKPOINT', 'TRAIN_CHECKPOINT', 'TRAIN_CHECKPOINT']);
  });

  it('the same step again replaces only the state file', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 1 });
    await write(folder, 3);
    await write(folder, 3, { heldOutLoss: 2, finished: 'steps' });
    expect(await folder.newest()).toMatchObject({ step: 3, heldOutLoss: 2, finished: 'steps' });
    expect(await readdir(folder.path)).toEqual(['step-00000003']);
  });

  it('leave no files if writing fails', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 1 });
    await write(folder, 3);
    const { about, ...state } = trainingState(4);
    const wrong = { ...about, layout: about.layout.slice(1) };
    await expect(folder.write(state, wrong)).rejects.toMatchObject({ code: 'ADAPTER_TENSORS' });
    expect(await readdir(folder.path)).toEqual(['step-00000003']);
  });

  it('advise how to continue if the disk is full', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 1 });
    const { about, ...state } = trainingState(4);
    // When the disk is full, the first write of a checkpoint fails with this error of the system.
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
      ...{ code: 'ENOSPC', syscall: 'write' },
    });
    const tensors = new Proxy(state.adapter, {
      get(target, key, receiver) {
        if (key === 'length') throw full;
        return Reflect.get(target, key, receiver);
      },
    });
    await expect(folder.write({ ...state, adapter: tensors }, about)).rejects.toMatchObject({
      code: 'STORE_FULL',
      next: expect.stringContaining(`--resume --output ${output}`),
    });
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('are an error, not absent, if the folder cannot be read', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 1 });
    expect(await folder.steps()).toEqual([]);
    // A file takes the place of the folder, so that reading fails. It would not be enough to remove the read
    // permission, because root could still read the folder.
    await writeFile(folder.path, '');
    await expect(folder.steps()).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(folder.newest()).rejects.toMatchObject({ code: 'ENOTDIR' });
  });

  it('are deleted, and other files are not', async () => {
    const output = await temporaryFolder();
    const folder = new CheckpointFolder({ output, keep: 1 });
    await write(folder, 3);
    await writeFile(join(folder.path, 'mine.txt'), '');
    await folder.clear();
    expect(await readdir(folder.path)).toEqual(['mine.txt']);
  });

  it('after a kill at any moment, the newest or the one before is intact', {
    timeout: 120_000,
  }, async () => {
    for (const [round, target] of [3, 5, 6, 9, 12, 14, 17, 23].entries()) {
      const output = await temporaryFolder();
      const child = fork(WRITER, [output], { execArgv: [] });
      const closed = new Promise((resolve) => child.on('close', resolve));
      let announced = 0;
      child.on('message', (step: number) => {
        announced = step;
        // Each run is killed at another moment of the write, after another number of turns of the event loop.
        if (step === target) turns(7 * round).then(() => child.kill('SIGKILL'));
      });
      await closed;
      const damaged: unknown[] = [];
      const newest = await new CheckpointFolder({ output, keep: 1 }).newest((error) => damaged.push(error));
      expect(damaged).toEqual([]);
      expect(newest!.step).toBeGreaterThanOrEqual(announced - 2);
    }
  });
});

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}
