/** Entry of the process that runs the templates of strangers: requests in, texts or an error out, in order. */
import { isSwarmError } from '../../../protocol/errors.ts';
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
  const render = compiled.get(request.template)!;
  const texts = request.inputs.map((input) => render(input));
  const longest = texts.reduce((most, { length }) => Math.max(most, length), 0);
  if (longest <= MAX_RENDERED_CHARACTERS) return { type: 'texts', texts };
  return {
    type: 'refused',
    reason: `it would have ${longest} characters, more than ${MAX_RENDERED_CHARACTERS}`,
  };
}

process.on('message', (request: RunnerRequest) => {
  let reply: RunnerReply;
  try {
    reply = serve(request);
  } catch (error) {
    if (isSwarmError(error))
      reply = { type: 'unusable', code: error.code, message: error.message, values: error.values };
    else
      reply = {
        type: 'refused',
        reason: (error instanceof Error ? error.message : String(error)).slice(0, 1000),
      };
  }
  process.send!(reply);
});
