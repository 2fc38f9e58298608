import { z } from 'zod';
import { SwarmError } from '../protocol/errors.ts';
import { nameSchema, peerIdSchema } from '../protocol/ids.ts';
import { acceptanceSchema, loraSchema, roundsSchema, trainingSchema } from '../protocol/manifest.ts';

const path = z.string().min(1).max(4096);
/** Files, folders or glob patterns of .txt and .jsonl. */
const paths = z.union([path, z.array(path).min(1).max(10_000)]);

/** A job as its operator writes it, in YAML or JSON. */
export const jobSpecSchema = z.strictObject({
  name: nameSchema,
  /** Folder of the base model, in Hugging Face layout. */
  base: path,
  data: z.strictObject({
    train: paths,
    /** Files of their own, or the share of the documents that is kept out of training. @default 0.1 */
    heldOut: z.union([z.number().gt(0).lt(1), paths]).default(0.1),
  }),
  lora: loraSchema.prefault({}),
  training: trainingSchema.prefault({}),
  rounds: roundsSchema.prefault({}),
  acceptance: acceptanceSchema.prefault({}),
  /** "open" to everybody, "invite" for holders of the job's invite, or a list of peer ids. @default "open" */
  admission: z
    .union([z.literal('open'), z.literal('invite'), z.array(peerIdSchema).min(1).max(4096)])
    .default('open'),
  /** Of the initial adapter and of the choice of held-out documents. @default 0 */
  seed: z.int().nonnegative().max(0xffffffff).default(0),
});

export type JobSpec = z.output<typeof jobSpecSchema>;
export type JobSpecInput = z.input<typeof jobSpecSchema>;

/**
 * Checks a job specification; unknown keys are errors, with the key that was probably meant.
 * @throws SwarmError JOB_SPEC (values: field, problems)
 */
export function parseJobSpec(value: unknown): JobSpec {
  const result = jobSpecSchema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap(describe);
  throw new SwarmError(
    'JOB_SPEC',
    `the job specification is wrong: ${problems.map(({ text }) => text).join('; ')}`,
    {
      field: problems[0]!.field,
      problems: problems.map(({ text }) => text),
    },
  );
}

interface Problem {
  field: string;
  text: string;
}

function describe(issue: z.core.$ZodIssue): Problem[] {
  const field = issue.path.join('.');
  if (issue.code !== 'unrecognized_keys') {
    return [{ field, text: `${field || 'the specification'}: ${issue.message}` }];
  }
  const known = keysAt(issue.path);
  return issue.keys.map((key) => {
    const full = [...issue.path, key].join('.');
    const meant = nearest(key, known);
    const hint = meant ? `did you mean "${meant}"?` : `known are ${known.join(', ')}`;
    return { field: full, text: `"${full}" is no known key; ${hint}` };
  });
}

function keysAt(steps: readonly PropertyKey[]): string[] {
  let schema: unknown = jobSpecSchema;
  for (const step of steps) schema = shapeOf(schema)?.[String(step)];
  return Object.keys(shapeOf(schema) ?? {});
}

/** The fields of an object schema, also of one behind a default. */
function shapeOf(schema: unknown): Record<string, unknown> | null {
  if (schema instanceof z.ZodObject) return schema.shape;
  if (schema instanceof z.ZodPrefault) return shapeOf(schema.unwrap());
  return null;
}

/** The known key with the fewest edits, if those are few enough to be a slip. */
function nearest(key: string, known: readonly string[]): string | null {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  let best: { name: string; edits: number } | null = null;
  for (const name of known) {
    const edits = distance(plain(key), plain(name));
    if (!best || edits < best.edits) best = { name, edits };
  }
  return best && best.edits <= Math.max(1, Math.floor(best.name.length / 3)) ? best.name : null;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn one text into the other. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const above = rows[i - 1]!;
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? rows[i - 2]![j - 2]! + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(replaced, above[j]! + 1, row[j - 1]! + 1, swap));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
