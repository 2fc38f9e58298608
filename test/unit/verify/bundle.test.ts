import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CID } from 'multiformats/cid';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { encodeCbor, sha256 } from '../../../protocol/cbor.ts';
import { signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { carHeader, DAG_CBOR, decodeSectionHead, RAW, sectionHead } from '../../../verify/bundle/car.ts';
import { type BundleSource, blobsOf, encodeBundle, encodeRecord } from '../../../verify/bundle/encode.ts';
import { openBundle } from '../../../verify/bundle/open.ts';
import { verifyBundle } from '../../../verify/bundle/verify-bundle.ts';
import type { CheckpointRecord } from '../../../verify/record.ts';
import { type VerifyOptions, verifyRecord } from '../../../verify/verify-job.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';
import { COORDINATOR } from '../coordinator/world.ts';
import { flipped, playedJob } from './forged-job.ts';

let source: BundleSource;
let bytes: Uint8Array;

beforeAll(async () => {
  ({ source } = await playedJob());
  bytes = await encoded(source);
});

async function encoded(from: BundleSource): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of encodeBundle(from)) parts.push(part);
  return Buffer.concat(parts);
}

async function opened(content: Uint8Array) {
  const path = join(await temporaryFolder(), 'job.bundle');
  await writeFile(path, content);
  const bundle = await openBundle(path);
  onTestFinished(() => bundle.close());
  return bundle;
}

describe('a bundle', () => {
  test('has everything that a verification needs', async () => {
    const report = await verifyRecord(await opened(bytes));
    expect(report).toMatchObject({ ok: true, recomputed: 3, problems: [] });
  });

  test('has the same bytes each time', async () => {
    expect(sha256(await encoded(source))).toBe(sha256(bytes));
  });

  test('can leave out the blobs, so that signatures and receipts can still be checked', async () => {
    const small = await encoded({ ...source, blobs: null });
    expect(small.byteLength).toBeLessThan(bytes.byteLength);
    expect(await verifyRecord(await opened(small))).toMatchObject({ ok: true, recomputed: 0 });
  });

  test('can leave out damaged blobs, and names them as unchecked', async () => {
    const digests = new Map([...source.checkpoints()].flatMap(blobsOf).map((one) => [one.use, one.digest]));
    const missing = (['payload', 'adapter'] as const).map((use) => ({
      use,
      round: 3,
      digest: digests.get(use)!,
    }));
    const report = await verified(await encoded({ ...source, missing }));
    expect(report).toMatchObject({ ok: true, recomputed: 2 });
    const reasons = report.checkpoints.at(-1)!.unchecked.map(({ check, reason }) => `${check} ${reason}`);
    for (const { use, digest } of missing) {
      const check = use === 'payload' ? 'merge' : 'adapter';
      expect(reasons).toContainEqual(expect.stringMatching(new RegExp(`^${check} .*${use} ${digest}`)));
    }
  });

  test('names a missing blob once, even if it has several checkpoints of the round', async () => {
    const records = [...source.checkpoints()];
    const last = records.at(-1)!;
    const again = [2, 3, 4].map((count) => ({ ...last, heads: Array(count).fill(last.heads[0]!) }));
    const missing = [{ use: 'payload', round: 3, digest: 'ab'.repeat(32) }] as const;
    const hostile = { ...source, blobs: null, missing, checkpoints: () => [...records, ...again] };
    const { checkpoints } = await verified(await encoded(hostile));
    const named = checkpoints.flatMap(({ round, unchecked }, i) =>
      unchecked.some(({ reason }) => reason.includes(missing[0].digest)) ? [[i, round]] : [],
    );
    expect(checkpoints.map(({ round }) => round)).toEqual([0, 1, 2, 3, 3, 3, 3]);
    expect(named).toEqual([[3, 3]]);
  });

  test('is a CARv1 file: its header names the first block as the root', async () => {
    const { digest, kind } = decodeSectionHead(bytes.subarray(carHeader('00'.repeat(32)).byteLength));
    expect(kind).toBe(DAG_CBOR);
    const text = Buffer.from(bytes.subarray(0, 100));
    const cid = CID.decode(Uint8Array.from([1, DAG_CBOR, 0x12, 32, ...Buffer.from(digest, 'hex')]));
    expect(text.includes(Buffer.from(cid.bytes))).toBe(true);
  });

  test('shows a damaged blob as a damaged blob', async () => {
    const { problems } = await verifyRecord(await opened(flipped(bytes)));
    expect(new Set(problems.map(({ code }) => code))).toEqual(new Set(['VERIFY_BLOB']));
  });
});

