import { request as httpRequest } from 'node:http';
import { storageError } from '../../storage/errors.ts';

export interface HttpResponse {
  status: number;
  body: AsyncIterable<Uint8Array>;
}

/**
 * Sends one HTTP request to a daemon on this machine. The request has no timeout, but the signal can abort it. We do
 * not use Node's fetch, because it closes a stream after five minutes without data, and more than five minutes can pass
 * between two events of a job.
 */
export function request(
  url: URL,
  options: { method: string; headers: Record<string, string>; body?: string; signal: AbortSignal },
): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    const { method, headers, body, signal } = options;
    const call = httpRequest(url, { method, headers, signal, agent: false }, (response) => {
      resolve({ status: response.statusCode ?? 0, body: response });
    });
    call.on('error', reject);
    call.end(body);
  });
}

/** Maximum number of bytes of an incomplete line that an error shows. */
const SHOWN_BYTES = 80;

/** Reads the whole body. */
export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * Parses the lines of JSON at the beginning of a body, and then yields the bytes after them.
 * @param onLine returns whether another line follows
 * @throws SwarmError DAEMON_GONE if the body ends although another line must follow
 */
export async function* bytesAfterLines(
  body: AsyncIterable<Uint8Array>,
  onLine: (line: unknown) => boolean,
): AsyncGenerator<Uint8Array, void, undefined> {
  let rest = Buffer.alloc(0);
  let hasLine = true;
  for await (const chunk of body) {
    rest = hasLine ? Buffer.concat([rest, chunk]) : Buffer.from(chunk);
    for (let end = rest.indexOf('\n'); hasLine && end >= 0; end = rest.indexOf('\n')) {
      hasLine = onLine(JSON.parse(rest.toString('utf8', 0, end)));
      rest = rest.subarray(end + 1);
    }
    if (!hasLine && rest.length > 0) yield rest;
  }
  if (!hasLine) return;
  const begun = rest.length === 0 ? '' : `, in the line "${rest.toString('utf8', 0, SHOWN_BYTES)}"`;
  const message = `the daemon ended its answer before it was complete${begun}`;
  throw storageError('DAEMON_GONE', message, { began: true }, { next: 'run the same command again' });
}

/** Parses newline-delimited JSON, one value per line. */
export async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<unknown, void, undefined> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) if (line !== '') yield JSON.parse(line);
  }
  if (rest.trim() !== '') yield JSON.parse(rest);
}
