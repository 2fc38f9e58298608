import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createProgram } from '../../../../cli/program.ts';
import { CheckpointFolder } from '../../../../lora/finetune/checkpoints.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../../../utils/models/tiny-model.ts';

it('a resumed run computes as the config file says now', async () => {
  const cwd = await temporaryFolder();
  const base = await makeTinyModel(join(cwd, 'model'));
  await writeFile(join(cwd, 'data.txt'), TINY_TEXT);
  const train = async (steps: number, machine: object): Promise<void> => {
    const size = { training: { sequenceLength: 16, batchSize: 2, schedule: 'constant', warmupSteps: 0 } };
    const config = { base, data: { train: ['data.txt'] }, output: 'out', engine: 'onnx-cpu', ...size };
    await writeFile(
      join(cwd, 'c.yaml'),
      JSON.stringify({ ...config, lora: { rank: 2 }, run: { steps }, ...machine }),
    );
    const { context } = fakeContext({ cwd, environment: { SWARM_CACHE: join(cwd, 'cache') } });
    const args = ['train', '--config', 'c.yaml', '--resume', '--threads', '1'];
    await createProgram(context).parseAsync(args, { from: 'user' });
  };
  const settings = async () =>
    (await new CheckpointFolder({ output: join(cwd, 'out'), keep: 1 }).newest())!.settings;

  await train(1, {});
  expect(await settings()).toMatchObject({ totalSteps: 1, checkpointing: 'auto' });
  await train(2, { gradientCheckpointing: true });
  expect(await settings()).toMatchObject({ totalSteps: 2, checkpointing: true });
  // If the config file lacks the key, the run uses the setting of the checkpoint.
  await train(3, {});
  expect(await settings()).toMatchObject({ totalSteps: 3, checkpointing: true });
  await expect(train(4, { baseBits: 8 })).rejects.toMatchObject({
    code: 'RESUME_CONFLICT',
    values: { differences: [{ field: 'baseBits', before: 32, now: 8 }] },
  });
});
