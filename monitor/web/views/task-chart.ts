import { html } from 'htm/preact';
import { useMemo, useState } from 'preact/hooks';
import { figureName, formatFigure } from '../../../common/text.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { JobTasksView } from '../../../protocol/api/job-parts.ts';
import { Chart } from '../parts/chart.ts';

type Evaluated = Extract<JobEvent, { type: 'tasks-evaluated' }>;

/** A chart of a figure of the job's tasks over the evaluated rounds. The user chooses the figure. */
export function TaskChart({ history, tasks }: { history: readonly JobEvent[]; tasks: JobTasksView }) {
  const results = useMemo(
    () => history.filter((event): event is Evaluated => event.type === 'tasks-evaluated'),
    [history],
  );
  const names = useMemo(() => namesOf(results), [results]);
  const [chosen, setChosen] = useState<string | null>(null);
  const [first] = names;
  if (first === undefined)
    return html`<p class="quiet">No checkpoint has been evaluated on the tasks yet.</p>`;
  const known = [chosen, tasks.metric].find((name) => name !== null && names.includes(name));
  return html`<${FigureChart} results=${results} names=${names} name=${known ?? first} onChoice=${setChosen} />`;
}

interface FigureProps {
  readonly results: readonly Evaluated[];
  readonly names: readonly string[];
  readonly name: string;
  onChoice(name: string): void;
}

function FigureChart({ results, names, name, onChoice }: FigureProps) {
  const [x, lines] = useMemo(() => {
    const values = results.map(({ figures }) => figures[name] ?? null);
    return [results.map(({ round }) => round), [{ label: figureName(name), colour: '--blue', values }]];
  }, [results, name]);
  return html`<div>
    ${
      names.length > 1 &&
      html`<label
        >Figure of the tasks
        <select value=${name} onChange=${(event: Event) => onChoice((event.target as HTMLSelectElement).value)}>
          ${names.map((one) => html`<option value=${one}>${figureName(one)}</option>`)}
        </select></label
      >`
    }
    <${Chart} title=${figureName(name)} xLabel="round" x=${x} lines=${lines} format=${formatFigure} />
  </div>`;
}

/** Returns the names of all figures without standard errors, sorted. */
function namesOf(results: readonly Evaluated[]): string[] {
  const names = new Set(results.flatMap(({ figures }) => Object.keys(figures)));
  return [...names].filter((name) => !name.includes('_stderr,')).sort();
}
