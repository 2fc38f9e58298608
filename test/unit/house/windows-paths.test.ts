/** Tests of Windows paths, on any system: `node:path` is replaced by `node:path/win32`. */
import { describe, expect, it, vi } from 'vitest';
import { parsePartialName } from '../../../common/files/durable.ts';
import { resolveCache, resolveHomes } from '../../../common/files/user-folders.ts';
import { FileCheckpointFolders } from '../../../coordinator/record/checkpoint-folders.ts';
import { dataFiles } from '../../../lora/data/files.ts';
import { HubCache } from '../../../lora/models/hub/cache.ts';
import { hubOrigin, parseHubReference } from '../../../lora/models/hub/reference.ts';
import { hubSettings } from '../../../lora/models/hub/settings.ts';
import { pretendPlatform } from '../../utils/source/platform.ts';

const USER = 'C:\\Users\\Ada Byron';
const found = vi.hoisted(() => ({ matches: [] as string[] }));

vi.mock(import('node:path'), async (original) => {
  const { win32 } = await original();
  return { ...win32, default: win32 };
});
vi.mock(import('node:os'), async (original) => ({ ...(await original()), homedir: () => USER }));
vi.mock(import('node:fs/promises'), async (original) => {
  async function* glob() {
    yield* found.matches;
  }
  const stat = async (path: string) => {
    if (!found.matches.includes(path)) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
    return { isDirectory: () => false, isFile: () => true, size: 1 };
  };
  return { ...(await original()), glob: glob as never, stat: stat as never };
});

describe('paths of Windows', () => {
  it('give the default homes and the cache below the user folder', () => {
    const root = `${USER}\\.local\\share\\lora-swarm`;
    expect(resolveHomes(undefined, {}, 'D:\\work')).toEqual({
      coordinator: `${root}\\coordinator`,
      node: `${root}\\node`,
      reader: `${root}\\reader`,
      named: false,
    });
    expect(resolveHomes('home', {}, 'D:\\work').node).toBe('D:\\work\\home');
    expect(resolveHomes('E:/home', {}, 'D:\\work').node).toBe('E:\\home');
    expect(resolveCache({}, 'D:\\work')).toBe(`${USER}\\.cache\\lora-swarm`);
    expect(resolveCache({ SWARM_CACHE: '\\\\server\\share\\cache' }, 'D:\\work')).toBe(
      '\\\\server\\share\\cache',
    );
  });

  it('lead to the cache that tools of Hugging Face share', async () => {
    pretendPlatform('win32');
    expect((await hubSettings({}, 'D:\\work')).cacheDir).toBe(`${USER}\\.cache\\huggingface\\hub`);
    for (const home of ['~\\hf', '~/hf']) {
      expect((await hubSettings({ HF_HOME: home }, 'D:\\work')).cacheDir).toBe(`${USER}\\hf\\hub`);
    }
    const cache = new HubCache({ cacheDir: 'C:\\hub', name: 'org/model' });
    const commit = 'c'.repeat(40);
    const snapshot = cache.snapshot(commit);
    expect(snapshot).toBe(`C:\\hub\\models--org--model\\snapshots\\${commit}`);
    expect(hubOrigin(snapshot)).toEqual({ name: 'org/model', revision: commit });
  });

  it('are never taken for models of a hub', () => {
    for (const path of [
      'C:\\models\\nano',
      'C:/models',
      '.\\models',
      'models\\nano',
      '~\\model',
      '\\\\server\\share',
    ]) {
      expect(parseHubReference(path), path).toBe(null);
    }
  });

  it('of data files are in the same order as on Linux', async () => {
    const { posix } = await vi.importActual<typeof import('node:path')>('node:path');
    const names = ['b0/x.jsonl', 'b/x.jsonl', 'a.b/x.jsonl', 'a/x.jsonl'];
    found.matches = names.map((name) => `C:\\data\\${name.replace('/', '\\')}`);
    const sorted = [...names].sort().map((name) => posix.basename(posix.dirname(name)));
    const files = await dataFiles('C:\\data\\*\\*.jsonl');
    expect(files.map(({ file }) => file.split('\\')[2])).toEqual(sorted);
  });

  it('hold the folders of checkpoints, and partial files', () => {
    const folders = new FileCheckpointFolders({ home: 'C:\\home' }, { blobs: null as never });
    expect(folders.path('job', 7)).toBe('C:\\home\\checkpoints\\job\\0007');
    expect(parsePartialName('file.json.12-3.partial')).toEqual({ target: 'file.json', pid: 12 });
  });
});