describe('a hostile file is refused, and nothing outside of it is read or written', () => {
  const refused = async (content: Uint8Array): Promise<void> => {
    await expect(opened(content).then((bundle) => verifyRecord(bundle))).rejects.toThrow(
      withCode('BUNDLE_MALFORMED'),
    );
  };

  test('if it is empty, cut off, or has bytes after its end', async () => {
    await refused(new Uint8Array());
    for (const length of [1, 40, 60, 100, 2000, bytes.length - 1]) await refused(bytes.subarray(0, length));
    await refused(Buffer.concat([bytes, Uint8Array.of(1)]));
  });

  test('if a length is above the size of the file, or does not end', async () => {
    const head = carHeader(sha256(new Uint8Array()));
    await refused(Buffer.concat([head, sectionHead(DAG_CBOR, sha256(new Uint8Array()), 2 ** 40)]));
    await refused(Buffer.concat([head, new Uint8Array(80).fill(0xff)]));
    await refused(Buffer.concat([head, Uint8Array.of(0xa4, 0x80, 0x00), new Uint8Array(80)]));
  });

  test('if the root has other bytes than its digest, or other fields', async () => {
    await refused(flipped(bytes, 120));
    for (const root of [{}, { bundle: 2, manifest: new Uint8Array(), settings: [], checkpoints: [] }]) {
      const content = encodeCbor(root);
      const digest = sha256(content);
      await refused(
        Buffer.concat([carHeader(digest), sectionHead(DAG_CBOR, digest, content.byteLength), content]),
      );
    }
  });

  test('if it names a block that is not there, or has a block twice', async () => {
    const path = '../../etc/passwd';
    const root = { bundle: 1, manifest: source.manifest, settings: [], checkpoints: ['ab'.repeat(32)] };
    for (const checkpoints of [root.checkpoints, [path]]) {
      const content = encodeCbor({ ...root, checkpoints });
      const digest = sha256(content);
      const section = Buffer.concat([sectionHead(DAG_CBOR, digest, content.byteLength), content]);
      await refused(Buffer.concat([carHeader(digest), section]));
      await refused(Buffer.concat([carHeader(digest), section, section]));
    }
  });

  test('or shows a problem, if one byte is changed anywhere', async () => {
    for (const { at, middle } of sectionsOf(bytes)) {
      for (const place of [at + 10, middle]) {
        const outcome = await verified(flipped(bytes, place)).then(
          ({ ok }) => ok,
          (error: unknown) => (error as { code: string }).code,
        );
        expect(['BUNDLE_MALFORMED', 'BUNDLE_TOO_LARGE', false], `byte ${place}`).toContain(outcome);
      }
    }
  });
});

