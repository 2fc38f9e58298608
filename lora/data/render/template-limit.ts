import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';

/** Makes the error for a template that exceeded a limit. @param took for example "more than 30 s" */
export function templateLimit(took: string): SwarmError {
  return dataError('TEMPLATE_LIMIT', `the chat template was stopped: it took ${took}`, { took });
}
