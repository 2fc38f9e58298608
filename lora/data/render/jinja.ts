/**
 * Chat templates as programs. They come with models from strangers, so a template reaches nothing but the
 * values that it is given: objects of the interpreter are maps, never JavaScript objects, and of functions it
 * has the three below. Its steps are counted; what counting cannot bound, its process does.
 */

import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import { PythonInterpreter } from './interpreter.ts';
import { Environment, type Node, parse, tokenize } from './jinja-package.ts';
import { strftime } from './strftime.ts';

/** Characters; the longest template in use today has about 30,000. */
export const MAX_TEMPLATE_CHARACTERS = 128 * 1024;
/** The lexer looks for tags from every blank of a run of blanks: long runs would cost their square. */
const MAX_BLANK_RUN = 4096;
/** Longest list that `range` makes. A template loops over messages and tools. */
const MAX_RANGE = 10_000;

/** What transformers passes to a template besides special tokens. */
export interface TemplateInput {
  readonly messages: readonly unknown[];
  readonly tools: readonly unknown[] | null;
  /** Ends with the header of the turn that the model is to write. */
  readonly addGenerationPrompt: boolean;
}

export interface TemplateOptions {
  /** Special tokens by name (`bos_token`, …) and further variables (`enable_thinking`, …). */
  readonly variables: Readonly<Record<string, unknown>>;
  /** What `strftime_now` formats, in UTC; milliseconds since 1970. */
  readonly now: number;
}

export type CompiledTemplate = (input: TemplateInput) => string;

/**
 * Compiles as transformers does: blocks are trimmed, `{% generation %}` marks nothing.
 * What the compiled template throws says what its author or the interpreter says of one conversation.
 * @throws TEMPLATE_INVALID
 */
export function compileTemplate(source: string, { variables, now }: TemplateOptions): CompiledTemplate {
  if (source.length > MAX_TEMPLATE_CHARACTERS) {
    throw invalid(`it has ${source.length} characters, more than ${MAX_TEMPLATE_CHARACTERS}`);
  }
  if (new RegExp(`\\s{${MAX_BLANK_RUN}}`).test(source))
    throw invalid(`it holds ${MAX_BLANK_RUN} blanks in a row`);
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

/** Python's. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.ceil((stop - start) / step);
  if (!(Math.abs(length) <= MAX_RANGE)) throw new Error(`range() of ${length} numbers; at most ${MAX_RANGE}`);
  return Array.from({ length: Math.max(0, length) }, (_, i) => start + i * step);
}

function invalid(reason: string, cause?: unknown): SwarmError {
  return dataError(
    'TEMPLATE_INVALID',
    `the chat template cannot be used: ${reason}; name another with --template`,
    { reason },
    { cause },
  );
}