describe('a damaged checkpoint', () => {
  const damaged = async (round: number, options: VerifyOptions = {}) => {
    const digest = sha256(encodeRecord([...source.checkpoints()][round]!));
    const { middle } = sectionsOf(bytes).find((section) => section.digest === digest)!;
    return { digest, report: await verified(flipped(bytes, middle), options) };
  };

  test.each([0, 1, 2, 3])('of round %i is named, and the others are checked', async (round) => {
    const { digest, report } = await damaged(round);
    const before = round === 0 ? null : round - 1;
    expect(report.ok).toBe(false);
    expect(report.problems).toMatchObject([
      { code: 'VERIFY_BLOB', values: { digest, position: round + 1, count: 4, before } },
    ]);
    expect(report.checkpoints.map((one) => one.round)).toEqual([0, 1, 2, 3].filter((one) => one !== round));
    for (const { round: at, checked, unchecked } of report.checkpoints) {
      expect(checked).toContain('signature');
      expect(unchecked.some(({ check }) => check === 'chain')).toBe(at === round + 1);
    }
  });

  test('before the first round to check is named too', async () => {
    const { digest, report } = await damaged(0, { from: 2 });
    expect(report.problems).toMatchObject([{ code: 'VERIFY_BLOB', values: { digest } }]);
    expect(report.checkpoints.map(({ round, recomputed }) => [round, recomputed])).toEqual([
      [2, true],
      [3, true],
    ]);
  });
});

describe('a damaged block does not hide a proof against the coordinator', () => {
  const reported = async (content: Uint8Array): Promise<string[]> => {
    const path = join(await temporaryFolder(), 'job.bundle');
    await writeFile(path, content);
    return (await verifyBundle(path)).problems.map(({ code }) => code);
  };
  const records = () => [...source.checkpoints()];
  const bundled = (checkpoints: readonly CheckpointRecord[]): Promise<Uint8Array> =>
    encoded({ ...source, blobs: null, checkpoints: () => checkpoints });

  test('if the block is a foreign blob, and a checkpoint has a bad signature', async () => {
    const last = records().at(-1)!;
    const bad = { ...last, checkpoint: flipped(last.checkpoint) };
    const foreign = Buffer.concat([sectionHead(RAW, 'ab'.repeat(32), 3), Buffer.from('xyz')]);
    const content = Buffer.concat([await bundled([...records().slice(0, -1), bad]), foreign]);
    expect(await reported(content)).toEqual(['VERIFY_SIGNATURE', 'VERIFY_BLOB']);
  });

  test('if the block is a later checkpoint', async () => {
    const [first, second, third] = records();
    const receipt = verifyMessage('receipt', second!.proofs[0]!.receipt!).message;
    const refused = signMessage('receipt', { ...receipt, code: 'harmful' }, COORDINATOR);
    const proofs = [{ ...second!.proofs[0]!, receipt: refused }, ...second!.proofs.slice(1)];
    // The last byte of the bundle belongs to the third checkpoint.
    const content = flipped(await bundled([first!, { ...second!, proofs }, third!]));
    expect(await reported(content)).toEqual(['VERIFY_RECEIPT', 'VERIFY_BLOB']);
  });
});

test('a damaged blob of each kind is named, even if the verification computes it', async () => {
  const sections = new Map(sectionsOf(bytes).map(({ digest, middle }) => [digest, middle]));
  const kinds = new Set<string>();
  for await (const record of source.checkpoints()) {
    for (const { digest, use } of blobsOf(record)) {
      kinds.add(use);
      const { ok, problems } = await verified(flipped(bytes, sections.get(digest)));
      expect(ok).toBe(false);
      const named = problems.filter(({ code, values }) => code === 'VERIFY_BLOB' && values.digest === digest);
      expect(named, use).not.toEqual([]);
    }
  }
  expect([...kinds].sort()).toEqual(['adapter', 'delta', 'payload', 'residual']);
});

async function verified(content: Uint8Array, options: VerifyOptions = {}) {
  const path = join(await temporaryFolder(), 'job.bundle');
  await writeFile(path, content);
  return verifyBundle(path, options);
}

/** Returns the digest, the first byte and a byte in the middle of the content of each section of a bundle. */
function sectionsOf(content: Uint8Array) {
  const sections: { digest: string; at: number; middle: number }[] = [];
  for (let at = carHeader('00'.repeat(32)).byteLength; at < content.byteLength; ) {
    const { digest, headBytes, size } = decodeSectionHead(content.subarray(at, at + 64));
    sections.push({ digest, at, middle: at + headBytes + (size >> 1) });
    at += headBytes + size;
  }
  return sections;
}
