/** A local hub: the paths of Hugging Face's API that a download uses, with faults that a test chooses. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface HubModel {
  /** The commit to which the branch `main` points. */
  commit: string;
  files: Map<string, Buffer>;
  /** Files of at least this many bytes count as large: their etag is a SHA-256, and another host serves them. */
  largeFrom: number;
  /** Token required for the files. Default: none. */
  token?: string;
  gated?: boolean;
}

/** Answers a request and returns true, or returns false to leave it to the server. */
type Fault = (request: IncomingMessage, response: ServerResponse) => boolean;

export class HubServer {
  readonly models = new Map<string, HubModel>();
  /** Method and path of every request, with its Range header if it has one. */
  readonly requests: string[] = [];
  readonly authorizations: (string | undefined)[] = [];
  /** Faults, tried in order until one answers the request. */
  readonly faults: Fault[] = [];
  /** Entries per page of the listing. */
  pageSize = 3;
  endpoint = '';
  readonly #server = createServer((request, response) => this.#answer(request, response));

  static async start(): Promise<HubServer> {
    const hub = new HubServer();
    await new Promise<void>((resolve) => hub.#server.listen(0, '127.0.0.1', resolve));
    hub.endpoint = `http://127.0.0.1:${(hub.#server.address() as AddressInfo).port}`;
    onTestFinished(() => hub.stop());
    return hub;
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** Adds a fault for the first `times` requests whose path matches. */
  fault(path: RegExp, answer: (response: ServerResponse, request: IncomingMessage) => void, times = 1): void {
    let left = times;
    this.faults.push((request, response) => {
      if (left === 0 || !path.test(request.url!)) return false;
      left--;
      answer(response, request);
      return true;
    });
  }

  /** Returns the requests for files, without those to the API. */
  downloads(): string[] {
    return this.requests.filter((line) => line.includes('/resolve/'));
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const { url = '', headers } = request;
    this.requests.push([request.method, url, headers.range].filter(Boolean).join(' '));
    this.authorizations.push(headers.authorization);
    if (this.faults.some((fault) => fault(request, response))) return null;
    const { pathname, searchParams } = new URL(url, this.endpoint);
    const cdn = /^\/cdn\/([^/]+\/[^/]+)\/(.+)$/.exec(pathname);
    if (cdn) return this.#content(request, response, this.models.get(cdn[1]!)!.files.get(cdn[2]!)!, {});
    const [, , name, action, rawRevision, path] =
      /^(\/api\/models)?\/([^/]+\/[^/]+)\/(revision|tree|resolve)\/([^/]+)\/?(.*)$/.exec(pathname) ?? [];
    const model = this.models.get(name ?? '');
    const authorized = model?.token === undefined || headers.authorization === `Bearer ${model.token}`;
    if (model === undefined || (!authorized && !model.gated)) {
      return refuse(response, headers.authorization ? 404 : 401, 'RepoNotFound');
    }
    const revision = decodeURIComponent(rawRevision!);
    if (revision !== 'main' && revision !== model.commit) return refuse(response, 404, 'RevisionNotFound');
    if (action === 'revision') {
      return json(response, {
        _id: '1',
        id: name,
        sha: model.commit,
        lastModified: '2026-01-01T00:00:00.000Z',
        gated: model.gated ?? false,
        siblings: [...model.files.keys()].map((rfilename) => ({ rfilename })),
      });
    }
    if (action === 'tree') {
      const folder = decodeURIComponent(path!);
      return this.#list(
        response,
        pathname,
        entriesOf(model, folder),
        Number(searchParams.get('cursor') ?? 0),
      );
    }
    if (!authorized) return refuse(response, headers.authorization ? 403 : 401, 'GatedRepo');
    const content = model.files.get(decodeURIComponent(path!));
    if (content === undefined) return refuse(response, 404, 'EntryNotFound');
    if (content.length < model.largeFrom) {
      return this.#content(request, response, content, {
        'x-repo-commit': model.commit,
        etag: `"${etagOf(content, model.largeFrom)}"`,
      });
    }
    response.writeHead(302, {
      // The redirect names another host, to which the client must not send the token.
      location: `${this.endpoint.replace('127.0.0.1', 'localhost')}/cdn/${name}/${path}`,
      'x-linked-etag': `"${etagOf(content, model.largeFrom)}"`,
      'x-linked-size': content.length,
      'x-repo-commit': model.commit,
    });
    return response.end();
  }

  #list(response: ServerResponse, pathname: string, all: readonly object[], from: number): void {
    const next = from + this.pageSize;
    if (next < all.length)
      response.setHeader('link', `<${this.endpoint}${pathname}?cursor=${next}>; rel="next"`);
    json(response, all.slice(from, next));
  }

  #content(
    { headers }: IncomingMessage,
    response: ServerResponse,
    content: Buffer,
    more: Record<string, string>,
  ): void {
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    if (headers.range !== undefined && from >= content.length) {
      response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
      return;
    }
    const range = { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` };
    response.writeHead(headers.range === undefined ? 200 : 206, {
      'content-length': content.length - from,
      'accept-ranges': 'bytes',
      ...(headers.range === undefined ? {} : range),
      ...more,
    });
    response.end(content.subarray(from));
  }
}

/** Lists the entries directly in a folder; "" is the top folder. */
function entriesOf({ files, largeFrom }: HubModel, folder: string): object[] {
  const within = folder === '' ? '' : `${folder}/`;
  return [...files].flatMap(([path, content]): object[] => {
    if (!path.startsWith(within)) return [];
    if (path.includes('/', within.length)) {
      const name = path.slice(0, path.indexOf('/', within.length));
      return [{ type: 'directory', path: name, size: 0, oid: gitOid(Buffer.from(name)) }];
    }
    const lfs = { oid: etagOf(content, largeFrom), size: content.length, pointerSize: 130 };
    const large = content.length >= largeFrom && { lfs };
    return [{ type: 'file', path, size: content.length, oid: gitOid(content), ...large }];
  });
}

export function gitOid(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

export function etagOf(content: Buffer, largeFrom: number): string {
  return content.length >= largeFrom ? createHash('sha256').update(content).digest('hex') : gitOid(content);
}

export function refuse(response: ServerResponse, status: number, code?: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', ...(code && { 'x-error-code': code }) });
  response.end('no');
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
