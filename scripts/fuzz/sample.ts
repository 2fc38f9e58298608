import { z } from 'zod';
import { signerOf } from '../../test/utils/swarm/signers.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';

/** Maximum number of attempts to draw a value that passes the refinements of a schema. */
const ATTEMPTS = 50;
const PEER = signerOf(7).peerId;
/** Texts of the wire formats. A schema with a pattern gets one of the texts that match it. */
const TEXTS = [
  'a'.repeat(64),
  `${'0123456789abcdef'.repeat(4)}`,
  PEER,
  `/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`,
  'train',
  'model.safetensors',
  'a'.repeat(40),
  'q_proj',
  '12',
  '192.0.2.1',
  '2001:db8::1',
];
/** Lengths of keys, proofs, signatures and payloads, in bytes. */
const BYTE_LENGTHS = [0, 5, 32, 64, 300];

/**
 * Draws a value that a schema accepts, so that a new message is fuzzed without a new example.
 * @throws Error if the schema has a type that this function does not know, or refuses all drawn values
 */
export function sampleOf(schema: z.core.$ZodType, random: SeededRandom): unknown {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const value = draw(schema, random);
    if (z.safeParse(schema, value).success) return value;
  }
  throw new Error(`no valid value found for a schema of type ${schema._zod.def.type}`);
}

function draw(schema: z.core.$ZodType, random: SeededRandom): unknown {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case 'object':
      return Object.fromEntries(
        Object.entries(def.shape)
          .map(([key, field]) => [key, sampleOf(field, random)] as const)
          .filter(([, value]) => value !== undefined),
      );
    case 'array': {
      const { min_length: least = 0, max_length: most = 5 } = boundsOf(schema);
      const count = random.integer(least, Math.min(most, least + 4));
      return Array.from({ length: count }, () => sampleOf(def.element, random));
    }
    case 'tuple':
      return def.items.map((item) => sampleOf(item, random));
    case 'record':
      return { [sampleOf(def.keyType, random) as string]: sampleOf(def.valueType, random) };
    case 'string':
      return text(schema, random);
    case 'number':
      return number(schema, random);
    case 'boolean':
      return random.chance(0.5);
    case 'null':
      return null;
    case 'enum':
      return random.pick(Object.values(def.entries));
    case 'literal':
      return random.pick(def.values);
    case 'union':
      return sampleOf(random.pick(def.options), random);
    case 'nullable':
      return random.chance(0.3) ? null : sampleOf(def.innerType, random);
    case 'optional':
      return random.chance(0.3) ? undefined : sampleOf(def.innerType, random);
    case 'default':
      return sampleOf(def.innerType, random);
    case 'pipe':
      return sampleOf(def.out, random);
    case 'custom':
      return new Uint8Array(random.pick(BYTE_LENGTHS)).fill(9);
    default:
      throw new Error(`add schemas of type ${def.type} to ${import.meta.filename}`);
  }
}

function text(schema: z.core.$ZodType, random: SeededRandom): string {
  const candidates = [...TEXTS, random.next().toString(36).slice(2)];
  const fitting = candidates.filter((candidate) => z.safeParse(schema, candidate).success);
  return random.pick(fitting.length > 0 ? fitting : candidates);
}

function number(schema: z.core.$ZodType, random: SeededRandom): number {
  const { greater_than: least = -1000, less_than: most = 2 ** 40 } = boundsOf(schema);
  const high = Math.min(most, least + 2 ** random.integer(0, 20));
  const value = random.between(least, high);
  return z.safeParse(schema, value).success ? value : Math.ceil(value);
}

/** Returns the bounds of a number or of the length of a list, by the name of Zod's check. */
function boundsOf(schema: z.core.$ZodType): Record<string, number> {
  return Object.fromEntries(
    (schema._zod.def.checks ?? []).map(({ _zod: { def } }) => {
      const { value, minimum, maximum } = def as { value?: number; minimum?: number; maximum?: number };
      return [def.check, value ?? minimum ?? maximum ?? 0];
    }),
  );
}
