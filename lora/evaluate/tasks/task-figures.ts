/** Values of a task by `metric,filter`, with their standard errors under `metric_stderr,filter`. */
export interface TaskFigures {
  readonly name: string;
  readonly alias: string;
  readonly sample_len: number;
  readonly [key: string]: number | string;
}
