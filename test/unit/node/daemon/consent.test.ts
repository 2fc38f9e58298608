import { expect, it } from 'vitest';
import { CONSENT_NOTICE } from '../../../../node/daemon/consent.ts';
import { type Heartbeat, heartbeatSchema, type Update, updateSchema } from '../../../../protocol/messages.ts';
import { rpcMethods } from '../../../../protocol/requests/rpc.ts';

/** The word of the notice for each field that a node sends; null for fields that say nothing about the node. */
const HEARTBEAT: Record<keyof Heartbeat, string | null> = {
  job: null,
  name: 'name',
  agent: 'version',
  state: 'what it does',
  round: 'what it does',
  step: 'what it does',
  steps: 'what it does',
  tokensPerSecond: 'speed',
  engine: 'engine',
  bytesSent: 'traffic',
  bytesReceived: 'traffic',
  hold: 'why it pauses',
  run: null,
  known: null,
  issuedAt: 'clock',
};
const UPDATE: Record<keyof Update, string | null> = {
  job: null,
  term: null,
  round: null,
  parent: null,
  preset: null,
  start: null,
  end: null,
  steps: null,
  tokens: 'tokens',
  seconds: 'speed',
  lossFirst: 'losses',
  lossLast: 'losses',
  payload: 'LoRA updates',
  inline: 'LoRA updates',
};
const JOIN: Record<string, string | null> = {
  job: null,
  invite: null,
  name: 'name',
  agent: 'version',
  engine: 'engine',
  tokensPerSecond: 'speed',
  scores: null,
  run: null,
  sentAt: 'clock',
};

it('the notice names everything about a node that the node sends', () => {
  for (const [schema, words] of [
    [heartbeatSchema, HEARTBEAT],
    [updateSchema, UPDATE],
    [rpcMethods.join.request, JOIN],
  ] as const) {
    expect(Object.keys(schema.shape).sort()).toEqual(Object.keys(words).sort());
    for (const word of Object.values(words)) if (word !== null) expect(CONSENT_NOTICE).toContain(word);
  }
  for (const word of ['peer id', 'address', 'public page']) expect(CONSENT_NOTICE).toContain(word);
});
