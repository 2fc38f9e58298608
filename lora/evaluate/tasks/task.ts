/** A task with its documents, ready to be evaluated on any number of models. */

import { evaluateError } from '../errors.ts';
import type { MetricValue } from '../metrics/aggregate.ts';
import type { LanguageModel, Likelihood, ModelOptions } from '../model/language-model.ts';
import { PatternProblem } from '../python/regex.ts';
import { isList, type PythonValue, str } from '../python/values.ts';
import { parseTask, type TaskConfig } from './config.ts';
import {
  answerValues,
  choiceValues,
  continuationValues,
  type DocumentValues,
  rollingValues,
} from './document-results.ts';
import { type Document, Splits } from './documents.ts';
import { Fields } from './fields.ts';
import type { FilterPipeline } from './filters.ts';
import { FewshotSampler, PromptBuilder } from './prompts.ts';
import type { TaskFile } from './task-file.ts';

/** Requests to a model about one document. */
interface DocumentRequests {
  readonly document: Document;
  readonly target: PythonValue;
  /** All choices of a multiple_choice task; null for tasks of other types. */
  readonly choices: readonly string[] | null;
  readonly gold: PythonValue;
  /**
   * The text of each request. Depending on the output type, it is a context with its continuation, a whole
   * text, or a prompt.
   */
  readonly texts: readonly (readonly [string, string] | readonly [string])[];
}

/** A model's answer to a request: a likelihood, the log-probability of a whole text, or a text. */
export type Response = Likelihood | number | string;

/** The result of one document with one filter. */
export interface DocumentResult {
  /** Number of the document in its split. */
  readonly id: number;
  readonly filter: string;
  readonly document: Document;
  readonly target: PythonValue;
  /**
   * The choices of a multiple_choice task; null for other output types. The request of a choice has the same
   * index in `requests`.
   */
  readonly choices: readonly string[] | null;
  readonly requests: DocumentRequests['texts'];
  readonly responses: readonly Response[];
  /** A generated answer to which the filter has been applied; null for other output types. */
  readonly answer: string | null;
  readonly values: DocumentValues;
}

export interface LoadTaskOptions {
  /** Number of documents to evaluate, counted from the first document. @default all documents */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class Task {
  readonly config: TaskConfig;
  /** Number of documents in the split. */
  readonly total: number;
  readonly #requests: readonly DocumentRequests[];

  private constructor(config: TaskConfig, total: number, requests: readonly DocumentRequests[]) {
    this.config = config;
    this.total = total;
    this.#requests = requests;
  }

  /** Reads the data of a task. @throws TASK_FILE, TASK_UNSUPPORTED, TASK_DATA, TASK_DOCUMENT, DATA_* */
  static async load(file: TaskFile, { limit, signal }: LoadTaskOptions = {}): Promise<Task> {
    const config = parseTask(file);
    const splits = new Splits(config, signal);
    const { documents, columns } = await splits.evaluated();
    const fields = new Fields(config, columns);
    const pool = config.fewshot.count > 0 ? await splits.fewshotPool() : [];
    const prompts = new PromptBuilder(config, fields, new FewshotSampler(pool, config));
    const requests = documents
      .slice(0, limit)
      .map((document) => requestsOf(document, config, fields, prompts));
    return new Task(config, documents.length, requests);
  }

  /** Number of documents that are evaluated. */
  get documents(): number {
    return this.#requests.length;
  }

  /** Number of requests to the model. */
  get requests(): number {
    return this.#requests.reduce((sum, { texts }) => sum + texts.length, 0);
  }

  /**
   * Evaluates a model.
   * @returns one result for each filter and document: first the results of the first filter in the order of the
   *   documents, then the results of the next filter
   * @throws TASK_FILE if a regular expression exceeds its deadline; ENGINE_*; the signal's reason
   */
  async evaluate(model: LanguageModel, options: ModelOptions = {}): Promise<DocumentResult[]> {
    const responses = await this.ask(model, options);
    try {
      return this.config.filters.flatMap((filter) =>
        this.#requests.map((request, id) => this.#result(request, responses[id]!, { filter, id })),
      );
    } catch (error) {
      if (error instanceof PatternProblem) {
        throw this.config.file.wrong('filter_list', `or metric_list has a slow pattern: ${error.message}`);
      }
      throw error;
    }
  }

  #result(
    { document, target, choices, gold, texts }: DocumentRequests,
    responses: readonly Response[],
    { filter, id }: { filter: FilterPipeline; id: number },
  ): DocumentResult {
    const result = { id, filter: filter.name, document, target, choices, requests: texts, responses };
    if (this.config.outputType !== 'generate_until') {
      const values = this.#values(choices, gold, texts, responses as readonly (Likelihood | number)[]);
      return { ...result, answer: null, values };
    }
    const repeated = new Array<string>(this.config.repeats).fill(responses[0] as string);
    const answer = filter.apply(repeated);
    const several = isList(gold);
    const correct = several ? gold.map(str) : [str(gold)];
    return { ...result, answer, values: answerValues(this.config, correct, several, answer) };
  }

