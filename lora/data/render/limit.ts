import { SwarmError } from '../../../common/errors.ts';

/** A template that takes too much. @param took what it took: "more than 30 s" */
export function limit(took: string): SwarmError {
  return new SwarmError(
    'TEMPLATE_LIMIT',
    `the chat template was stopped: it took ${took}; name another with --template`,
    { took },
  );
}
