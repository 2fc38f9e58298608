/**
 * Splits a large JSON array into its elements without parsing them. The splitter tracks only strings and
 * nesting, and holds one element in memory at a time. The array is either the whole document, or the only
 * array of objects directly inside a top-level object (`{"version": …, "data": [{…}, …]}`).
 */

/** Maximum nesting of a record. Recursive code would run out of stack on deeper records. */
const MAX_NESTING = 256;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** The text of one element, or the reason why it is refused. */
export type Element = { bytes: Buffer } | { bytes: null; why: 'long' | 'deep' };

export type SplitFailure = 'empty' | 'not-json' | 'cut-off' | 'no-rows' | 'two-arrays' | 'text-after-the-end';

/** Thrown by `push` and `end`. The caller adds the file's name. */
export class SplitError extends Error {
  readonly failure: SplitFailure;
  constructor(failure: SplitFailure) {
    super(failure);
    this.failure = failure;
  }
}

export class JsonSplitter {
  readonly #maxBytes: number;
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Nesting depth at which the elements of the array of records begin; 0 until this array is found. */
  #rowDepth = 0;
  /** Whether the position is inside the array of records. */
  #inRows = false;
  /**
   * Whether the last byte opened an array directly inside the top-level object. The first element of this array will
   * show whether the array holds the records.
   */
  #undecided = false;
  #finished = false;
  #started = false;
  /** Whether the current element has a character other than white space. */
  #filled = false;
  /** Whether an element must follow, because a comma has just ended the previous element. */
  #due = false;
  #parts: Buffer[] = [];
  #length = 0;
  #why: 'long' | 'deep' | null = null;
  #elements: Element[] = [];

  constructor({ maxBytes }: { maxBytes: number }) {
    this.#maxBytes = maxBytes;
  }

  /** Returns the elements that this chunk completes. @throws SplitError */
  push(chunk: Buffer): Element[] {
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
        continue;
      }
      if (byte <= 0x20) continue;
      if (this.#undecided) this.#decide(byte);
      const atElement = this.#inRows && this.#depth === this.#rowDepth;
      if (atElement && (byte === COMMA || byte === CLOSE_ARRAY || byte === CLOSE_OBJECT)) {
        this.#keep(chunk.subarray(from, i));
        this.#complete(byte === COMMA);
        from = i + 1;
        if (byte !== COMMA) this.#close(byte);
        continue;
      }
      if (atElement) this.#filled = true;
      if (this.#open(byte)) from = i + 1;
    }
    if (this.#inRows) this.#keep(chunk.subarray(from));
    const elements = this.#elements;
    this.#elements = [];
    return elements;
  }

  /** @throws SplitError if the document is empty or incomplete, or has no array of records */
  end(): void {
    if (!this.#started) throw new SplitError('empty');
    if (!this.#finished) throw new SplitError('cut-off');
    if (this.#rowDepth === 0) throw new SplitError('no-rows');
  }

  /** Tracks one byte outside strings. Returns whether the byte opened an array that may hold the records. */
  #open(byte: number): boolean {
    if (this.#finished) throw new SplitError('text-after-the-end');
    if (!this.#started) {
      this.#started = true;
      if (byte !== OPEN_ARRAY && byte !== OPEN_OBJECT) throw new SplitError('not-json');
      this.#depth = 1;
      if (byte === OPEN_OBJECT) return false;
      this.#enter();
      return true;
    }
    if (byte === QUOTE) this.#inString = true;
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      this.#depth++;
      if (this.#inRows && this.#depth - this.#rowDepth > MAX_NESTING) this.#spoil('deep');
      if (!this.#inRows && this.#depth === 2 && byte === OPEN_ARRAY) {
        this.#undecided = true;
        return true;
      }
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) this.#close(byte);
    return false;
  }

  #decide(byte: number): void {
    this.#undecided = false;
    if (byte !== OPEN_OBJECT) return;
    if (this.#rowDepth > 0) throw new SplitError('two-arrays');
    this.#enter();
  }

  #enter(): void {
    this.#inRows = true;
    this.#rowDepth = this.#depth;
  }

  #close(byte: number): void {
    if (this.#inRows && this.#depth === this.#rowDepth) {
      if (byte !== CLOSE_ARRAY) throw new SplitError('not-json');
      this.#inRows = false;
    }
    this.#depth--;
    if (this.#depth === 0) this.#finished = true;
  }

  #keep(bytes: Buffer): void {
    if (this.#why !== null || bytes.length === 0) return;
    this.#length += bytes.length;
    if (this.#length > this.#maxBytes) this.#spoil('long');
    else this.#parts.push(bytes);
  }

  #spoil(why: 'long' | 'deep'): void {
    this.#why ??= why;
    this.#parts = [];
  }

  #complete(comma: boolean): void {
    // Empty brackets are an array without elements, so nothing is added. An empty element next to a comma is
    // added, so that the parser reports it as an error.
    if (this.#filled || this.#due || comma) {
      this.#elements.push(
        this.#why === null ? { bytes: Buffer.concat(this.#parts) } : { bytes: null, why: this.#why },
      );
    }
    this.#due = comma;
    this.#filled = false;
    this.#parts = [];
    this.#length = 0;
    this.#why = null;
  }
}
