import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';

/** Maximum length of a rendered conversation, in characters: about four million tokens. */
export const MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024;

/** Makes the error for a template that exceeded a limit. @param took what the template took, such as "more than 30 s" */
export function templateLimit(took: string): SwarmError {
  return dataError('TEMPLATE_LIMIT', `the chat template was stopped: it took ${took}`, { took });
}
