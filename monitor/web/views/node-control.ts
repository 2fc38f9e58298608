import { html } from 'htm/preact';
import type { NodeStatus } from '../../../protocol/api/node.ts';
import {
  diskNote,
  type LimitValue,
  limitMeaning,
  limitText,
  NODE_LIMITS,
  type NodeLimit,
  readLimit,
} from '../../node-limits.ts';
import { ApiError, post } from '../api.ts';
import { Confirm } from '../parts/confirm.ts';

const MINUTE_MS = 60_000;

interface Props {
  readonly status: NodeStatus;
  /** Called after an order has succeeded. */
  onChange(): void;
}

/** Buttons that pause, resume and drain the node. */
export function NodeOrders({ status, onChange }: Props) {
  const { pause, draining } = status;
  const isPaused = pause?.reason === 'paused';
  return html`<div class="buttons">
    ${
      isPaused
        ? html`<${Confirm}
            key="resume"
            label="Resume"
            effect="The node takes work again."
            act=${() => post('/v1/resume')}
            onDone=${onChange}
          />`
        : html`<${Confirm}
            key="pause"
            label="Pause"
            effect="The node pauses before its next training step. The pause survives a restart of the node."
            inputLabel="Length of the pause in minutes (leave empty to pause until you resume the node)"
            act=${(text: string) => post('/v1/pause', { forMs: pauseMs(text) })}
            onDone=${onChange}
          />`
    }
    ${
      draining
        ? html`<p>The node stops after its present round.</p>`
        : html`<${Confirm}
            label="Drain"
            danger
            effect="The node finishes its present round, and then stops. This page then no longer works."
            act=${() => post('/v1/drain')}
            onDone=${onChange}
          />`
    }
  </div>`;
}

/** The limits of the node, each with a button that changes it. */
export function NodeLimits({ status, onChange }: Props) {
  const limits = status.limits as Readonly<Record<string, LimitValue | undefined>>;
  const note = diskNote(status.cost.diskBytes, status.limits.maxDiskBytes);
  return html`<section>
    <h2>Limits</h2>
    <p class="quiet">These limits are stored in the home of the node. The command <code>lora-swarm node config</code> shows and sets the same limits.</p>
    <dl class="facts">
      ${Object.entries(NODE_LIMITS).map(
        ([key, limit]) => html`<dt>${key}</dt>
          <dd>
            ${limitText(limit, limits[limit.field])}${' '}
            <${Confirm}
              label=${`Change ${key}`}
              inputLabel=${`New value${unitText(limit)}; leave empty for the default`}
              effect=${`${limitMeaning(key, limit)}.${limit.atStart ? ' A running node applies it at its next start.' : ''}`}
              act=${(text: string) => post('/v1/limits', { [limit.field]: newValue(key, limit, text) })}
              onDone=${onChange}
            />
          </dd>`,
      )}
    </dl>
    ${note !== null && html`<p role="status">max-disk: ${note}.</p>`}
  </section>`;
}

function unitText({ kind }: NodeLimit): string {
  return typeof kind === 'object' && kind.unit !== '' ? ` in ${kind.unit}` : '';
}

/** Returns the value of a limit for the API; null for the default. @throws ApiError if the text is not a valid value */
function newValue(key: string, limit: NodeLimit, text: string): LimitValue | null {
  if (text.trim() === '') return null;
  const value = readLimit(limit, text.trim());
  if (value !== undefined) return value;
  const message = `"${text}" is not a value of ${key}`;
  throw new ApiError({ code: 'USAGE', message, next: limitMeaning(key, limit) });
}

/** Returns the duration of a pause; null if it has no end. @throws ApiError if the text is not a number of minutes */
function pauseMs(text: string): number | null {
  if (text.trim() === '') return null;
  const minutes = Number(text);
  if (minutes > 0) return minutes * MINUTE_MS;
  throw new ApiError({
    code: 'USAGE',
    message: `"${text}" is not a number of minutes`,
    next: 'write a number such as 30',
  });
}
