import { describe, expect, it } from 'vitest';
import { importOffences } from '../../utils/import-rules.ts';
import { SHIPPED, sourcesIn } from '../../utils/sources.ts';

describe('the house', () => {
  it('keeps its import rules', () => {
    const files = sourcesIn([...SHIPPED, 'scripts', 'test']);
    expect(files.length).toBeGreaterThan(50);
    const offences = files.flatMap(({ path, text }) => importOffences(path, text));
    expect(offences).toEqual([]);
  });
});

describe('import rules', () => {
  it('name file and line of a folder that is imported against the rules', () => {
    expect(importOffences('protocol/a.ts', "// why\nimport { x } from '../net/x.ts';\n")).toEqual([
      'protocol/a.ts:2: protocol may not import net (../net/x.ts)',
    ]);
    expect(
      importOffences('node/phases/a.ts', "import type { X } from '../../coordinator/x.ts';"),
    ).toHaveLength(1);
    expect(importOffences('cli/a.ts', "const x = await import('../scripts/x.ts');")).toHaveLength(1);
    expect(importOffences('net/a.ts', "export * from '../monitor/x.ts';")).toHaveLength(1);
    expect(importOffences('lora/a.ts', "import {\n  a,\n  b,\n} from '../net/x.ts';\n")[0]).toMatch(
      /^lora\/a\.ts:4/,
    );
    expect(importOffences('node/a.ts', "import { x } from '../net/x.ts';\nimport './b.ts';")).toEqual([]);
  });

  it('keep libp2p in net, onnxruntime and TensorFlow.js in lora/engines', () => {
    expect(importOffences('node/a.ts', "import { x } from '@libp2p/interface';")).toHaveLength(1);
    expect(importOffences('net/a.ts', "import { x } from '@libp2p/interface';")).toEqual([]);
    expect(importOffences('lora/train/a.ts', "import ort from 'onnxruntime-node';")).toHaveLength(1);
    expect(
      importOffences('lora/graph/a.ts', "import type * as tf from '@tensorflow/tfjs-core';"),
    ).toHaveLength(1);
    expect(importOffences('lora/engines/onnx/a.ts', "import ort from 'onnxruntime-node';")).toEqual([]);
    expect(importOffences('test/unit/a.ts', "import ort from 'onnxruntime-node';")).toEqual([]);
  });

  it('keep clocks, randomness, timers and the process environment where they belong', () => {
    expect(importOffences('coordinator/round/round-machine.ts', 'const t = Date.now();\n')).toHaveLength(1);
    expect(importOffences('lora/update/a.ts', 'x();\nMath.random();\nsetTimeout(x, 1);')).toEqual([
      'lora/update/a.ts:2: uses Math.random; it must be passed in',
      'lora/update/a.ts:3: uses a timer; it must be passed in',
    ]);
    expect(importOffences('coordinator/store.ts', 'const t = Date.now();')).toEqual([]);
    expect(importOffences('net/a.ts', 'process.env.HOME')).toHaveLength(1);
    expect(importOffences('cli/context.ts', 'process.env.HOME')).toEqual([]);
  });

  it('keep unit tests apart from the simulation and from tests with processes', () => {
    expect(importOffences('test/unit/node/a.test.ts', "import { x } from '../../sim/x.ts';")).toHaveLength(1);
    expect(importOffences('test/utils/a.ts', "import { x } from '../e2e/x.ts';")).toHaveLength(1);
    expect(importOffences('test/sim/a.ts', "import { x } from '../utils/x.ts';")).toEqual([]);
  });

  it('do not read comments, and ask for the .ts of a file', () => {
    expect(importOffences('protocol/a.ts', "/* Date.now */ // Math.random\nconst s = '//';")).toEqual([]);
    expect(importOffences('net/a.ts', "import { x } from './b';")).toHaveLength(1);
  });
});
