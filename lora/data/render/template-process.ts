/** Entry of the process that runs templates from strangers. It answers requests in order, with a text or an error. */
import { isSwarmError } from '../../../common/errors.ts';
import { type CompiledTemplate, compileTemplate } from './jinja.ts';
import { MAX_RENDERED_CHARACTERS, type RunnerReply, type RunnerRequest } from './template-runner.ts';

let compiled = new Map<string, CompiledTemplate>();

function serve(request: RunnerRequest): RunnerReply {
  if (request.type === 'start') {
    const { templates, variables, now } = request;
    compiled = new Map(
      Object.entries(templates).map(([name, source]) => [name, compileTemplate(source, { variables, now })]),
    );
    return { type: 'ready' };
  }
  const { template, messages, tools = null, parts = [] } = request;
  const render = compiled.get(template)!;
  const text = render({ messages, tools, addGenerationPrompt: false });
  if (text.length > MAX_RENDERED_CHARACTERS) {
    return {
      type: 'refused',
      reason: `the text would have ${text.length} characters (limit ${MAX_RENDERED_CHARACTERS})`,
    };
  }
  const lengths: number[] = [];
  for (const [i, { end, addGenerationPrompt }] of parts.entries()) {
    const part = render({ messages: messages.slice(0, end), tools, addGenerationPrompt });
    const odd = { part: i, text: part.slice(0, MAX_RENDERED_CHARACTERS) };
    if (!text.startsWith(part)) return { type: 'rendered', text, lengths, odd };
    lengths.push(part.length);
  }
  return { type: 'rendered', text, lengths, odd: null };
}

process.on('message', (request: RunnerRequest) => {
  let reply: RunnerReply;
  try {
    reply = serve(request);
  } catch (error) {
    if (isSwarmError(error)) reply = { type: 'unusable', error: error.toJSON() };
    else
      reply = {
        type: 'refused',
        reason: (error instanceof Error ? error.message : String(error)).slice(0, 1000),
      };
  }
  process.send!(reply);
});
