import { describe, expect, it } from 'vitest';
import { importOffences } from '../../utils/source/import-rules.ts';
import { exportedNames, importsPastLibrary } from '../../utils/source/library-names.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

describe('the repository', () => {
  it('keeps its import rules', () => {
    const files = sourcesIn([...SHIPPED, 'examples', 'scripts', 'test']);
    expect(files.length).toBeGreaterThan(50);
    const offences = files.flatMap(({ path, text }) => importOffences(path, text));
    expect(offences).toEqual([]);
  });

  it('has a command line that imports from index.ts everything that index.ts exports', () => {
    const [index] = sourcesIn(['index.ts']);
    const names = exportedNames(index!.text);
    expect(names).toContain('finetune');
    expect(names).toContain('ComputeInput');
    expect(sourcesIn(['cli']).flatMap((file) => importsPastLibrary(file, names))).toEqual([]);
  });
});

describe('imports that bypass index.ts', () => {
  it('are listed with their file, whether they are static, dynamic or of types only', () => {
    const names = exportedNames(
      "export { a, type B } from './lora/x.ts';\nexport async function c() {}\nexport type { D };",
    );
    expect([...names].sort()).toEqual(['B', 'D', 'a', 'c']);
    const of = (path: string, text: string) => importsPastLibrary({ path, text }, names);
    expect(of('cli/x.ts', "import { a, e } from '../lora/x.ts';")).toEqual(['cli/x.ts: a (../lora/x.ts)']);
    expect(of('cli/views/x.ts', "import type { B } from '../../lora/x.ts';")).toHaveLength(1);
    expect(of('cli/x.ts', "const { c: d } = await import('../lora/x.ts');")).toHaveLength(1);
    for (const text of [
      "(await import('../lora/x.ts')).a();",
      'const { a } = await import(`../lora/x.ts`);',
      "const [{ e }, { a }] = await Promise.all([import('../lora/e.ts'), import('../lora/x.ts')]);",
      "export { a as b } from '../lora/x.ts';",
      "export * from '../lora/x.ts';",
      "import * as x from '../lora/x.ts';",
      "const x = await import('../lora/x.ts');",
      "void import('../lora/x.ts').then((x) => x.a());",
      "let x: import('../lora/x.ts').B;",
    ]) {
      expect(of('cli/x.ts', text), text).toHaveLength(1);
    }
    expect(of('cli/x.ts', "const { e } = await import('../lora/x.ts');")).toEqual([]);
    expect(of('cli/x.ts', "import { a } from '../index.ts';")).toEqual([]);
    expect(of('cli/views/x.ts', "import { a } from '../train/x.ts';")).toEqual([]);
  });
});

