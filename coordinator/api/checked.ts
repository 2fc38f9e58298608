import type { z } from 'zod';
import { coordinatorError } from '../errors.ts';

/** Parses a part of a request. @throws SwarmError REQUEST_INVALID, with the name of the field and its problem */
export function checked<S extends z.ZodType>(schema: S, value: unknown, field: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = [field, ...(issue?.path ?? [])].join('.');
  throw coordinatorError('REQUEST_INVALID', `${where}: ${issue?.message ?? 'invalid'}`, { field });
}
