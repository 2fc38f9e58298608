/** Builds the prompts of a task: description, few-shot examples and question, as lm-evaluation-harness 0.4.13 joins them. */

import { evaluateError } from '../errors.ts';
import { PythonRandom } from '../python/random.ts';
import { endsWithSpace, startsWithSpace } from '../python/text.ts';
import { isEqual, isList, type PythonValue, str } from '../python/values.ts';
import type { Layout, TaskConfig } from './config.ts';
import type { Document } from './documents.ts';
import type { Fields } from './fields.ts';

/** The seed with which lm-evaluation-harness draws few-shot examples. */
const SEED = 1234;

/** Draws the few-shot examples of the prompts. */
export class FewshotSampler {
  readonly #pool: readonly Document[];
  readonly #config: TaskConfig;
  readonly #random = new PythonRandom(SEED);

  constructor(pool: readonly Document[], config: TaskConfig) {
    this.#pool = pool;
    this.#config = config;
  }

  /**
   * Returns the few-shot examples for a document. All calls draw from one random generator, so the order of
   * the calls matters.
   */
  draw(document: Document): readonly Document[] {
    const { fewshot, testSplit } = this.#config;
    const { count } = fewshot;
    if (count === 0) return [];
    // If examples come from the evaluated split, the document itself must not be among them.
    const isItself = (other: Document) => fewshot.split === testSplit && isEqual(other, document);
    if (fewshot.sampler === 'first_n') {
      const pool = this.#pool.filter((other) => !isItself(other));
      this.#check(pool.length, count);
      return pool.slice(0, count);
    }
    if (fewshot.split !== testSplit) {
      this.#check(this.#pool.length, count);
      return this.#random.sample(this.#pool, count);
    }
    this.#check(this.#pool.length, count + 1);
    const drawn = this.#random.sample(this.#pool, count + 1).filter((other) => !isItself(other));
    if (drawn.length >= count) return drawn.slice(0, count);
    const others = this.#pool.filter((other) => !isItself(other));
    this.#check(others.length, count);
    return this.#random.sample(others, count);
  }

  #check(available: number, needed: number): void {
    if (available >= needed) return;
    throw this.#config.file.wrong(
      'num_fewshot',
      `needs ${needed} documents to draw from, but there are ${available}`,
    );
  }
}

/** Builds prompts. */
export class PromptBuilder {
  readonly #config: TaskConfig;
  readonly #fields: Fields;
  readonly #sampler: FewshotSampler;

  constructor(config: TaskConfig, fields: Fields, sampler: FewshotSampler) {
    this.#config = config;
    this.#fields = fields;
    this.#sampler = sampler;
  }

  /** Returns the prompt of a document, or one prompt per choice if every choice has its own question. */
  build(document: Document): string | string[] {
    const { description, docToChoice, genPrefix } = this.#config;
    const examples = this.#sampler.draw(document).map((example) => this.#example(example));
    const start = [this.#fields.plain('description', document, description) ?? '', ...examples].join('');
    const prefix = this.#fields.plain('gen_prefix', document, genPrefix) ?? '';
    const question = this.#fields.text(document);
    if (typeof question === 'number' && docToChoice !== null) {
      return this.#fields.choices(document).map((choice) => start + this.#question(choice, prefix, ''));
    }
    return start + this.#question(this.#text(question), prefix, this.#config.targetDelimiter);
  }

  #question(question: string, prefix: string, delimiter: string): string {
    if (prefix === '') return question;
    const joined = question !== '' && !endsWithSpace(question) && !startsWithSpace(prefix);
    return `${question}${joined ? delimiter : ''}${prefix}`;
  }

  /** Returns the text of a few-shot example: its question, its answer, and the delimiter after the answer. */
  #example(document: Document): string {
    const layout: Layout = this.#config.fewshot;
    const question = this.#fields.text(document, layout.docToText);
    const choices = layout.docToChoice === null ? null : this.#fields.choices(document, layout.docToChoice);
    const target = this.#fields.target(document, layout.docToTarget);
    const prefix = this.#fields.plain('gen_prefix', document, layout.genPrefix) ?? '';
    const isChoice = typeof question === 'number' && choices !== null;
    const text = isChoice ? (choices[question] ?? '') : this.#text(question);
    if (target === null || target === '') return this.#question(text, prefix, layout.targetDelimiter);
    const answer = withPrefix(prefix, this.#answer(target, isChoice ? null : choices));
    const separated = prefix === '' || (text !== '' && !endsWithSpace(text) && !startsWithSpace(prefix));
    return `${text}${separated ? layout.targetDelimiter : ''}${answer}${layout.fewshotDelimiter}`;
  }

  #answer(target: PythonValue, choices: readonly string[] | null): string {
    const index = typeof target === 'boolean' ? Number(target) : target;
    const answer =
      typeof index === 'number' && choices !== null ? choices.at(index) : isList(target) ? target[0] : target;
    return this.#text(answer ?? null);
  }

  #text(value: PythonValue): string {
    if (typeof value === 'string') return value;
    const { name, file } = this.#config;
    throw evaluateError(
      'TASK_DOCUMENT',
      `${file.path}: a question or answer of ${name} is ${str(value)}, which is not a text`,
      { file: file.path, task: name },
    );
  }
}

/**
 * Joins the prefix and the rest of an answer. Puts a space between these parts, unless the prefix ends with white space
 * or the rest begins with white space.
 */
function withPrefix(prefix: string, answer: string): string {
  if (prefix === '' || answer === '') return prefix + answer;
  return endsWithSpace(prefix) || startsWithSpace(answer) ? prefix + answer : `${prefix} ${answer}`;
}
