/** Metrics with the label `job`, which is the name that the operator gave the job, and with at most one other label. */
import { Counter, Histogram, type Registry } from '@prometheus-io/client';

/**
 * Bucket bounds, in seconds, of histograms of the coordinator's work. The shortest work is the merge of a
 * small adapter, and the longest is an evaluation that reaches its time limit.
 */
export const WORK_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900];
/**
 * Bucket bounds, in seconds, of histograms of rounds. A round takes from seconds (demo) to an hour (large
 * models).
 */
export const ROUND_SECONDS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

/** Creates metrics in a registry. Each method returns a function that adds to the new metric. */
export class JobMetrics {
  readonly #registers: Registry[];

  constructor(deps: { registry: Registry }) {
    this.#registers = [deps.registry];
  }

  counter(name: string, help: string): (job: string, by?: number) => void {
    const counter = new Counter<'job'>({ name, help, labelNames: ['job'], registers: this.#registers });
    return (job, by) => counter.inc({ job }, by);
  }

  /** Creates a counter with the label `job` and a second label `label`, which has a fixed set of values. */
  counterBy(name: string, help: string, label: string): (job: string, value: string, by?: number) => void {
    const labelNames = ['job', label];
    const counter = new Counter<string>({ name, help, labelNames, registers: this.#registers });
    return (job, value, by) => counter.inc({ job, [label]: value }, by);
  }

  histogram(name: string, help: string, buckets: number[]): (job: string, seconds: number) => void {
    const labelNames = ['job'] as const;
    const histogram = new Histogram<'job'>({ name, help, labelNames, buckets, registers: this.#registers });
    return (job, seconds) => histogram.observe({ job }, seconds);
  }
}
