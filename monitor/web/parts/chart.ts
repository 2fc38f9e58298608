import { html } from 'htm/preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type uPlot from 'uplot';
import { axisLabels, axisWidth } from './axis.ts';
import { drawnPoints } from './thin.ts';

/** Height of a chart in CSS pixels. */
const HEIGHT = 260;

/** Steps between the labels of x, which counts rounds: 1, 2, 5, 10, … */
const WHOLE_STEPS = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

/** A line of a chart. */
export interface Line {
  readonly label: string;
  /** CSS variable with the colour of the line, for example `--blue`. */
  readonly colour: string;
  /** One value for each x of the chart; null where there is no value. */
  readonly values: readonly (number | null)[];
  /** @default false */
  readonly dashed?: boolean;
}

interface ChartProps {
  readonly title: string;
  /** Label of x, for example `round`. */
  readonly xLabel: string;
  readonly x: readonly number[];
  readonly lines: readonly Line[];
  /** Formats a value for axes and legend. */
  readonly format: (value: number) => string;
  /** Unit that `format` writes behind a prefix such as k. @default none */
  readonly unit?: string;
}

/** A line chart. Its values are also in a table, for readers who cannot see the chart. */
export function Chart({ title, xLabel, x, lines, format, unit = '' }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const theme = useTheme();
  const [open, setOpen] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const newest = useRef({ x, lines, format });
  newest.current = { x, lines, format };
  const labels = lines.map(({ label }) => label).join();
  useEffect(() => {
    const element = box.current!;
    let ended = false;
    let resized: ResizeObserver | undefined;
    const draw = async (): Promise<void> => {
      requireLanguage();
      const { default: Plot } = await import('uplot');
      if (ended) return;
      const { x, lines, format } = newest.current;
      const made = new Plot(optionsOf({ xLabel, lines, format, unit }, element), dataOf(x, lines), element);
      plot.current = made;
      resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
      resized.observe(element);
    };
    draw().catch((error: unknown) => setProblem(String(error)));
    return () => {
      ended = true;
      resized?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [labels, theme, xLabel, unit]);
  useEffect(() => plot.current?.setData(dataOf(x, lines)), [x, lines]);
  return html`<figure>
    <figcaption>${title}</figcaption>
    ${problem !== null && html`<p class="quiet">The chart cannot be drawn (${problem}). The table has its values.</p>`}
    <div ref=${box} class="chart" role="img" aria-label=${summaryOf({ title, xLabel, x, lines, format })}></div>
    <details onToggle=${(event: Event) => setOpen((event.target as HTMLDetailsElement).open)}>
      <summary>Values as a table</summary>
      ${open && html`<${ValueTable} title=${title} xLabel=${xLabel} x=${x} lines=${lines} format=${format} />`}
    </details>
  </figure>`;
}

/**
 * Replaces the browser's language if it is invalid, such as `en-US@posix` on a machine with LANG=C. uPlot cannot be loaded
 * with an invalid language, because it formats numbers in this language.
 */
function requireLanguage(): void {
  try {
    Intl.getCanonicalLocales(navigator.language);
  } catch {
    Object.defineProperty(navigator, 'language', { value: 'en-US', configurable: true });
  }
}

/** Number of newest values in the table of a chart. */
const TABLE_ROWS = 100;

function ValueTable({ title, xLabel, x, lines, format }: ChartProps) {
  const start = Math.max(0, x.length - TABLE_ROWS);
  return html`<div class="scroll" role="region" aria-label=${title} tabindex="0">
    <table>
      <caption>
        ${title}${start > 0 && `, the newest ${TABLE_ROWS} values`}
      </caption>
      <thead>
        <tr>
          <th scope="col" class="number">${xLabel}</th>
          ${lines.map(({ label }) => html`<th scope="col" class="number">${label}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${x
          .slice(start)
          .map((at, i) => ({ at, i: i + start }))
          .reverse()
          .map(
            ({ at, i }) => html`<tr>
              <td class="number">${at}</td>
              ${lines.map(({ values }) => html`<td class="number">${values[i] == null ? '–' : format(values[i])}</td>`)}
            </tr>`,
          )}
      </tbody>
    </table>
  </div>`;
}

function summaryOf({ title, xLabel, x, lines, format }: ChartProps): string {
  const parts = lines.flatMap(({ label, values }) => {
    const first = values.findIndex((value) => value !== null);
    const last = values.findLastIndex((value) => value !== null);
    if (first < 0) return [];
    return [
      `${label} from ${format(values[first]!)} at ${xLabel} ${x[first]} to ${format(values[last]!)} at ${xLabel} ${x[last]}`,
    ];
  });
  return `${title}: ${parts.length === 0 ? 'no values yet' : parts.join('; ')}`;
}

function dataOf(x: readonly number[], lines: readonly Line[]): uPlot.AlignedData {
  const drawn = drawnPoints(
    x.length,
    lines.map(({ values }) => values),
  );
  return [drawn.map((i) => x[i]!), ...lines.map(({ values }) => drawn.map((i) => values[i] ?? null))];
}

function optionsOf(
  { xLabel, lines, format, unit }: Pick<ChartProps, 'xLabel' | 'lines' | 'format'> & { unit: string },
  element: HTMLElement,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--quiet'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { stroke: colour('--line'), width: 1 },
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    scales: { x: { time: false } },
    cursor: { drag: { x: true, y: false } },
    axes: [
      { ...axis, label: xLabel, incrs: WHOLE_STEPS },
      {
        ...axis,
        size: (_plot, labels) => axisWidth(labels ?? []),
        values: (_plot, values) => axisLabels(values, format, unit),
      },
    ],
    series: [
      { label: xLabel },
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 2,
        spanGaps: true,
        ...(line.dashed && { dash: [6, 4] }),
        value: (_plot: uPlot, value: number | null) => (value === null ? '–' : format(value)),
      })),
    ],
  };
}

/** Returns the colour scheme, and renders again when the user changes it. */
function useTheme(): 'dark' | 'light' {
  const query = matchMedia('(prefers-color-scheme: dark)');
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const changed = (event: MediaQueryListEvent): void => setDark(event.matches);
    query.addEventListener('change', changed);
    return () => query.removeEventListener('change', changed);
  }, [query]);
  return dark ? 'dark' : 'light';
}
