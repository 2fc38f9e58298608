import { html } from 'htm/preact';
import { useState } from 'preact/hooks';
import { formatBytes, formatCount } from '../../../common/text.ts';
import type { CheckJobLine, CheckpointView, JobSummary } from '../../../protocol/api/coordinator.ts';
import type { CreateJobLine } from '../../../protocol/api/job-creation.ts';
import { ApiError, get, jobPath, lines } from '../api.ts';
import { Failure } from '../parts/notice.ts';
import { Progress } from '../parts/progress.ts';

type Check = Extract<CheckJobLine, { event: 'checked' }>['check'];
type Running = { what: 'check' | 'create'; stage: string; done: number; total: number };

/** The settings of a job that the form has fields for. An empty field leaves the coordinator's default. */
const FIELDS = [
  { path: 'name', label: 'Name', hint: 'letters, digits and hyphens', required: true },
  {
    path: 'base',
    label: 'Base model',
    hint: 'folder on the coordinator, as an absolute path',
    required: true,
  },
  {
    path: 'data.train',
    label: 'Training data',
    hint: 'file, folder or pattern on the coordinator, as an absolute path',
    required: true,
  },
  {
    path: 'data.template',
    label: 'Chat template',
    hint: "chatml, plain, or a file on the coordinator; empty means the base model's own",
  },
  { path: 'rounds.count', label: 'Rounds', hint: 'number of checkpoints', number: true },
  {
    path: 'rounds.minPeers',
    label: 'Minimum number of nodes',
    hint: 'a round opens with this number of nodes',
    number: true,
  },
  { path: 'training.learningRate', label: 'Learning rate', hint: 'for example 0.0002', number: true },
  { path: 'lora.rank', label: 'Rank', hint: 'of the adapter', number: true },
] as const;

const ADMISSIONS = [
  { value: 'invite', label: 'nodes with an invite' },
  { value: 'open', label: 'everyone' },
];

/** Text of the form that explains open admission. */
const OPEN_MEANING =
  'Everyone can read an open job: its base, data, checkpoints and updates, and the peer ids, losses and scores of its nodes.';

/** Text of the form that explains a job that starts from a checkpoint. */
const START_MEANING =
  'The job needs the same base model, and takes the rank and the chat template of the checkpoint unless you set others.';

/** A form that creates a job, and shows what the job will be before it is created. */
export function LaunchView({ jobs }: { jobs: readonly JobSummary[] }) {
  const [values, setValues] = useState<Record<string, string>>({ admission: 'invite' });
  const [more, setMore] = useState('');
  const [check, setCheck] = useState<Check | null>(null);
  const [running, setRunning] = useState<Running | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const set = (path: string) => (event: Event) => {
    setValues({ ...values, [path]: (event.target as HTMLInputElement).value });
    setCheck(null);
  };
  const run = async (what: Running['what']): Promise<void> => {
    setError(null);
    setRunning({ what, stage: 'the settings', done: 0, total: 1 });
    try {
      const spec = specOf({ ...values, start: await startOf(values.start) }, more);
      const path = what === 'check' ? '/v1/jobs/check' : '/v1/jobs';
      const never = new AbortController().signal;
      for await (const line of lines<CheckJobLine | CreateJobLine>(path, never, spec)) {
        if (line.event === 'error') throw new ApiError({ ...line, next: line.next ?? '' });
        if (line.event === 'progress') setRunning({ what, ...line });
        if (line.event === 'checked') setCheck(line.check);
        if (line.event === 'created') location.hash = `#/jobs/${encodeURIComponent(line.name)}`;
      }
    } catch (failure) {
      setError(failure as ApiError);
    } finally {
      setRunning(null);
    }
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    void run('check');
  };
  return html`<h1>New job</h1>
    <div class="beside">
      <form onSubmit=${submit}>
        ${FIELDS.map(
          (field) => html`<label
            >${field.label} <span class="quiet">${field.hint}</span>
            <input
              value=${values[field.path] ?? ''}
              required=${'required' in field}
              inputmode=${'number' in field ? 'decimal' : undefined}
              onInput=${set(field.path)}
          /></label>`,
        )}
        <label
          >Start from
          <select value=${values.start ?? ''} onChange=${set('start')}>
            <option value="">a new adapter</option>
            ${jobs.flatMap(({ name, best }) => [
              html`<option value=${`${name} latest`}>the newest checkpoint of ${name}</option>`,
              best && html`<option value=${`${name} best`}>the best checkpoint of ${name}</option>`,
            ])}
          </select></label
        >
        <div class="quiet" aria-live="polite">${values.start && START_MEANING}</div>
        <label
          >Who may join
          <select value=${values.admission} onChange=${set('admission')}>
            ${ADMISSIONS.map(({ value, label }) => html`<option value=${value}>${label}</option>`)}
          </select></label
        >
        <div class="quiet" aria-live="polite">${values.admission === 'open' && OPEN_MEANING}</div>
        <label
          >Prompts for samples <span class="quiet">one per line; the base and each checkpoint continue these prompts, so that you can compare the texts</span>
          <textarea rows="3" value=${values['samples.prompts'] ?? ''} onInput=${set('samples.prompts')}></textarea></label
        >
        <details>
          <summary>Further settings</summary>
          <label
            >Keys of a job file as JSON, for example <code>{"preset": "chat"}</code>. These keys override the fields above.
            <textarea
              rows="6"
              spellcheck="false"
              value=${more}
              onInput=${(event: InputEvent) => {
                setMore((event.target as HTMLTextAreaElement).value);
                setCheck(null);
              }}
            ></textarea></label
          >
        </details>
        <div class="buttons">
          <button type="submit" disabled=${running !== null}>Check</button>
          <button
            type="button"
            class="main"
            disabled=${check === null || running !== null}
            onClick=${() => void run('create')}
          >
            Create the job
          </button>
        </div>
      </form>
      <section aria-live="polite">
        <h2>What the job will be</h2>
        <${Failure} error=${error} />
        ${
          running !== null &&
          html`<p>${running.what === 'check' ? 'Checking' : 'Preparing'}: ${running.stage}</p>
            <${Progress} label="Progress" done=${running.done} total=${running.total} unit="" />`
        }
        ${check === null ? html`<p class="quiet">Fill in the form and check it first. The check creates nothing.</p>` : html`<${CheckFacts} check=${check} />`}
      </section>
    </div>`;
}

