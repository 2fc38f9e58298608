import { readFile } from 'node:fs/promises';
import { type Document, LineCounter, parseDocument } from 'yaml';
import { fromSystem, type SwarmError } from '../../../common/errors.ts';
import { finetuneError } from '../errors.ts';

/** Maximum length of a file, in characters. Files written by hand are far shorter. */
const MAX_CHARACTERS = 1024 * 1024;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'permission denied',
};

/** A YAML file of settings. Its errors give line and column. */
export class YamlFile {
  /** The content of the file as plain values. */
  readonly value: unknown;
  readonly #path: string;
  readonly #lines = new LineCounter();
  readonly #document: Document;

  /** @throws SwarmError JOB_SPEC when the text is not YAML, or is too large after its aliases have been expanded */
  constructor(text: string, path: string) {
    this.#path = path;
    this.#document = parseDocument(text, { prettyErrors: true, lineCounter: this.#lines });
    const [error] = this.#document.errors;
    if (error !== undefined) {
      const at = error.linePos?.[0];
      // The library ends its message with the place, which we print first.
      const reason = error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
      throw finetuneError(
        'JOB_SPEC',
        `${this.#place(at)}: not YAML: ${reason}`,
        { path, line: at?.line, column: at?.col },
        { next: 'fix that line; the file can be written in YAML or in JSON' },
      );
    }
    this.value = this.#plainValue();
  }

  /**
   * @param what the kind of file, for errors, such as "job file"
   * @throws SwarmError JOB_FILE_MISSING, JOB_SPEC
   */
  static async read(path: string, what: string): Promise<YamlFile> {
    const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      const reason = REASONS[cause.code ?? ''] ?? cause.message;
      throw finetuneError(
        'JOB_FILE_MISSING',
        `the ${what} ${path} cannot be read: ${reason}`,
        { path, reason },
        { cause, ...fromSystem(cause) },
      );
    });
    if (text.length <= MAX_CHARACTERS) return new YamlFile(text, path);
    throw finetuneError(
      'JOB_SPEC',
      `${path} has ${text.length} characters; a ${what} has at most ${MAX_CHARACTERS}`,
      { path },
    );
  }

  /**
   * Returns the error for wrong values.
   * @param field the first wrong field, such as `rounds.count`
   * @param next advice
   */
  wrong(field: string, problems: readonly string[], next: string): SwarmError {
    const at = this.#positionOf(field);
    return finetuneError(
      'JOB_SPEC',
      `${this.#place(at)}: ${problems.join('; ')}`,
      { path: this.#path, field, problems, line: at?.line, column: at?.col },
      { next },
    );
  }

  /**
   * Returns the document as plain values, in which each alias is replaced by a copy of its value. The library throws if
   * nested aliases would make too many values ("billion laughs"). Its limit is maxAliasCount, 100 by default.
   */
  #plainValue(): unknown {
    try {
      return this.#document.toJS();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw finetuneError(
        'JOB_SPEC',
        `${this.#path}: its aliases cannot be expanded: ${reason}`,
        { path: this.#path },
        { next: 'write the values out instead of using aliases (*name)', cause },
      );
    }
  }

  #place(at: { line: number; col: number } | undefined): string {
    return at === undefined ? this.#path : `${this.#path}:${at.line}:${at.col}`;
  }

  /** Returns the position of a field, or of the innermost section around it that the file has. */
  #positionOf(field: string): { line: number; col: number } | undefined {
    for (const keys = field.split('.'); keys.length > 0; keys.pop()) {
      const node = this.#document.getIn(keys, true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return this.#lines.linePos(node.range[0]);
    }
    return undefined;
  }
}