  #values(
    choices: readonly string[] | null,
    gold: PythonValue,
    texts: DocumentRequests['texts'],
    responses: readonly (Likelihood | number)[],
  ): DocumentValues {
    if (choices !== null) return choiceValues(this.config, choices, gold, responses as readonly Likelihood[]);
    const [first] = responses;
    if (typeof first === 'number') return rollingValues(this.config, texts[0]![0], first);
    return continuationValues(this.config, first as Likelihood);
  }

  /** The texts of the requests about each document, in the order of the documents. */
  get texts(): readonly DocumentRequests['texts'][] {
    return this.#requests.map(({ texts }) => texts);
  }

  /**
   * Asks a model about some documents.
   * @param options.documents indices of the documents. @default all documents
   * @returns the responses to the requests about each of these documents
   */
  async ask(
    model: LanguageModel,
    { documents, ...options }: ModelOptions & { documents?: readonly number[] } = {},
  ): Promise<Response[][]> {
    const asked = documents?.map((index) => this.#requests[index]!) ?? this.#requests;
    const texts = asked.map(({ texts }) => texts);
    const all = texts.flat();
    const { outputType, generation } = this.config;
    const responses: readonly Response[] =
      outputType === 'generate_until'
        ? await model.generate(
            all.map(([prompt]) => ({ prompt, ...generation })),
            options,
          )
        : outputType === 'loglikelihood_rolling'
          ? await model.rollingLikelihoods(
              all.map(([text]) => text),
              options,
            )
          : await model.likelihoods(
              all.map(([context, continuation = '']) => ({ context, continuation })),
              options,
            );
    let next = 0;
    return texts.map(({ length }) => {
      next += length;
      return responses.slice(next - length, next);
    });
  }
}

/** Returns the value of one metric for each document, for answers that passed through the filter `filter`. */
export function valuesOf(results: readonly DocumentResult[], metric: string, filter: string): MetricValue[] {
  return results.filter((result) => result.filter === filter).map(({ values }) => values[metric]!);
}

function requestsOf(
  document: Document,
  config: TaskConfig,
  fields: Fields,
  prompts: PromptBuilder,
): DocumentRequests {
  const prompt = prompts.build(document);
  const target = fields.target(document);
  const texts = (value: PythonValue): string => {
    if (typeof value === 'string') return value;
    throw evaluateError('TASK_DOCUMENT', `${config.name}: the target is ${str(value)}, which is not a text`, {
      task: config.name,
    });
  };
  const single = Array.isArray(prompt) ? '' : (prompt as string);
  switch (config.outputType) {
    case 'loglikelihood':
      return { document, target, choices: null, gold: target, texts: [[single, texts(target)]] };
    case 'loglikelihood_rolling':
      return { document, target, choices: null, gold: target, texts: [[texts(target)]] };
    case 'generate_until': {
      const choices = config.docToChoice === null ? null : fields.choices(document);
      const gold = choices !== null && typeof target === 'number' ? (choices.at(target) ?? null) : target;
      return { document, target, choices: null, gold, texts: [[single]] };
    }
    case 'multiple_choice': {
      const choices = fields.choices(document);
      const { targetDelimiter: delimiter } = config;
      const hasOwnQuestions = Array.isArray(prompt);
      const pairs = hasOwnQuestions
        ? prompt.map((context) => [context, `${delimiter}${str(target)}`] as const)
        : choices.map((choice) => [single, `${delimiter}${choice}`] as const);
      const alone = config.metrics.some(({ name }) => name === 'acc_mutual_info')
        ? choices.map((choice) => ['', `${delimiter}${choice}`] as const)
        : [];
      const gold = hasOwnQuestions ? fields.text(document) : target;
      return { document, target, choices, gold, texts: [...pairs, ...alone] };
    }
  }
}
