/**
 * Compiles chat templates. Templates are untrusted programs, so they can access only the values passed to them. The
 * interpreter represents objects as maps, never as JavaScript objects, and offers only the three functions below. Steps
 * are counted and limited. Time and memory are limited by the process that runs the template.
 */

import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import { PythonInterpreter } from './interpreter.ts';
import { Environment, type Node, parse, tokenize } from './jinja-package.ts';
import { strftime } from './strftime.ts';

/** Maximum length of a template, in characters. The longest template in use today has about 30,000. */
export const MAX_TEMPLATE_CHARACTERS = 128 * 1024;
/**
 * Consecutive white space must be shorter than this, in characters. In @huggingface/jinja 0.5.11, a regular expression
 * that starts with `\s*` takes time quadratic in the number of consecutive spaces (1 s for 16,000). Once the package
 * takes linear time, this limit can be removed.
 */
const MAX_SPACE_RUN = 4096;
/** Maximum length of a list that `range` returns. Templates need only short lists, to loop over messages and tools. */
const MAX_RANGE = 10_000;

/** Values that transformers passes to a template besides the special tokens. */
export interface TemplateInput {
  readonly messages: readonly unknown[];
  readonly tools: readonly unknown[] | null;
  /** Whether the text ends with the header of the turn that the model will write. */
  readonly addGenerationPrompt: boolean;
}

export interface TemplateOptions {
  /** Special tokens by name (`bos_token`, …) and further variables (`enable_thinking`, …). */
  readonly variables: Readonly<Record<string, unknown>>;
  /** The time that `strftime_now` formats in UTC, milliseconds since 1970. */
  readonly now: number;
}

export type CompiledTemplate = (input: TemplateInput) => string;

/**
 * Compiles a template as transformers does: blocks are trimmed, and `{% generation %}` has no effect.
 *
 * The compiled template throws an Error if it cannot render a conversation. The message comes from the template or from
 * the interpreter.
 * @throws TEMPLATE_INVALID
 */
export function compileTemplate(source: string, { variables, now }: TemplateOptions): CompiledTemplate {
  if (source.length > MAX_TEMPLATE_CHARACTERS) {
    throw invalid(`it has ${source.length} characters (maximum ${MAX_TEMPLATE_CHARACTERS})`);
  }
  if (new RegExp(`\\s{${MAX_SPACE_RUN}}`).test(source))
    throw invalid(`it contains ${MAX_SPACE_RUN} white-space characters in a row`);
  let program: Node;
  try {
    program = parse(tokenize(source, { trim_blocks: true, lstrip_blocks: true }));
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error), error);
  }
  return ({ messages, tools, addGenerationPrompt }) => {
    const environment = new Environment();
    const values = {
      ...CONSTANTS,
      ...variables,
      strftime_now: (format: unknown) => strftime(new Date(now), String(format)),
      raise_exception: (message: unknown) => {
        throw new Error(String(message));
      },
      range,
      documents: null,
      messages,
      tools,
      add_generation_prompt: addGenerationPrompt,
    };
    for (const [name, value] of Object.entries(values)) environment.set(name, value);
    const { value } = new PythonInterpreter(environment).run(program);
    return String(value);
  };
}

const CONSTANTS = { true: true, True: true, false: false, False: false, none: null, None: null };

/** Python's `range` as a list. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.ceil((stop - start) / step);
  if (!(Math.abs(length) <= MAX_RANGE))
    throw new Error(`range() of ${length} numbers (maximum ${MAX_RANGE})`);
  return Array.from({ length: Math.max(0, length) }, (_, i) => start + i * step);
}

function invalid(reason: string, cause?: unknown): SwarmError {
  return dataError('TEMPLATE_INVALID', `the chat template cannot be used: ${reason}`, { reason }, { cause });
}
