import type { Origin } from '../../../protocol/api/job-creation.ts';
import { dataError } from '../errors.ts';
import type { Message } from '../examples.ts';
import type { TemplateSources } from './chat-template.ts';

/** Roles of OpenAI's API, for which chat templates are written. */
const USUAL_ROLES: ReadonlySet<string> = new Set([
  'system',
  'developer',
  'user',
  'assistant',
  'tool',
  'function',
]);

/**
 * Refuses a conversation with a role that is neither usual nor named in the template. Many templates write any role into
 * the header of a turn, so a misspelt "assistant" would silently become a turn that is not trained.
 * @throws ROW_ROLE
 */
export function checkRoles(
  messages: readonly Message[],
  { templates }: Pick<TemplateSources, 'templates'>,
  { file, row }: Origin,
): void {
  for (const [i, { role }] of messages.entries()) {
    if (USUAL_ROLES.has(role) || isNamed(role, templates)) continue;
    const reason =
      `message ${i + 1} has the role "${role.slice(0, 40)}", which the chat template does not name; ` +
      `the usual roles are ${[...USUAL_ROLES].join(', ')}`;
    throw dataError('ROW_ROLE', `${file}:${row}: ${reason}`, { reason });
  }
}

/** Returns whether a template contains the role as a quoted text. */
function isNamed(role: string, templates: TemplateSources['templates']): boolean {
  return Object.values(templates).some((text) => text.includes(`'${role}'`) || text.includes(`"${role}"`));
}
