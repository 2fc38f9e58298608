/** Evaluates `doc_to_text`, `doc_to_target`, `doc_to_choice` and similar keys for a document. */
import { evaluateError } from '../errors.ts';
import { LiteralProblem, literalEval } from '../python/literal.ts';
import { fromJson, isDictionary, isList, type PythonValue, str, ValueProblem } from '../python/values.ts';
import { TemplateProblem } from '../templates/problem.ts';
import { Template } from '../templates/template.ts';
import type { FieldSource, TaskConfig } from './config.ts';
import type { Document } from './documents.ts';

/** Evaluates the fields of a task. Each template is compiled once. */
export class Fields {
  readonly #config: TaskConfig;
  readonly #columns: ReadonlySet<string>;
  readonly #templates = new Map<string, Template>();

  /** @param columns the columns of the evaluated documents. A field with the name of a column stands for that column. */
  constructor(config: TaskConfig, columns: ReadonlySet<string>) {
    this.#config = config;
    this.#columns = columns;
  }

  /**
   * Returns the question. In tasks in which every choice has its own question, returns the number of the correct
   * choice.
   */
  text(document: Document, source: FieldSource | null = this.#config.docToText): PythonValue {
    const value = this.#value('doc_to_text', source, document);
    return this.#digits(value, source);
  }

  /** Returns the correct answer, the number of the correct choice, or a list of correct answers or numbers. */
  target(document: Document, source: FieldSource | null = this.#config.docToTarget): PythonValue {
    if (isList(source)) return fromJson(source);
    const value = this.#value('doc_to_target', source, document);
    const number = this.#digits(value, source);
    if (number !== value || !this.#isTemplate(source) || typeof value !== 'string') return number;
    if (value.length < 2 || !value.startsWith('[') || !value.endsWith(']')) return value;
    try {
      return literalEval(value);
    } catch (error) {
      if (error instanceof LiteralProblem) return value;
      throw error;
    }
  }

  /** Returns the texts of the choices of a document. @throws TASK_DOCUMENT if the choices are not a list of texts */
  choices(document: Document, source: FieldSource | null = this.#config.docToChoice): readonly string[] {
    const key = 'doc_to_choice';
    let value: PythonValue;
    if (typeof source === 'string') {
      value = this.#value(key, source, document);
      if (this.#isTemplate(source)) value = this.#literal(key, this.#text(key, value));
    } else value = isDictionary(source) ? Object.values(fromJson(source) as object) : fromJson(source);
    if (!isList(value) || !value.every((choice) => typeof choice === 'string')) {
      throw this.#problem(key, `the choices are ${this.#text(key, value)}, which is not a list of texts`);
    }
    return value as readonly string[];
  }

  /** Returns the text of a column of the document, or the text that a template makes from the document. */
  plain(key: string, document: Document, source: FieldSource | null): string | null {
    if (source === null || source === '') return null;
    return this.#text(key, this.#value(key, source, document));
  }

  /** Returns the text of a value. @throws TASK_DOCUMENT if the value is nested too deeply or is too large to print */
  #text(key: string, value: PythonValue): string {
    try {
      return str(value);
    } catch (error) {
      if (error instanceof ValueProblem) throw this.#problem(key, error.message, error);
      throw error;
    }
  }

  #isTemplate(source: FieldSource | null): source is string {
    return typeof source === 'string' && !this.#columns.has(source);
  }

  #value(key: string, source: FieldSource | null, document: Document): PythonValue {
    if (typeof source === 'number') return source;
    if (typeof source !== 'string') throw this.#config.file.wrong(key, 'must be a column or a template');
    if (!this.#isTemplate(source)) {
      const value = document[source as string];
      if (value === undefined) throw this.#problem(key, `an example has no column ${String(source)}`);
      return value;
    }
    try {
      let template = this.#templates.get(source);
      if (template === undefined) {
        template = new Template(source);
        this.#templates.set(source, template);
      }
      return template.render(document);
    } catch (error) {
      if (error instanceof TemplateProblem) throw this.#problem(key, error.message, error);
      throw error;
    }
  }

  /**
   * Converts text to a number if the task has choices and a template wrote only digits. Leaves other values unchanged.
   */
  #digits(value: PythonValue, source: FieldSource | null): PythonValue {
    if (this.#config.docToChoice === null || !this.#isTemplate(source)) return value;
    return typeof value === 'string' && /^\p{Nd}+$/u.test(value)
      ? this.#literal('doc_to_target', value)
      : value;
  }

  #literal(key: string, text: string): PythonValue {
    try {
      return literalEval(text);
    } catch (error) {
      if (error instanceof LiteralProblem)
        throw this.#problem(key, `${text.slice(0, 200)}: ${error.message}`, error);
      throw error;
    }
  }

  #problem(key: string, problem: string, cause?: unknown): Error {
    const { file } = this.#config;
    const entry = file.entries.get(key);
    const place = entry === undefined ? file.path : `${entry.file}:${entry.line}`;
    return evaluateError(
      'TASK_DOCUMENT',
      `${place}: ${key}: ${problem}`,
      { file: file.path, key, problem },
      { cause },
    );
  }
}
