import { formatLoss } from '../../common/text.ts';
import { type Html, html } from './html.ts';
import type { PublicJob } from './public-job.ts';

/** Size of the drawing in its own units. The style sheet stretches the drawing to the width of the page. */
const [WIDTH, HEIGHT] = [600, 200];
/** Number of values in the table next to the curve. */
const TABLE_ROWS = 20;

/** Draws the held-out loss over the rounds, and lists the newest values in a table. */
export function lossCurve(curve: PublicJob['curve']): Html {
  const [first, last] = [curve[0], curve.at(-1)];
  if (!first || !last || first === last)
    return html`<p class="quiet">The curve begins with the second checkpoint.</p>`;
  const losses = curve.map(({ loss }) => loss);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const place = (part: number, length: number): string => (part * length).toFixed(1);
  const points = curve
    .map(({ round, loss }) => {
      const x = (round - first.round) / (last.round - first.round);
      const y = high > low ? (high - loss) / (high - low) : 0.5;
      return `${place(x, WIDTH)},${place(y, HEIGHT)}`;
    })
    .join(' ');
  const summary = `Held-out loss from ${formatLoss(first.loss)} in round ${first.round} to ${formatLoss(last.loss)} in round ${last.round}`;
  return html`<figure class="curve">
    <figcaption>${summary}</figcaption>
    <div class="plot">
      <span class="high">${formatLoss(high)}</span>
      <span class="low">${formatLoss(low)}</span>
      <svg viewBox="0 -4 ${WIDTH} ${HEIGHT + 8}" preserveAspectRatio="none" role="img" aria-label="${summary}">
        <polyline points="${points}" fill="none" vector-effect="non-scaling-stroke" />
      </svg>
      <span class="first">round ${first.round}</span>
      <span class="last">round ${last.round}</span>
    </div>
    <details>
      <summary>The newest values as a table</summary>
      <table>
        <caption>Held-out loss of the newest checkpoints</caption>
        <thead><tr><th scope="col" class="number">round</th><th scope="col" class="number">held-out loss</th></tr></thead>
        <tbody>
          ${curve
            .slice(-TABLE_ROWS)
            .reverse()
            .map(
              ({ round, loss }) =>
                html`<tr><td class="number">${round}</td><td class="number">${formatLoss(loss)}</td></tr>`,
            )}
        </tbody>
      </table>
    </details>
  </figure>`;
}
