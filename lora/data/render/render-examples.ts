import { isSwarmError } from '../../../common/errors.ts';
import type { Origin } from '../../../protocol/api/job-creation.ts';
import { EXAMPLE_CODES } from '../errors.ts';
import type { Example } from '../examples.ts';
import type { RowReport } from '../row-report.ts';
import type { Rendered } from './rendered.ts';
import { type Renderer, renderExample } from './renderer.ts';
import { eachAnswer } from './turns.ts';

/** Number of examples rendered ahead, so that the tokenizer and the template process can work at the same time. */
const LOOK_AHEAD = 4;

export interface RenderedExample {
  readonly example: Example;
  readonly rendered: Rendered;
}

export interface RenderOptions {
  /** Receives the examples that cannot be rendered. */
  report: RowReport;
  /**
   * Whether a conversation is reported as a bad record if the template rewrites its earlier turns. Otherwise, such a
   * conversation ends the run with DATA_TEMPLATE.
   * @default false
   */
  countTemplateBreaks?: boolean;
  signal?: AbortSignal;
}

/**
 * Renders examples in order. Examples that cannot be rendered are reported and left out. The caller checks the share of
 * bad records at the end.
 * @throws errors of renderExample; DATA_BAD_ROWS at the first bad record if no record may be bad
 */
export async function* renderExamples(
  examples: AsyncIterable<Example> | Iterable<Example>,
  renderer: Renderer,
  { report, signal, countTemplateBreaks = false }: RenderOptions,
): AsyncGenerator<RenderedExample, void, undefined> {
  const ahead: { example: Example; rendering: Promise<Rendered> }[] = [];
  /**
   * The record of the last bad example. If `trainOn` is `turns`, a record can give several bad examples, but it counts as
   * one bad record.
   */
  let lastBad: Origin | null = null;
  const next = async (): Promise<RenderedExample | null> => {
    const { example, rendering } = ahead.shift()!;
    signal?.throwIfAborted();
    try {
      return { example, rendered: await rendering };
    } catch (error) {
      const concernsOneRow =
        isSwarmError(error) &&
        (EXAMPLE_CODES.has(error.code) || (countTemplateBreaks && error.code === 'DATA_TEMPLATE'));
      if (!concernsOneRow) throw error;
      const reason = String(error.values.reason ?? error.message);
      if (example.origin === lastBad) return null;
      lastBad = example.origin;
      report.bad({ origin: example.origin, code: error.code, reason });
      return null;
    }
  };
  for await (const whole of examples) {
    for (const example of renderer.trainOn === 'turns' ? eachAnswer(whole) : [whole]) {
      const rendering = renderExample(example, renderer);
      // After an error in an earlier example, this rendering is never awaited. The empty handler prevents an unhandled
      // rejection.
      rendering.catch(() => {});
      ahead.push({ example, rendering });
      if (ahead.length < LOOK_AHEAD) continue;
      const done = await next();
      if (done) yield done;
    }
  }
  while (ahead.length > 0) {
    const done = await next();
    if (done) yield done;
  }
}
