/** The import rules of docs/architecture.md, as a function from a source file to its offences. */
import { posix } from 'node:path';

/** The folders of the library. */
const ROOMS = ['common', 'protocol', 'storage', 'lora', 'net', 'monitor', 'node', 'coordinator'];

/** Top folders that each top folder, and index.ts, may import besides itself. Other files are not checked. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  common: [],
  protocol: ['common'],
  storage: ['common', 'protocol'],
  lora: ['common', 'protocol'],
  net: ['common', 'protocol', 'storage'],
  monitor: ['common', 'protocol', 'storage', 'lora', 'net'],
  node: ['common', 'protocol', 'storage', 'lora', 'net', 'monitor'],
  coordinator: ['common', 'protocol', 'storage', 'lora', 'net', 'monitor'],
  'index.ts': ROOMS,
  cli: [...ROOMS, 'index.ts'],
  // Programs of users: they import the package by its name.
  examples: [],
  scripts: [...ROOMS, 'index.ts', 'cli', 'test'],
  test: [...ROOMS, 'index.ts', 'cli', 'scripts'],
};

/** Packages that only one folder may import. Tests and scripts may import any package. */
const ONLY_IN: readonly { packages: RegExp; place: RegExp; name: string }[] = [
  { packages: /^(onnxruntime|@tensorflow\/)/, place: /^lora\/engines\//, name: 'lora/engines' },
  { packages: /^(libp2p$|@libp2p\/|@chainsafe\/)/, place: /^net\//, name: 'net' },
];

/** Files outside cli that may use process.env: the default of options, and variables that a native library reads. */
const USES_ENVIRONMENT = [
  'common/environment.ts',
  'lora/engines/onnx/telemetry.ts',
  'lora/engines/tfjs/environment.ts',
];

/** Files whose results may depend on arguments alone, so that they can be replayed and recomputed. */
const PURE = /^(protocol\/|lora\/graph\/|lora\/update\/|coordinator\/round\/|node\/machine\/)/;
const IMPURE: readonly { pattern: RegExp; name: string }[] = [
  { pattern: /\bDate\.now\b/, name: 'Date.now' },
  { pattern: /\bnew Date\(\s*\)/, name: 'new Date()' },
  { pattern: /\bperformance\.now\b/, name: 'performance.now' },
  { pattern: /\bMath\.random\b/, name: 'Math.random' },
  { pattern: /\b(randomBytes|randomUUID|randomInt|getRandomValues)\b/, name: 'randomness' },
  { pattern: /\b(setTimeout|setInterval|setImmediate)\b/, name: 'a timer' },
  { pattern: /['"]node:timers(\/promises)?['"]/, name: 'a timer' },
];

/** Unit tests and test helpers import nothing from the slower tests. */
const SHARED_BY_TESTS = /^test\/(unit|utils)\//;
const SLOW_TESTS = /^test\/(sim|e2e|interop)\//;

const IMPORT =
  /(?:^|[;\n}])\s*(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])([^'"\n]+)\1|(?:^|[;\n])\s*import\s*(['"])([^'"\n]+)\3|\bimport\(\s*(['"])([^'"\n]+)\5/g;

/** Returns the offences as "file:line: what is wrong"; `file` is relative to the repository with forward slashes. */
export function importOffences(file: string, source: string): string[] {
  const folder = file.split('/')[0]!;
  const allowed = MAY_IMPORT[folder];
  if (allowed === undefined) return [];
  const code = withoutComments(source);
  const free = folder === 'scripts' || folder === 'test';
  const offences: { line: number; text: string }[] = [];
  const add = (index: number, text: string): void => {
    offences.push({ line: code.slice(0, index).split('\n').length, text });
  };

  for (const match of code.matchAll(IMPORT)) {
    const target = (match[2] ?? match[4] ?? match[6])!;
    const index = match.index + match[0].lastIndexOf(target);
    if (!target.startsWith('.')) {
      for (const rule of ONLY_IN) {
        if (!free && rule.packages.test(target) && !rule.place.test(file)) {
          add(index, `imports ${target}, which only ${rule.name} may`);
        }
      }
      if (folder === 'examples' && !/^(node:|lora-swarm($|\/))/.test(target)) {
        add(index, `imports ${target}; examples import node: and lora-swarm only`);
      }
      continue;
    }
    const path = posix.join(posix.dirname(file), target);
    const to = path.split('/')[0]!;
    if (SHARED_BY_TESTS.test(file) && SLOW_TESTS.test(path))
      add(index, `imports ${target}; move it to test/utils`);
    if (to !== folder && !allowed.includes(to)) add(index, `${folder} may not import ${to} (${target})`);
    if (!/\.(ts|js|json)$/.test(target)) add(index, `imports ${target} without its .ts`);
  }

  const forbid = (pattern: RegExp, text: string): void => {
    for (const match of code.matchAll(new RegExp(pattern, 'g'))) add(match.index, text);
  };
  if (!['cli', 'examples'].includes(folder) && !free && !USES_ENVIRONMENT.includes(file)) {
    forbid(/\bprocess\.(env|argv)\b/, 'reads process.env or process.argv, which only cli may');
  }
  if (PURE.test(file)) {
    for (const { pattern, name } of IMPURE) forbid(pattern, `uses ${name}; it must be passed in`);
  }
  return offences.sort((a, b) => a.line - b.line).map(({ line, text }) => `${file}:${line}: ${text}`);
}

/** Replaces comments by blanks. Offsets, lines and strings stay. */
export function withoutComments(source: string): string {
  return source.replace(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`/g,
    (token) => (token.startsWith('/') ? token.replace(/[^\n]/g, ' ') : token),
  );
}
