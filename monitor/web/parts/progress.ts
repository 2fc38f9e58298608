import { html } from 'htm/preact';
import { formatCount } from '../../../common/text.ts';

interface ProgressProps {
  readonly label: string;
  readonly done: number;
  readonly total: number;
  readonly unit: string;
}

/** A progress bar with its numbers. */
export function Progress({ label, done, total, unit }: ProgressProps) {
  return html`<div class="progress">
    <progress aria-label=${label} max=${Math.max(1, total)} value=${Math.min(done, total)}></progress>
    <span>${formatCount(done)} of ${formatCount(total)} ${unit}</span>
  </div>`;
}
