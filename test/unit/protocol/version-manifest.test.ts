import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ADAPTER_BYTES } from '../../../protocol/limits.ts';
import { signMessage, verifyMessage } from '../../../protocol/signing.ts';
import {
  VERSION_FACTS,
  VERSION_FILES,
  VERSION_PARENTS,
  type VersionManifest,
} from '../../../protocol/version-manifest.ts';
import { signerOf } from '../../utils/swarm/signers.ts';

const signer = signerOf(1);
const digest = fc
  .array(fc.integer({ min: 0, max: 15 }), { minLength: 64, maxLength: 64 })
  .map((digits) => digits.map((digit) => digit.toString(16)).join(''));
const word = fc.stringMatching(/^[a-z][a-z0-9.-]{0,20}$/);
const label = fc.string({ maxLength: 50 });
// CBOR has no negative zero.
const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (n === 0 ? 0 : n));
const value = fc.oneof(fc.string({ maxLength: 50 }), number, fc.boolean());

const manifests: fc.Arbitrary<VersionManifest> = fc.record({
  schema: fc.constant(1 as const),
  name: word,
  base: fc.record({
    name: fc.option(label),
    revision: fc.option(label),
    digest,
    tokenizer: fc.option(digest),
  }),
  files: fc
    .uniqueArray(word, { minLength: 1, maxLength: 4, selector: (path) => path.toLowerCase() })
    .chain((paths) =>
      fc.tuple(
        ...paths.map((path) => fc.record({ path: fc.constant(path), size: fc.nat(ADAPTER_BYTES), digest })),
      ),
    ),
  parents: fc.array(
    fc.record({
      digest,
      label,
      method: fc.constantFrom('train', 'job', 'svd'),
      weight: fc.constantFrom(1, 0.5, -2),
    }),
    { maxLength: 3 },
  ),
  job: fc.option(fc.record({ digest, name: word, checkpoint: digest, round: fc.nat() })),
  data: fc.array(fc.record({ name: label, digest }), { maxLength: 3 }),
  settings: fc.dictionary(word, fc.option(value), { maxKeys: 5 }),
  metrics: fc.dictionary(word, number, { maxKeys: 5 }),
  createdAt: fc.nat(),
});

const base: VersionManifest = {
  schema: 1,
  name: 'demo',
  base: { name: null, revision: null, digest: 'a'.repeat(64), tokenizer: null },
  files: [{ path: 'adapter_config.json', size: 1, digest: 'b'.repeat(64) }],
  parents: [],
  job: null,
  data: [],
  settings: {},
  metrics: {},
  createdAt: 0,
};

describe('the manifest of a version', () => {
  it('gives back what was signed, with the same digest whatever the order of its keys', () => {
    fc.assert(
      fc.property(manifests, (manifest) => {
        const { message, author, digest } = verifyMessage(
          'version-manifest',
          signMessage('version-manifest', manifest, signer),
        );
        expect(message).toEqual(manifest);
        expect(author).toBe(signer.peerId);
        const turned = Object.fromEntries(Object.entries(manifest).reverse()) as VersionManifest;
        const again = signMessage('version-manifest', turned, signer);
        expect(verifyMessage('version-manifest', again).digest).toBe(digest);
      }),
      { numRuns: 50 },
    );
  });

  it('refuses what exceeds a limit, and file names that could leave a folder', () => {
    const file = base.files[0]!;
    const parent = { digest: 'c'.repeat(64), label: '', method: 'train', weight: 1 };
    const facts = Object.fromEntries(Array.from({ length: VERSION_FACTS + 1 }, (_, i) => [`f${i}`, 1]));
    const wrong: Record<string, unknown>[] = [
      { name: 'Demo' },
      { schema: 2 },
      { files: [] },
      { files: Array.from({ length: VERSION_FILES + 1 }, (_, i) => ({ ...file, path: `f${i}` })) },
      { files: [file, { ...file, path: 'ADAPTER_CONFIG.json' }] },
      { files: [{ ...file, size: ADAPTER_BYTES + 1 }] },
      ...['../x', '/x', 'a/b', '.hidden', 'a\\b', 'a\0', ''].map((path) => ({ files: [{ ...file, path }] })),
      { parents: Array(VERSION_PARENTS + 1).fill(parent) },
      { parents: [{ ...parent, method: 'x y' }] },
      { parents: [{ ...parent, weight: Number.NaN }] },
      { settings: facts },
      { metrics: facts },
      { metrics: { loss: Number.POSITIVE_INFINITY } },
      { settings: { 'a\nb': 1 } },
      { settings: { a: 'x'.repeat(4097) } },
      { settings: { a: [1] } },
      { more: 1 },
    ];
    for (const change of wrong) {
      const manifest = { ...base, ...change } as VersionManifest;
      expect(
        () => signMessage('version-manifest', manifest, signer),
        JSON.stringify(change).slice(0, 80),
      ).toThrow();
    }
    expect(verifyMessage('version-manifest', signMessage('version-manifest', base, signer)).message).toEqual(
      base,
    );
  });
});
