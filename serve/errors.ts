import { defineErrors, REPORT } from '../common/errors.ts';

export const serveError = defineErrors({
  API_KEY_MISSING: {
    kind: 'usage',
    next: 'give keys with --api-key-file FILE or SWARM_API_KEY, or listen on 127.0.0.1',
  },
  API_KEY_WRONG: { kind: 'refused', next: 'send the key of this server as "Authorization: Bearer KEY"' },
  API_KEYS_INVALID: 'usage',
  CONTEXT_TOO_LONG: { kind: 'usage', next: 'shorten the prompt, or lower max_tokens' },
  MODEL_NOT_SERVED: { kind: 'notFound', next: 'GET /v1/models lists the models of this server' },
  MODEL_FIXED: { kind: 'refused', next: 'only adapters that were loaded over HTTP can be unloaded' },
  MODEL_NAME_TAKEN: { kind: 'conflict', next: 'give the adapter another name: --adapter NAME=DIR' },
  SERVER_REFUSED: {
    kind: 'failed',
    next: 'check the address, the API key and the model; the log of the server can say more',
  },
  SERVER_UNREACHABLE: {
    kind: 'notRunning',
    next: 'use the address that "lora-swarm serve" prints when it starts',
  },
  SERVE_BUSY: { kind: 'conflict', next: 'send the request again later' },
  SERVE_CLIENT_GONE: 'interrupted',
  SERVE_FAILED: { kind: 'internal', next: REPORT },
  SERVE_NO_ROUTE: { kind: 'notFound', next: 'docs/serving.md lists the endpoints' },
  SERVE_PARAMETER: { kind: 'usage', next: 'leave it out; docs/serving.md lists the supported parameters' },
  SERVE_REQUEST: { kind: 'usage', next: 'correct the request; docs/serving.md describes the parameters' },
  SERVE_STOPPING: { kind: 'conflict', next: 'send the request again when the server has started again' },
  SERVE_TOO_MANY: { kind: 'conflict', next: 'wait for the answers to earlier requests' },
});
