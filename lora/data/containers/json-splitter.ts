/**
 * Cuts the elements out of a large JSON array without parsing it: only strings and nesting are followed, so
 * memory is that of one element. The array is the document itself, or the one array of objects directly in a
 * top-level object (`{"version": …, "data": [{…}, …]}`).
 */

/** Deeper rows are refused: code that walks them would run out of stack. */
const MAX_NESTING = 256;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Text of one element; null when it is longer or deeper than allowed. */
export type Element = { bytes: Buffer } | { bytes: null; why: 'long' | 'deep' };

export type SplitFailure = 'empty' | 'not-json' | 'cut-off' | 'no-rows' | 'two-arrays' | 'text-after-the-end';

/** Thrown by `push` and `end`; the caller knows the file. */
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
  /** Depth of the elements; 0 until their array has been found. */
  #rowDepth = 0;
  /** Inside of the array of rows. */
  #inRows = false;
  /** Just behind a "[" of the top-level object: its first element tells whether it holds rows. */
  #undecided = false;
  #finished = false;
  #started = false;
  /** Something other than white space has come since the last comma or the opening bracket. */
  #filled = false;
  /** A comma stands before this element. */
  #due = false;
  #parts: Buffer[] = [];
  #length = 0;
  #why: 'long' | 'deep' | null = null;
  #elements: Element[] = [];

  constructor({ maxBytes }: { maxBytes: number }) {
    this.#maxBytes = maxBytes;
  }

  /** Elements that are complete with this chunk. @throws SplitError */
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

  /** @throws SplitError when the document is empty or not complete, or held no array of rows */
  end(): void {
    if (!this.#started) throw new SplitError('empty');
    if (!this.#finished) throw new SplitError('cut-off');
    if (this.#rowDepth === 0) throw new SplitError('no-rows');
  }

  /** Follows one byte outside of strings. @returns whether it opened the array of rows itself */
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
    // Nothing between the brackets is no element; nothing beside a comma is a faulty one.
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
