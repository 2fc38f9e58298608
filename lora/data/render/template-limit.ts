import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';

/** A template that takes too much. @param took what it took: "more than 30 s" */
export function templateLimit(took: string): SwarmError {
  return dataError(
    'TEMPLATE_LIMIT',
    `the chat template was stopped: it took ${took}; name another with --template`,
    { took },
  );
}