describe('import rules', () => {
  it('name file and line of a forbidden import of a folder', () => {
    expect(importOffences('protocol/a.ts', "// why\nimport { x } from '../net/x.ts';\n")).toEqual([
      expect.stringMatching(/^protocol\/a\.ts:2: .*\bprotocol\b.*\bnet\b.*\.\.\/net\/x\.ts/),
    ]);
    expect(
      importOffences('node/phases/a.ts', "import type { X } from '../../coordinator/x.ts';"),
    ).toHaveLength(1);
    expect(importOffences('cli/a.ts', "const x = await import('../scripts/x.ts');")).toHaveLength(1);
    expect(importOffences('net/a.ts', "export * from '../monitor/x.ts';")).toHaveLength(1);
    for (const folder of ['storage', 'lora', 'net']) {
      expect(importOffences('monitor/a.ts', `import { x } from '../${folder}/x.ts';`)).toHaveLength(1);
    }
    for (const text of [
      'await import(`../net/x.ts`);',
      "type T = import('../net/x.ts').T;",
      "import x = require('../net/x.ts');",
      "const x = 1; import { y } from '../net/x.ts';",
      'await import(name);',
      "await import('../' + name);",
      "import 'lora-swarm';",
    ]) {
      expect(importOffences('lora/a.ts', text), text).toHaveLength(1);
    }
    const text = "'import { x } from \\'../net/x.ts\\';'; `import('../net/x.ts')`;";
    expect(importOffences('lora/a.ts', text)).toEqual([]);
    expect(importOffences('lora/a.ts', "import {\n  a,\n  b,\n} from '../net/x.ts';\n")[0]).toMatch(
      /^lora\/a\.ts:4/,
    );
    expect(importOffences('node/a.ts', "import { x } from '../net/x.ts';\nimport './b.ts';")).toEqual([]);
  });

  it('let only the files above it import the recovery of the coordinator', () => {
    const text = "import { lostBlob } from '../recovery/lost-blobs.ts';";
    expect(importOffences('coordinator/merge/a.ts', text)).toEqual([
      expect.stringMatching(/^coordinator\/merge\/a\.ts:1: .*recovery.*directly in coordinator/),
    ]);
    expect(importOffences('coordinator/a.ts', "import { x } from './recovery/x.ts';")).toEqual([]);
    expect(importOffences('coordinator/recovery/a.ts', "import { x } from './x.ts';")).toEqual([]);
  });

  it('keep libp2p in net, onnxruntime and TensorFlow.js in lora/engines', () => {
    expect(importOffences('node/a.ts', "import { x } from '@libp2p/interface';")).toHaveLength(1);
    expect(importOffences('node/a.ts', "import { x } from 'libp2p/version';")).toHaveLength(1);
    expect(importOffences('net/a.ts', "import { x } from '@libp2p/interface';")).toEqual([]);
    expect(importOffences('lora/train/a.ts', "import ort from 'onnxruntime-node';")).toHaveLength(1);
    expect(
      importOffences('lora/graph/a.ts', "import type * as tf from '@tensorflow/tfjs-core';"),
    ).toHaveLength(1);
    expect(importOffences('lora/engines/onnx/a.ts', "import ort from 'onnxruntime-node';")).toEqual([]);
    expect(importOffences('test/unit/a.ts', "import ort from 'onnxruntime-node';")).toEqual([]);
  });

  it('keep the packages of the page in monitor/web, which imports nothing from the daemons', () => {
    expect(importOffences('monitor/page.ts', "import { h } from 'preact';")).toHaveLength(1);
    const text =
      "import { html } from 'htm/preact';\nimport type { X } from '../../protocol/api/coordinator.ts';";
    expect(importOffences('monitor/web/main.ts', text)).toEqual([]);
    expect(
      importOffences('monitor/web/main.ts', "import type { X } from '../../coordinator/api/views.ts';"),
    ).toHaveLength(1);
  });

  it('let only some files use clocks, random numbers, timers and the process environment', () => {
    expect(importOffences('coordinator/round/round-machine.ts', 'const t = Date.now();\n')).toHaveLength(1);
    expect(importOffences('lora/update/a.ts', 'x();\nMath.random();\nsetTimeout(x, 1);')).toEqual([
      expect.stringMatching(/^lora\/update\/a\.ts:2: .*Math\.random/),
      expect.stringMatching(/^lora\/update\/a\.ts:3: .*setTimeout/),
    ]);
    for (const text of [
      'new Date();',
      'new Date;',
      'Date();',
      'const { now } = Date;',
      'const D = Date;',
      "Date['now']();",
      'const { random } = Math;',
      'performance.now();',
      'process.hrtime();',
      'globalThis.setTimeout(f, 1);',
      "import { systemClock } from '../../common/system-clock.ts';",
      "import { hrtime } from 'node:process';",
      "import { setTimeout } from 'node:timers/promises';",
      "import { randomBytes } from 'node:crypto';",
      "import * as crypto from 'node:crypto';",
      'crypto.getRandomValues(bytes);',
    ]) {
      expect(importOffences('lora/update/a.ts', text), text).toHaveLength(1);
    }
    expect(
      importOffences('lora/update/a.ts', 'new Date(0); Date.UTC(1); Math.max(1); type T = Date;'),
    ).toEqual([]);
    expect(importOffences('lora/update/a.ts', "import { createHash } from 'node:crypto';")).toEqual([]);
    expect(importOffences('coordinator/store.ts', 'const t = Date.now();')).toEqual([]);
    for (const text of [
      'process.env.HOME',
      "process['argv']",
      'process?.env',
      'const { env } = process;',
      'const { pid, ...rest } = process;',
      'const p = process;',
      'f(process);',
      "import process from 'node:process';",
      "import { env } from 'process';",
    ]) {
      expect(importOffences('net/a.ts', text), text).toHaveLength(1);
    }
    expect(importOffences('net/a.ts', 'const { pid } = process; process.cwd();')).toEqual([]);
    expect(importOffences('net/a.ts', 'function f(process: X) { process.train(); g(process); }')).toEqual([]);
    expect(importOffences('cli/context.ts', 'process.env.HOME')).toEqual([]);
  });

  it('keep unit tests apart from the simulation and from tests with processes', () => {
    expect(importOffences('test/unit/node/a.test.ts', "import { x } from '../../sim/x.ts';")).toHaveLength(1);
    expect(importOffences('test/utils/a.ts', "import { x } from '../e2e/x.ts';")).toHaveLength(1);
    expect(importOffences('test/sim/a.ts', "import { x } from '../utils/x.ts';")).toEqual([]);
  });

  it('let only the command line import index.ts, and let examples import the package by its name', () => {
    expect(importOffences('index.ts', "import { x } from './node/x.ts';")).toEqual([]);
    expect(importOffences('index.ts', "import { x } from './cli/x.ts';")).toHaveLength(1);
    expect(importOffences('cli/a.ts', "import { x } from '../index.ts';")).toEqual([]);
    expect(importOffences('lora/a.ts', "import { x } from '../index.ts';")).toHaveLength(1);
    expect(importOffences('examples/a.ts', "import { x } from 'lora-swarm/update';")).toEqual([]);
    expect(importOffences('examples/a.ts', "import { x } from '../lora/x.ts';")).toHaveLength(1);
    expect(importOffences('examples/a.ts', "import { z } from 'zod';")).toHaveLength(1);
  });

  it('ignore comments, and require the extension .ts', () => {
    expect(importOffences('protocol/a.ts', "/* Date.now */ // Math.random\nconst s = '//';")).toEqual([]);
    expect(importOffences('net/a.ts', "import { x } from './b';")).toHaveLength(1);
  });
});
