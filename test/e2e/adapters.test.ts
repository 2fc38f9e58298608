import { join } from 'node:path';
import { expect, it } from 'vitest';
import { initialAdapter } from '../../lora/adapter/initial.ts';
import { readPeftFolder } from '../../lora/adapter/peft.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { openRegistry } from '../../registry/open.ts';
import { eventually } from '../utils/eventually.ts';
import { TestSwarm } from './swarm.ts';

/** Waits until the coordinator has added a checkpoint to the registry, and checks the files of the version. */
async function inRegistry(job: string, checkpoint: string): Promise<void> {
  const registry = await openRegistry();
  try {
    const find = () => registry.versions('tale').find(({ manifest }) => manifest.job?.digest === job);
    const version = await eventually(find, { what: 'the version of the job' });
    expect(version.manifest.job?.checkpoint).toBe(checkpoint);
    expect(version.manifest.settings['lora.rankPattern']).toBe('{"layers.1.*":2,"q_proj|v_proj":3}');
    await registry.folder(version);
  } finally {
    registry.close();
  }
}

it('a swarm trains magnitudes, saved modules and B with dropout, and does not change a frozen A', async () => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  const lora = {
    useDora: true,
    useRslora: true,
    dropout: 0.1,
    freezeA: true,
    rankPattern: { 'layers.1.*': 2, 'q_proj|v_proj': 3 },
    excludeModules: ['o_proj'],
    modulesToSave: ['norm'],
    bias: 'all',
  };
  await swarm.createJob({ lora, rounds: { count: 2, localSteps: 20 } });
  for (const name of ['otter', 'heron']) swarm.node(name);
  await swarm.untilFinished();

  const checkpoints = await swarm.checkpoints();
  expect(checkpoints).toHaveLength(3);
  const model = await openBase(join(swarm.folder, 'model'));
  const last = await readPeftFolder(checkpoints.at(-1)!.path, model);
  // The weights of the initial checkpoint have been deleted, so its adapter is computed again.
  const first = await initialAdapter(model, last.lora, 0);
  expect(last.lora).toMatchObject({ useDora: true, useRslora: true, dropout: 0.1, modulesToSave: ['norm'] });
  expect(last.lora.rankPattern).toEqual(Object.entries(lora.rankPattern));
  expect(new Set(last.layout.map(({ group }) => group))).toEqual(new Set(['A', 'B', 'magnitude', 'saved']));
  expect(last.layout.find(({ name }) => name.includes('0.self_attn.q_proj.lora_A'))!.shape[0]).toBe(3);
  for (const [i, { name, group }] of last.layout.entries()) {
    const moved = last.tensors[i]!.some((value, j) => value !== first[i]![j]);
    expect(moved, name).toBe(group !== 'A');
  }
  await inRegistry(swarm.job, checkpoints.at(-1)!.digest);
}, 200_000);
