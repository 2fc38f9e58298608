import { isSwarmError } from '../../../common/errors.ts';
import type { Example } from '../examples.ts';
import type { RowReport } from '../row-report.ts';
import type { Rendered } from './rendered.ts';
import { type Renderer, renderExample } from './renderer.ts';
import { eachAnswer } from './turns.ts';

/** Examples rendered ahead: the tokenizer works on one while the template process writes the next. */
const LOOK_AHEAD = 4;

export interface RenderedExample {
  readonly example: Example;
  readonly rendered: Rendered;
}

export interface RenderOptions {
  /** Receives the examples that cannot be rendered. */
  report: RowReport;
  /**
   * Report a conversation whose earlier turns the template rewrites as a bad row, instead of throwing DATA_TEMPLATE.
   * @default false
   */
  countTemplateBreaks?: boolean;
  signal?: AbortSignal;
}

/**
 * Renders examples in order. Examples that cannot be rendered are reported and left out.
 * @throws as renderExample, DATA_BAD_ROWS
 */
export async function* renderExamples(
  examples: AsyncIterable<Example> | Iterable<Example>,
  renderer: Renderer,
  { report, signal, countTemplateBreaks = false }: RenderOptions,
): AsyncGenerator<RenderedExample, void, undefined> {
  const ahead: { example: Example; rendering: Promise<Rendered> }[] = [];
  const next = async (): Promise<RenderedExample | null> => {
    const { example, rendering } = ahead.shift()!;
    signal?.throwIfAborted();
    try {
      return { example, rendered: await rendering };
    } catch (error) {
      // Codes that start with ROW_ concern one example only; see renderExample.
      const concernsOneRow =
        isSwarmError(error) &&
        (error.code.startsWith('ROW_') || (countTemplateBreaks && error.code === 'DATA_TEMPLATE'));
      if (!concernsOneRow) throw error;
      const reason = String(error.values.reason ?? error.message);
      report.bad({ origin: example.origin, code: error.code, reason });
      return null;
    }
  };
  for await (const whole of examples) {
    for (const example of renderer.trainOn === 'turns' ? eachAnswer(whole) : [whole]) {
      const rendering = renderExample(example, renderer);
      // The rejection is handled when its turn comes; if an earlier example throws, it is never awaited.
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
  // The reader has checked the share of bad rows before the last examples were rendered.
  report.finish();
}
