/** Makes a local hub accept uploads, with the paths of Hugging Face's API that @huggingface/hub uses. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HubServer } from './hub-server.ts';

export interface Uploads {
  /** Settings of the repositories that were created. */
  readonly created: { name: string; organization: string; visibility: string }[];
  /** Titles of the commits. */
  readonly commits: string[];
}

/**
 * Makes the hub accept uploads, and returns what it has received.
 * @param token the token that the hub asks for
 */
export function acceptUploads(hub: HubServer, token: string): Uploads {
  const uploads: Uploads = { created: [], commits: [] };
  const stored = new Map<string, Buffer>();
  hub.faults.push((request, response) => {
    const { method, url = '' } = request;
    if (method !== 'POST' && method !== 'PUT') return false;
    void bodyOf(request).then((body) => {
      const put = /^\/store\/([0-9a-f]{64})$/.exec(url);
      if (put) {
        // Storage has another host than the hub, so it must not get the token.
        if (request.headers.authorization !== undefined) return answer(response, 400, {});
        stored.set(put[1]!, body);
        return answer(response, 200, {});
      }
      if (request.headers.authorization !== `Bearer ${token}`) return answer(response, 401, {});
      if (url === '/api/repos/create') {
        const wanted = JSON.parse(body.toString());
        const name = `${wanted.organization}/${wanted.name}`;
        if (hub.models.has(name)) return answer(response, 409, {});
        uploads.created.push(wanted);
        hub.models.set(name, { commit: '0'.repeat(40), files: new Map(), largeFrom: 1000 });
        return answer(response, 200, { url: `${hub.endpoint}/${name}`, id: '1' });
      }
      const [, name = ''] = /^\/(?:api\/models\/)?([^/]+\/[^/.]+)/.exec(url) ?? [];
      const model = hub.models.get(name);
      if (model === undefined) return answer(response, 404, {});
      if (url.includes('/preupload/')) {
        const { files } = JSON.parse(body.toString()) as { files: { path: string; size: number }[] };
        const modes = files.map(({ path, size }) => ({
          path,
          uploadMode: size >= model.largeFrom ? 'lfs' : 'regular',
        }));
        return answer(response, 200, { files: modes });
      }
      if (url.endsWith('/info/lfs/objects/batch')) {
        const { objects } = JSON.parse(body.toString()) as { objects: { oid: string; size: number }[] };
        const store = hub.endpoint.replace('127.0.0.1', 'localhost');
        const upload = (oid: string) => ({
          actions: { upload: { href: `${store}/store/${oid}`, header: {} } },
        });
        return answer(response, 200, {
          transfer: 'basic',
          objects: objects.map((o) => ({ ...o, ...upload(o.oid) })),
        });
      }
      for (const line of body.toString().trim().split('\n')) {
        const { key, value } = JSON.parse(line);
        if (key === 'header') uploads.commits.push(value.summary);
        if (key === 'file') model.files.set(value.path, Buffer.from(value.content, value.encoding));
        if (key === 'lfsFile') model.files.set(value.path, stored.get(value.oid)!);
      }
      model.commit = createHash('sha1').update(body).digest('hex');
      return answer(response, 200, {
        commitOid: model.commit,
        commitUrl: `${hub.endpoint}/${name}/commit/${model.commit}`,
      });
    });
    return true;
  });
  return uploads;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
