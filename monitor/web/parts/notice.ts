import { html } from 'htm/preact';
import type { ApiError } from '../api.ts';

/** Says that a request failed, and what to do next. */
export function Failure({ error }: { error: ApiError | null }) {
  if (error === null) return null;
  const text =
    error.code === null
      ? 'The daemon does not answer. The page shows the last known state and tries again every 2 seconds.'
      : error.message;
  return html`<p class="failure" role="alert">${text}${error.next && html` <em>Next: ${error.next}</em>`}</p>`;
}

/** A text that a view shows while its data is loading. */
export function Loading({ what }: { what: string }) {
  return html`<p class="quiet">Loading ${what}…</p>`;
}
