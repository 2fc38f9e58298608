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

export interface ReportPage {
  readonly title: string;
  /** The command that writes the page. */
  readonly generator: string;
  /** CSS of the page. */
  readonly style: string;
  /** Names and values shown under the title. */
  readonly facts: readonly (readonly [string, string])[];
  /** HTML below the facts. The caller must have escaped all text in it. */
  readonly content: string;
}

/** Returns a report as one HTML file. It runs no script and loads nothing. */
export function reportPage({ title, generator, style, facts, content }: ReportPage): string {
  const rows = facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
${generatorTag(generator)}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body><main>
<h1>${escapeHtml(title)}</h1>
<dl class="facts">${rows.join('')}</dl>
${content}
</main></body>
</html>
`;
}

/** Returns the tag that names the command which wrote a page. */
export function generatorTag(command: string): string {
  return `<meta name="generator" content="${escapeHtml(command)}">`;
}
