/** A hub with one tiny model, and the settings for a download from it. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../common/time/clock.ts';
import {
  type FetchModelDeps,
  type FetchModelOptions,
  fetchModel,
} from '../../../lora/models/hub/fetch-model.ts';
import { parseHubReference } from '../../../lora/models/hub/reference.ts';
import { temporaryFolder } from '../folder.ts';
import { makeTinyModel } from '../models/tiny-model.ts';
import { type HubModel, HubServer } from './hub-server.ts';

export const NAME = 'ada/tiny';
export const COMMIT = 'a'.repeat(40);
/** A clock on which pauses between attempts end at once, and deadlines never expire. */
export const impatientClock: Clock = {
  now: () => 0,
  monotonic: () => 0,
  after: (ms, callback) => {
    let live = ms < 30_000;
    queueMicrotask(() => live && callback());
    return () => {
      live = false;
    };
  },
};

export interface HubWorld {
  hub: HubServer;
  model: HubModel;
  cacheDir: string;
  notes: string[];
  progress: { file: string; done: number; total: number }[];
  fetch(text?: string, options?: Partial<FetchModelOptions>, deps?: Partial<FetchModelDeps>): Promise<string>;
}

export async function hubWorld(): Promise<HubWorld> {
  const hub = await HubServer.start();
  const source = await makeTinyModel(await temporaryFolder());
  const files = new Map<string, Buffer>();
  for (const name of await readdir(source)) files.set(name, await readFile(join(source, name)));
  files.set('pytorch_model.bin', Buffer.from('a pickle'));
  files.set('README.md', Buffer.from('# tiny'));
  const model: HubModel = { commit: COMMIT, files, largeFrom: 20_000 };
  hub.models.set(NAME, model);
  const cacheDir = await temporaryFolder();
  const world: HubWorld = {
    hub,
    model,
    cacheDir,
    notes: [],
    progress: [],
    fetch: (text = NAME, options = {}, deps = {}) =>
      fetchModel(
        {
          reference: parseHubReference(text)!,
          endpoint: hub.endpoint,
          cacheDir,
          accessToken: null,
          offline: false,
          signal: new AbortController().signal,
          onProgress: (progress) => world.progress.push(progress),
          onNote: (note) => world.notes.push(note),
          ...options,
        },
        { fetch, clock: impatientClock, ...deps },
      ),
  };
  return world;
}
