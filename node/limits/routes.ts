import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { isSwarmError } from '../../common/errors.ts';
import { checkOptions } from '../../common/schema-problems.ts';
import type { KeptLimits } from '../../protocol/api/node.ts';
import { changesSchema } from './limits.ts';
import type { NodeControl } from './node-control.ts';

/** Longest duration of a pause, in milliseconds: a year. A pause without a duration lasts until the order `resume`. */
const MAX_PAUSE_MS = 366 * 24 * 3_600_000;

const pauseSchema = z.strictObject({ forMs: z.number().positive().max(MAX_PAUSE_MS).nullable() });
const noBody = z.strictObject({});

/** Answer to an order to a node. */
export interface NodeOrderAnswer {
  readonly limits: KeptLimits;
}

/** Adds the routes with which the owner of a machine controls a node. They need the bearer token. */
export function addControlRoutes(server: FastifyInstance, control: NodeControl): void {
  server.setErrorHandler((error, _request, reply) => {
    if (isSwarmError(error)) return reply.code(400).send(error.toJSON());
    return reply.send(error);
  });
  const order = <T>(path: string, schema: z.ZodType<T>, act: (body: T) => Promise<void> | void): void => {
    server.post(`/v1/${path}`, async (request): Promise<NodeOrderAnswer> => {
      const body = request.body ?? {};
      checkOptions(schema, body);
      await act(schema.parse(body));
      return { limits: control.limits };
    });
  };
  order('pause', pauseSchema, ({ forMs }) => control.pause(forMs));
  order('resume', noBody, () => control.resume());
  order('drain', noBody, () => control.drain());
  order('limits', changesSchema, (changes) => control.setLimits(changes));
}
