import { html } from 'htm/preact';
import { HEALTH_RULES } from '../../health-rules.ts';
import { Mark } from '../parts/mark.ts';

/** Lists the rules that determine the health of jobs and peers. */
export function RulesView() {
  return html`<h1>Health rules</h1>
    <p>The first rule that applies determines the mark. The reason is shown beside the mark.</p>
    ${(['job', 'peer'] as const).map(
      (kind) => html`<section>
        <h2>${kind === 'job' ? 'Jobs' : 'Peers'}</h2>
        <ol>
          ${HEALTH_RULES[kind].map(
            (rule) => html`<li>
            <${Mark} health=${rule} /> ${rule.reason}${rule.next !== '' && html`. <span class="quiet">What to do: ${rule.next}.</span>`}
          </li>`,
          )}
        </ol>
      </section>`,
    )}`;
}
