import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseModel, openBase } from '../../../lora/models/base/base-model.ts';
import { readTensor } from '../../../lora/models/weights/safetensors.ts';
import { writeSafetensors } from '../../../lora/models/weights/safetensors-writer.ts';

/** Copies a base to `dir` with its weights widened to float32, and changed by `change`. */
export async function inFloat32(
  model: BaseModel,
  dir: string,
  change: (parameter: string, values: Float32Array) => void = () => {},
): Promise<BaseModel> {
  await mkdir(dir, { recursive: true });
  for (const file of ['config.json', 'tokenizer.json'])
    await copyFile(join(model.dir, file), join(dir, file));
  const names = model.architecture.parameters(model.config).map(({ name }) => name);
  const tensors = names.map(async (name) => {
    const { file, entry } = model.tensors.get(name)!;
    const data = await readTensor(join(model.dir, file), entry);
    change(name, data);
    return { name, dtype: 'F32' as const, shape: entry.shape, data };
  });
  await writeSafetensors(join(dir, 'model.safetensors'), await Promise.all(tensors));
  return openBase(dir);
}
