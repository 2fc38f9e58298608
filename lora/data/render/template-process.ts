/** Entry point of the process that runs untrusted chat templates. */
import { serveCalls } from '../../../common/workers/calls.ts';
import { parentChannel } from '../../../common/workers/entry.ts';
import { dataError } from '../errors.ts';
import { type CompiledTemplate, compileTemplate } from './jinja.ts';
import { MAX_RENDERED_CHARACTERS } from './template-limit.ts';
import type { RenderedParts, RenderRequest, RunnerData, TemplateMethods } from './template-runner.ts';

let compiled = new Map<string, CompiledTemplate>();

function compile({ templates, variables, now }: RunnerData): null {
  compiled = new Map(
    Object.entries(templates).map(([name, source]) => [name, compileTemplate(source, { variables, now })]),
  );
  return null;
}

function render({ template, messages, tools = null, parts = [] }: RenderRequest): RenderedParts {
  const run = compiled.get(template)!;
  const text = run({ messages, tools, addGenerationPrompt: false });
  if (text.length > MAX_RENDERED_CHARACTERS) {
    throw new Error(`the text would have ${text.length} characters (maximum ${MAX_RENDERED_CHARACTERS})`);
  }
  const lengths: number[] = [];
  for (const [i, { end, addGenerationPrompt }] of parts.entries()) {
    const part = run({ messages: messages.slice(0, end), tools, addGenerationPrompt });
    const odd = { part: i, text: part.slice(0, MAX_RENDERED_CHARACTERS) };
    if (!text.startsWith(part)) return { text, lengths, odd };
    lengths.push(part.length);
  }
  return { text, lengths, odd: null };
}

serveCalls<TemplateMethods>(
  { compile, render },
  {
    channel: parentChannel(),
    failed: (message) => dataError('ROW_TEMPLATE', message, { reason: message }),
  },
);