function CheckFacts({ check }: { check: Check }) {
  const { base, data, adapter, update, manifestBytes, warnings } = check;
  const untrained = [data, data.heldOut].flatMap(({ tally }) => tally.untrainedRows);
  return html`<dl class="facts">
    <dt>Base</dt>
    <dd>${base.name}, ${formatCount(base.parameters)} parameters, ${formatBytes(base.bytes)} to download per node</dd>
    <dt>Adapter</dt>
    <dd>${formatCount(adapter.parameters)} parameters, ${formatBytes(adapter.bytes)}</dd>
    <dt>Training data</dt>
    <dd>${formatCount(data.rows)} rows, ${formatCount(data.tokens)} predicted tokens, ${formatBytes(data.bytes)}</dd>
    <dt>Held-out data</dt>
    <dd>${formatCount(data.heldOut.rows)} rows, ${formatCount(data.heldOut.tokens)} predicted tokens</dd>
    <dt>Unusable rows</dt>
    <dd>${formatCount(data.read.bad)} of ${formatCount(data.read.rows)}${data.read.reasons.map(
      ({ code, count, rows }) =>
        html`<details><summary>${formatCount(count)} ${code}</summary><ul>${rows.map(
          ({ origin, reason }) => html`<li>${origin.file}:${origin.row}: ${reason}</li>`,
        )}</ul></details>`,
    )}</dd>
    ${
      untrained.length > 0 &&
      html`<dt>Left out, because no token counts in the loss</dt>
        <dd><ul>${untrained.map(({ origin, reason }) => html`<li>${origin.file}:${origin.row}: ${reason}</li>`)}</ul></dd>`
    }
    ${warnings.map(({ message, next }) => html`<dt>Warning</dt><dd><strong>${message}</strong>; ${next}</dd>`)}
    <dt>Largest update</dt>
    <dd>${update.map(({ preset, bytes }) => `${formatBytes(bytes)} (${preset})`).join(', ')}</dd>
    <dt>Manifest</dt>
    <dd>${formatBytes(manifestBytes)}</dd>
  </dl>`;
}

/** Returns the folder of the checkpoint that a choice of the form names; empty for a new adapter. @throws ApiError */
async function startOf(choice = ''): Promise<string> {
  const [job, round] = choice.split(' ');
  if (!job) return '';
  const checkpoint = await get<CheckpointView>(`${jobPath(job)}/checkpoints/${round}`);
  if (checkpoint.kept) return checkpoint.path;
  throw new ApiError({
    code: 'CHECKPOINT_PRUNED',
    message: `the weights of round ${checkpoint.round} of ${job} have been deleted`,
    next: 'start from the newest checkpoint',
  });
}

/** Returns the job file that the fields describe. @throws ApiError if the further settings are not a JSON object */
function specOf(values: Record<string, string>, more: string): object {
  const spec: Record<string, unknown> = {};
  for (const { path, ...field } of [...FIELDS, { path: 'admission' }, { path: 'start' }]) {
    const text = (values[path] ?? '').trim();
    if (text === '') continue;
    put(spec, path.split('.'), 'number' in field ? Number(text) : text);
  }
  const prompts = (values['samples.prompts'] ?? '').split('\n').filter((line) => line.trim() !== '');
  if (prompts.length > 0) put(spec, ['samples', 'prompts'], prompts);
  if (more.trim() === '') return spec;
  try {
    return merged(spec, JSON.parse(more) as Record<string, unknown>);
  } catch (cause) {
    const message = `the further settings are not a JSON object: ${(cause as Error).message}`;
    throw new ApiError({ code: 'USAGE', message, next: 'write {"key": value, …}' });
  }
}

function put(target: Record<string, unknown>, [first, ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) target[first!] = value;
  else {
    target[first!] ??= {};
    put(target[first!] as Record<string, unknown>, rest, value);
  }
}

function merged(a: Record<string, unknown>, b: Record<string, unknown>): Record<string, unknown> {
  const both = { ...a };
  for (const [key, value] of Object.entries(b)) {
    const old = both[key];
    both[key] = isObject(old) && isObject(value) ? merged(old, value) : value;
  }
  return both;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
