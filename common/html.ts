import { safeText } from './text.ts';

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Escapes text for HTML. Control and direction characters become dots. */
export function escapeHtml(text: string): string {
  const safe = safeText(text, { multiline: true, maxCharacters: Number.MAX_SAFE_INTEGER });
  return safe.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
