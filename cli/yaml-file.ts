import { readFile } from 'node:fs/promises';
import { type Document, LineCounter, parseDocument } from 'yaml';
import type { SwarmError } from '../common/errors.ts';
import { finetuneError } from '../lora/finetune/errors.ts';
import { cliError } from './error-codes.ts';

/** It is written by hand. */
const MAX_CHARACTERS = 1024 * 1024;

/** A YAML file of settings, which knows where in it something is wrong. */
export class YamlFile {
  readonly #path: string;
  readonly #lines = new LineCounter();
  readonly #document: Document;

  /** @throws SwarmError JOB_SPEC it is no YAML */
  constructor(text: string, path: string) {
    this.#path = path;
    this.#document = parseDocument(text, { prettyErrors: true, lineCounter: this.#lines });
    const [error] = this.#document.errors;
    if (error === undefined) return;
    const at = error.linePos?.[0];
    // The place stands before it.
    const reason = error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
    throw finetuneError(
      'JOB_SPEC',
      `${this.#place(at)}: not YAML: ${reason}`,
      { path, line: at?.line, column: at?.col },
      { next: 'mend that line; JSON is YAML too' },
    );
  }

  /**
   * @param what it is, for errors: "job file"
   * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC
   */
  static async read(path: string, what: string): Promise<YamlFile> {
    const text = await readFile(path, 'utf8').catch((cause: unknown) => {
      throw cliError('JOB_FILE_MISSING', `the ${what} ${path} cannot be read`, { path }, { cause });
    });
    if (text.length <= MAX_CHARACTERS) return new YamlFile(text, path);
    throw finetuneError('JOB_SPEC', `${path} has ${text.length} characters; that is no ${what}`, { path });
  }

  get value(): unknown {
    return this.#document.toJS();
  }

  /** The error for values that are wrong. @param field the first that is */
  wrong(field: string, problems: readonly string[], next: string): SwarmError {
    const at = this.#positionOf(field);
    return finetuneError(
      'JOB_SPEC',
      `${this.#place(at)}: ${problems.join('; ')}`,
      { path: this.#path, field, problems, line: at?.line, column: at?.col },
      { next },
    );
  }

  #place(at: { line: number; col: number } | undefined): string {
    return at === undefined ? this.#path : `${this.#path}:${at.line}:${at.col}`;
  }

  /** Of a field, or of the innermost section around it that is there. */
  #positionOf(field: string): { line: number; col: number } | undefined {
    for (const keys = field.split('.'); keys.length > 0; keys.pop()) {
      const node = this.#document.getIn(keys, true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return this.#lines.linePos(node.range[0]);
    }
    return undefined;
  }
}
