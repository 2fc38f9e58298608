/** Entry of the worker thread that runs the templates of strangers: requests in, texts or an error out, in order. */
import { parentPort, workerData } from 'node:worker_threads';
import { isSwarmError } from '../../../protocol/errors.ts';
import { compileTemplate } from './jinja.ts';
import {
  MAX_RENDERED_CHARACTERS,
  type RunnerData,
  type RunnerReply,
  type RunnerRequest,
} from './template-runner.ts';

const port = parentPort!;
const answer = (reply: RunnerReply): void => port.postMessage(reply);

try {
  const { templates, variables, now } = workerData as RunnerData;
  const compiled = new Map(
    Object.entries(templates).map(([name, source]) => [name, compileTemplate(source, { variables, now })]),
  );
  port.on('message', ({ template, inputs }: RunnerRequest) => {
    try {
      const texts = inputs.map((input) => compiled.get(template)!(input));
      const longest = texts.reduce((most, { length }) => Math.max(most, length), 0);
      if (longest > MAX_RENDERED_CHARACTERS) answer({ type: 'too-long', characters: longest });
      else answer({ type: 'texts', texts });
    } catch (error) {
      answer({ type: 'refused', reason: reasonOf(error) });
    }
  });
  answer({ type: 'ready' });
} catch (error) {
  answer({ type: 'invalid', reason: isSwarmError(error) ? String(error.values.reason) : reasonOf(error) });
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 1000);
}
