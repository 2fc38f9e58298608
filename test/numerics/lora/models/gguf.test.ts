import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exportGguf } from '../../../../lora/adapter/export-gguf.ts';
import { openModel } from '../../../../lora/evaluate/model-bundle.ts';
import { generate } from '../../../../lora/generate/generate.ts';
import type { FetchProgress } from '../../../../lora/models/hub/fetch-model.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const NANO = join(import.meta.dirname, '../../../../models/nano');

/** Greedy tokens after "It was" by llama.cpp with both files (xllamacpp 2026.10.11549, scripts/reference/check_gguf.py). */
const LLAMA_CPP = [
  260, 2924, 269, 548, 2730, 282, 299, 1728, 282, 1074, 3916, 321, 261, 920, 269, 261, 2718, 1093, 283, 261,
  1266, 269, 3638, 4088,
];

test.each(['f16', 'q8_0'] as const)(
  'models/nano as %s generates the same tokens as llama.cpp',
  async (type) => {
    const dir = await temporaryFolder();
    const cacheDir = join(dir, 'cache');
    const { file } = await exportGguf({ base: NANO, output: join(dir, 'out'), type, cacheDir });
    const converted: FetchProgress[] = [];
    const model = await openModel({
      base: file,
      cacheDir,
      compute: { engine: 'onnx-cpu', threads: 1 },
      onDownload: (progress) => converted.push(progress),
    });
    const { done, total } = converted.at(-1)!;
    expect(done).toBe(total);
    const { ids } = await generate(model, { prompt: 'It was', maxTokens: LLAMA_CPP.length });
    expect(ids).toEqual(LLAMA_CPP);
  },
);
