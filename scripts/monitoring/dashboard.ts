/** The parts of a Grafana dashboard that this program uses, as the JSON model of Grafana 8 and later. */

/** A panel: a graph of one or more expressions over time, or one value. */
export interface Panel {
  readonly title: string;
  /** Text that tells the user what the panel shows, and when to act. */
  readonly description: string;
  readonly kind: 'timeseries' | 'stat';
  /** Grafana unit, for example `s`, `bytes` or `none`. */
  readonly unit: string;
  /** PromQL expressions, each with its legend. */
  readonly queries: readonly { readonly expr: string; readonly legend: string }[];
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  /**
   * Label whose value the user chooses at the top of the dashboard, and a metric that has all values of the label.
   * null if there is nothing to choose.
   */
  readonly choice: { readonly label: string; readonly metric: string } | null;
  readonly panels: readonly Panel[];
}

/** Grafana divides the width of a dashboard into 24 columns. */
const COLUMNS = 24;
const WIDTH = 8;
const HEIGHT = 7;
// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana replaces it
const SOURCE = { type: 'prometheus', uid: '${datasource}' };

/**
 * Returns the JSON of a dashboard. The data source is a variable, because inputs (`__inputs`) do not work for dashboards
 * that are provisioned from files.
 * @see https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
 */
export function dashboardJson({ uid, title, choice, panels }: Dashboard): object {
  const variables = [
    { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' },
    ...(choice === null
      ? []
      : [
          {
            name: choice.label,
            label: choice.label,
            type: 'query',
            datasource: SOURCE,
            query: { query: `label_values(${choice.metric}, ${choice.label})`, refId: choice.label },
            refresh: 2,
            includeAll: true,
            multi: true,
            current: { text: 'All', value: '$__all' },
          },
        ]),
  ];
  return {
    uid,
    title,
    tags: ['lora-swarm'],
    schemaVersion: 39,
    editable: true,
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: { list: variables },
    panels: panels.map((panel, i) => panelJson(panel, i)),
  };
}

function panelJson({ title, description, kind, unit, queries }: Panel, index: number): object {
  const perRow = COLUMNS / WIDTH;
  return {
    id: index + 1,
    title,
    description,
    type: kind,
    datasource: SOURCE,
    gridPos: {
      x: (index % perRow) * WIDTH,
      y: Math.floor(index / perRow) * HEIGHT,
      w: WIDTH,
      h: HEIGHT,
    },
    fieldConfig: { defaults: { unit }, overrides: [] },
    targets: queries.map(({ expr, legend }, i) => ({
      refId: String.fromCharCode('A'.charCodeAt(0) + i),
      datasource: SOURCE,
      expr,
      legendFormat: legend,
    })),
  };
}
