/** The import rules of docs/architecture.md, as a function from a source file to its offences. */
import { posix } from 'node:path';
import { SHIPPED } from './sources.ts';
import { declaredNames, importsOf, type Node, nameOf, parseModule, referencesOf } from './syntax.ts';

const LIBRARY_FOLDERS = SHIPPED.filter((name) => name !== 'index.ts' && name !== 'cli');

/** Top folders that each top folder, and index.ts, may import besides itself. Other files are not checked. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  common: [],
  protocol: ['common'],
  storage: ['common', 'protocol'],
  lora: ['common', 'protocol'],
  net: ['common', 'protocol', 'storage'],
  monitor: ['common', 'protocol'],
  registry: ['common', 'protocol', 'storage', 'lora', 'net'],
  verify: ['common', 'protocol', 'storage', 'lora', 'net'],
  node: ['common', 'protocol', 'storage', 'lora', 'net', 'monitor', 'registry', 'verify'],
  coordinator: ['common', 'protocol', 'storage', 'lora', 'net', 'monitor', 'registry', 'verify'],
  serve: ['common', 'protocol', 'storage', 'lora', 'net', 'monitor', 'registry'],
  'index.ts': LIBRARY_FOLDERS,
  cli: [...LIBRARY_FOLDERS, 'index.ts'],
  // Programs of users: they import the package by its name.
  examples: [],
  scripts: [...LIBRARY_FOLDERS, 'index.ts', 'cli', 'test'],
  test: [...LIBRARY_FOLDERS, 'index.ts', 'cli', 'scripts'],
};

/** Packages that only one folder may import. Tests and scripts may import any package. */
const ONLY_IN: readonly { packages: RegExp; place: RegExp; name: string }[] = [
  { packages: /^(onnxruntime|@tensorflow\/)/, place: /^lora\/engines\//, name: 'lora/engines' },
  { packages: /^(preact|htm|uplot)($|\/)/, place: /^monitor\/web\//, name: 'monitor/web' },
  { packages: /^(libp2p($|\/)|@libp2p\/|@chainsafe\/)/, place: /^net\//, name: 'net' },
];

/** Files outside cli that may use process.env: for defaults of options, and for variables that a native library reads. */
const USES_ENVIRONMENT = [
  'common/environment.ts',
  'lora/engines/telemetry.ts',
  'lora/engines/tfjs/environment.ts',
];

/** Files outside scripts and test that may compute the argument of import(), because they look for an optional package. */
const COMPUTED_IMPORTS = ['lora/engines/tfjs/packages.ts', 'cli/demo/data.ts'];

/** Files whose functions must depend only on their arguments, so that anyone can compute the results again. */
const PURE = /^(protocol\/|lora\/graph\/|lora\/update\/|coordinator\/round\/|node\/machine\/)/;
/** Globals that pure files may not use, except for the members in `may`. */
const IMPURE: readonly { global: string; may?: readonly string[] }[] = [
  { global: 'Date', may: ['UTC', 'parse'] },
  { global: 'Math', may: Object.getOwnPropertyNames(Math).filter((name) => name !== 'random') },
  { global: 'performance' },
  { global: 'process' },
  { global: 'crypto', may: ['subtle'] },
  { global: 'setTimeout' },
  { global: 'setInterval' },
  { global: 'setImmediate' },
  { global: 'globalThis' },
];
/** Modules from which pure files may import nothing, or only exports that match `may`. */
const IMPURE_MODULES: readonly { target: RegExp; may?: RegExp }[] = [
  { target: /^(node:)?(timers(\/promises)?|perf_hooks)$/ },
  {
    target: /^(node:)?crypto$/,
    may: /^(create\w+|diffieHellman|hkdfSync|sign|verify|timingSafeEqual|KeyObject)$/,
  },
  { target: /(^|\/)common\/system-clock\.ts$/ },
];

/**
 * A folder that only files directly in `coordinator` import. A repair changes what the other folders of the coordinator
 * record, so an import in the other direction would make a cycle of folders.
 */
const RECOVERY = 'coordinator/recovery';

/** Unit tests and test helpers import nothing from the slower tests. */
const SHARED_BY_TESTS = /^test\/(unit|utils)\//;
const SLOW_TESTS = /^test\/(sim|e2e|interop)\//;

/** Returns the offences as "file:line: what is wrong"; `file` is relative to the repository with forward slashes. */
export function importOffences(file: string, source: string): string[] {
  const folder = file.split('/')[0]!;
  const allowed = MAY_IMPORT[folder];
  if (allowed === undefined) return [];
  const program = parseModule({ path: file, text: source });
  const free = folder === 'scripts' || folder === 'test';
  const isProgram = folder === 'cli' || folder === 'examples';
  const isPure = PURE.test(file);
  const offences: { start: number; text: string }[] = [];
  const add = (start: number, text: string): void => {
    offences.push({ start, text });
  };

  for (const { target, start, names } of importsOf(program)) {
    if (target === null) {
      if (!free && !COMPUTED_IMPORTS.includes(file)) add(start, 'imports a module whose name is computed');
      continue;
    }
    const path = target.startsWith('.') ? posix.join(posix.dirname(file), target) : target;
    if (isPure) {
      const rule = IMPURE_MODULES.find((rule) => rule.target.test(path));
      if (rule !== undefined && !names.every((name) => rule.may?.test(name))) {
        add(start, `imports ${names.join(', ')} of ${target}; it must be passed in`);
      }
    }
    if (!target.startsWith('.')) {
      for (const rule of ONLY_IN) {
        if (!free && rule.packages.test(target) && !rule.place.test(file)) {
          add(start, `imports ${target}, which only ${rule.name} may`);
        }
      }
      if (folder === 'examples' && !/^(node:|lora-swarm($|\/))/.test(target)) {
        add(start, `imports ${target}; examples import node: and lora-swarm only`);
      }
      if (!free && folder !== 'examples' && /^lora-swarm($|\/)/.test(target)) {
        add(start, `imports ${target}, the package itself`);
      }
      if (!free && !isProgram && /^(node:)?process$/.test(target)) {
        add(start, `imports ${target}; use the global process, whose uses are checked`);
      }
      continue;
    }
    const to = path.split('/')[0]!;
    if (
      !free &&
      path.startsWith(`${RECOVERY}/`) &&
      !['coordinator', RECOVERY].includes(posix.dirname(file))
    ) {
      add(start, `imports ${target}, which only files directly in coordinator may`);
    }
    if (SHARED_BY_TESTS.test(file) && SLOW_TESTS.test(path))
      add(start, `imports ${target}; move it to test/utils`);
    if (to !== folder && !allowed.includes(to)) add(start, `${folder} may not import ${to} (${target})`);
    if (!/\.(ts|js|json)$/.test(target)) add(start, `imports ${target} without its .ts`);
  }

  const checksProcess = !free && !isProgram && !USES_ENVIRONMENT.includes(file) && source.includes('process');
  const declared = isPure || checksProcess ? declaredNames(program) : new Set<string>();
  const references = isPure || checksProcess ? referencesOf(program) : [];
  for (const { name, start, parent } of references) {
    const used = membersUsed(start, parent);
    if (name === 'process' && checksProcess) {
      // A local variable may have the name `process` too, but no such variable of this project has these members.
      const isOther = used === null && !declared.has(name);
      if (isOther || used?.some((member) => /^(env|argv|argv0|execArgv|\*)$/.test(member))) {
        add(start, 'can read process.env or process.argv, which only cli may');
      }
    }
    const impure = isPure && !declared.has(name) ? IMPURE.find(({ global }) => global === name) : undefined;
    if (impure !== undefined) {
      const isDate = name === 'Date' && parent.type === 'NewExpression';
      const isFixed = isDate && (parent.arguments as unknown[]).length > 0;
      const allowed = used?.every((member) => impure.may?.includes(member)) ?? false;
      if (!isFixed && !allowed) {
        add(start, `uses ${[name, ...(used ?? [])].join('.')}; it must be passed in`);
      }
    }
  }
  return offences
    .sort((a, b) => a.start - b.start)
    .map(({ start, text }) => `${file}:${source.slice(0, start).split('\n').length}: ${text}`);
}

/** Returns the members that the code takes of an object: `a.b`, `a['b']`, `const { b } = a`; null for any other use. */
function membersUsed(start: number, parent: Node): string[] | null {
  const isObject = (node: unknown): boolean => (node as Node | null)?.start === start;
  if (parent.type === 'MemberExpression' && isObject(parent.object)) {
    const property = parent.property as Node;
    return [parent.computed && property.type !== 'Literal' ? '*' : nameOf(property)];
  }
  const pattern = parent.type === 'VariableDeclarator' && isObject(parent.init) ? (parent.id as Node) : null;
  if (pattern?.type !== 'ObjectPattern') return null;
  return (pattern.properties as Node[]).map((property) =>
    property.type === 'Property' && !property.computed ? nameOf(property.key as Node) : '*',
  );
}
