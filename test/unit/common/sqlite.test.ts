import { afterEach, expect, it, vi } from 'vitest';
import { withCode } from '../../utils/source/codes.ts';

afterEach(() => void vi.restoreAllMocks());

it('names the version that is needed, on a Node.js without SQLite', async () => {
  vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined as never);
  // The query makes another instance of the module, because the first one is loaded already.
  const old = '../../../common/sqlite.ts?old';
  await expect(import(old)).rejects.toThrow(withCode('NODE_VERSION', { found: process.versions.node }));
});
