import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { serveError } from '../errors.ts';
import type { ModelEntry } from '../models/catalog.ts';
import type { RouteContext } from './context.ts';
import { parseBody } from './fields.ts';

export const nameSchema = z.looseObject({
  lora_name: z.string().min(1).max(512),
  lora_path: z.unknown().optional(),
});

/** Adds `/v1/models`, and the routes that add and remove adapters while the server runs. */
export function modelRoutes(server: FastifyInstance, { catalog, generator }: RouteContext): void {
  const describe = ({ id, created, parent, root }: ModelEntry) => ({
    id,
    object: 'model',
    created,
    owned_by: 'lora-swarm',
    root,
    parent,
    max_model_len: generator.context,
  });
  server.get('/v1/models', async () => ({ object: 'list', data: (await catalog.list()).map(describe) }));
  // The route has a wildcard because names may contain slashes.
  server.get<{ Params: { '*': string } }>('/v1/models/*', async ({ params }) => {
    const name = params['*'];
    const entry = await catalog.entry(name);
    if (entry === null) {
      throw serveError('MODEL_NOT_SERVED', `this server has no model "${name}"`, { model: name });
    }
    return describe(entry);
  });
  server.post('/v1/load_lora_adapter', async ({ body }) => {
    const { lora_name: name, lora_path: path } = parseBody(nameSchema, body);
    // A client must not choose which files of this machine are read.
    if (path !== undefined && path !== null) {
      throw serveError(
        'SERVE_PARAMETER',
        'adapters are loaded by their name in the registry, not from a path of the client',
        { param: 'lora_path' },
        { next: 'leave out lora_path' },
      );
    }
    await catalog.add(name);
    return { loaded: name };
  });
  server.post('/v1/unload_lora_adapter', async ({ body }) => {
    const { lora_name: name } = parseBody(nameSchema, body);
    catalog.remove(name);
    return { unloaded: name };
  });
}
