import { expect, it } from 'vitest';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

/**
 * Exports of Node.js 24 that Node.js 20.20 lacks, by module. '*' stands for a module that Node.js 20 lacks. A static
 * import of such a name fails before the library can say which version of Node.js it needs.
 */
const MISSING: Record<string, RegExp> = {
  assert: /^(Assert|partialDeepStrictEqual)$/,
  crypto: /^(argon2|argon2Sync|decapsulate|encapsulate|randomUUIDv7)$/,
  dns: /^resolveTlsa$/,
  'dns/promises': /^resolveTlsa$/,
  fs: /^(Utf8Stream|glob|globSync|mkdtempDisposableSync)$/,
  'fs/promises': /^(glob|mkdtempDisposable)$/,
  http: /^(CloseEvent|MessageEvent|WebSocket|setGlobalProxyFromEnv)$/,
  module:
    /^(constants|enableCompileCache|findPackageJSON|flushCompileCache|getCompileCacheDir|registerHooks|stripTypeScriptTypes|[gs]etSourceMapsSupport)$/,
  net: /^BoundSocket$/,
  perf_hooks: /^(eventLoopUtilization|timerify)$/,
  process: /^(execve|finalization|ref|threadCpuUsage|unref)$/,
  sqlite: /./,
  'stream/consumers': /^bytes$/,
  tls: /^(getCACertificates|getCertificateCompressionAlgorithms|setDefaultCACertificates)$/,
  url: /^(URLPattern|fileURLToPathBuffer)$/,
  util: /^(convertProcessSignalToExitCode|diff|getCallSites|getSystemErrorMessage|setTraceSigInt)$/,
  'util/types': /^isFloat16Array$/,
  v8: /^(getCppHeapStatistics|isStringOneByteRepresentation|startCpuProfile)$/,
  worker_threads: /^(isInternalThread|isMarkedAsUntransferable|locks|markAsUncloneable|threadName)$/,
  zlib: /[zZ]std/,
};

/** Returns the names of values that a source imports statically and that Node.js 20 lacks. */
function missingNames(text: string): string[] {
  const statement = /^(?:import|export)\s+(?!type\s)([^;'"]*?)\s*(?:from\s+)?'node:([^']+)'/gm;
  return [...text.matchAll(statement)].flatMap(([, taken = '', module = '']) => {
    const missing = MISSING[module];
    if (missing === undefined) return [];
    const named = /\{([^}]*)\}/.exec(taken)?.[1]?.split(',') ?? [];
    const names = named.map((name) => name.trim()).filter((name) => !/^(type\s|$)/.test(name));
    // A namespace of a module that Node.js 20 has may lack names. A module that it lacks fails in every form.
    const wanted = module === 'sqlite' ? [...names, '*'] : names;
    return wanted.filter((name) => missing.test(name.split(/\s/)[0]!)).map((name) => `${name} of ${module}`);
  });
}

it('imports by name nothing that Node.js 20 lacks', () => {
  const files = sourcesIn(SHIPPED).filter(({ path }) => !path.startsWith('monitor/web/'));
  expect(files.length).toBeGreaterThan(50);
  expect(files.flatMap(({ path, text }) => missingNames(text).map((name) => `${path}: ${name}`))).toEqual([]);
});

it('finds such imports in each form', () => {
  expect(missingNames("import { glob, readdir } from 'node:fs/promises';")).toEqual(['glob of fs/promises']);
  expect(missingNames("import {\n  gunzip,\n  zstdDecompressSync as z,\n} from 'node:zlib';")).toHaveLength(
    1,
  );
  expect(missingNames("import * as sqlite from 'node:sqlite';")).toHaveLength(1);
  expect(missingNames("export { stripTypeScriptTypes } from 'node:module';")).toHaveLength(1);
  for (const text of [
    "import type { DatabaseSync } from 'node:sqlite';",
    "import * as zlib from 'node:zlib';",
    "import { type Zstd, gunzip } from 'node:zlib';",
    "const { glob } = await import('node:fs/promises');",
  ]) {
    expect(missingNames(text), text).toEqual([]);
  }
});
