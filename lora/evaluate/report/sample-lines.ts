/** The results of documents as lines of lm-evaluation-harness's files `samples_TASK_DATE.jsonl`. */
import { createHash } from 'node:crypto';
import type { Likelihood } from '../model/language-model.ts';
import { dumps } from '../python/json.ts';
import { floatText, fromJson, type PythonValue, str } from '../python/values.ts';
import type { EvaluatedTask } from '../tasks/results.ts';
import type { DocumentResult, Task } from '../tasks/task.ts';

/** Digests that tell whether two evaluations used the same documents, prompts and answers. SHA-256 in hex. */
export interface SampleDigests {
  readonly doc_hash: string;
  readonly prompt_hash: string;
  readonly target_hash: string;
}

export function sampleDigests({ document, requests, target }: DocumentResult): SampleDigests {
  return {
    doc_hash: digest(dumps(document, 2)),
    prompt_hash: digest(requests[0]![0]),
    target_hash: digest(str(target)),
  };
}

/** Yields one line of JSON for each document and filter. */
export function* sampleLines({ task, documents }: EvaluatedTask): Generator<string> {
  for (const result of documents) yield `${dumps(fromJson(sampleOf(result, task)))}\n`;
}

/** Returns the digest of a task's documents, prompts and answers, as in `task_hashes` of lm-evaluation-harness. */
export function taskDigest({ documents }: EvaluatedTask): string {
  const digests = documents.map(sampleDigests);
  return digest(digests.map((one) => one.doc_hash + one.prompt_hash + one.target_hash).join(''));
}

function sampleOf(result: DocumentResult, { config }: Task): Record<string, unknown> {
  const { until, maxTokens } = config.generation;
  const settings = { until, max_gen_toks: maxTokens, do_sample: false };
  const isText = config.outputType === 'generate_until';
  const requests = result.requests.map((request) => (isText ? [...request, settings] : request));
  return {
    doc_id: result.id,
    doc: result.document,
    target: str(result.target),
    arguments: Object.fromEntries(
      requests.map((request, i) => [
        `gen_args_${i}`,
        Object.fromEntries(request.map((argument, j) => [`arg_${j}`, argument])),
      ]),
    ),
    resps: result.responses.map((response) =>
      new Array(isText ? config.repeats : 1).fill(responseText(response)),
    ),
    filtered_resps: isText ? [result.answer] : result.responses.map(responseText),
    filter: result.filter,
    metrics: Object.keys(result.values),
    ...sampleDigests(result),
    ...(result.values as Record<string, PythonValue>),
  };
}

/** Converts a response to the form that lm-evaluation-harness writes: a text, or a list of two texts for a likelihood. */
function responseText(response: Likelihood | number | string): string | string[] {
  if (typeof response === 'string') return response;
  if (typeof response === 'number') return floatText(response);
  return [floatText(response.logLikelihood), response.isGreedy ? 'True' : 'False'];
}

function digest(text: string): string {
  return createHash('sha256').update(text.toWellFormed()).digest('hex');
}
