import { expect, it } from 'vitest';
import { decoders } from '../../../scripts/fuzz/decoders.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';
import { SeededRandom } from '../../utils/virtual/seeded-random.ts';

/**
 * The schemas with which the sources decode CBOR, and for each the decoder of scripts/fuzz/decoders.ts that covers it.
 * Any stranger can send bytes to these decoders.
 */
const FUZZED: Readonly<Record<string, string>> = {
  envelopeSchema: 'envelope:head',
  'messageSchemas[kind]': 'body:head',
  inviteSchema: 'invite',
  ticketSchema: 'ticket',
  'spec.request': 'request:join',
  schema: 'answer:join',
  blobRequestSchema: 'blob:request',
  blobAnswerSchema: 'blob:answer',
  headerSchema: 'shard',
  evidenceSchema: 'evidence',
  updateSchema: 'evidence',
  rootSchema: 'bundle:root',
  recordSchema: 'bundle:record',
  removalsContentSchema: 'removals',
  stopProofSchema: 'stop-proof',
  questionsSchema: 'questions',
  answersSchema: 'answers',
  claimedEnvelopeSchema: 'update:claims',
  claimSchema: 'update:claims',
};

it('every schema of CBOR bytes has an entry in scripts/fuzz/decoders.ts', () => {
  const names = new Set(decoders.map(({ name }) => name));
  const used = sourcesIn(SHIPPED).flatMap(({ path, text }) =>
    [...text.matchAll(/\bdecodeCbor\(\s*[\w.]+,\s*([\w.[\]]+),/g)].map((found) => ({
      path,
      schema: found[1]!,
    })),
  );
  expect(used.length).toBeGreaterThan(5);
  const missing = used.filter(({ schema }) => !names.has(FUZZED[schema] ?? ''));
  expect(missing, 'add a decoder to scripts/fuzz/decoders.ts, and name it in this test').toEqual([]);
});

it.each(decoders)('$name accepts its valid encoding', (decoder) => {
  decoder.decode(decoder.example(new SeededRandom(1)));
});
