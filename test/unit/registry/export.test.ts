import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { parse } from 'yaml';
import { diffVersions } from '../../../registry/diff-versions.ts';
import { exportFolder } from '../../../registry/export/export-folder.ts';
import { exportMerged } from '../../../registry/export/export-merged.ts';
import { exportOci } from '../../../registry/export/export-oci.ts';
import { importOci } from '../../../registry/export/import-oci.ts';
import { mergeVersions } from '../../../registry/merge-versions.ts';
import { Registry } from '../../../registry/registry.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { addSmall, BASE, openTestRegistry } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';
import { expectNewFiles } from '../../utils/source/platform.ts';
import { signerOf } from '../../utils/swarm/signers.ts';

const json = async (...path: string[]) => JSON.parse(await readFile(join(...path), 'utf8'));

describe('an exported PEFT folder', () => {
  it('has the files, a card that the hub can read, and the manifest', async () => {
    const { registry } = await openTestRegistry();
    const base = { name: 'org/base', revision: 'a'.repeat(40), digest: BASE, tokenizer: null };
    const parents = [{ digest: 'c'.repeat(64), label: 'p|<b>:v1', method: 'train', weight: 1 }];
    const version = await addSmall(registry, 'demo', 1, {
      base: { base, folder: null },
      parents,
      metrics: { heldOutLoss: 1.5, seconds: 3 },
      curve: [
        { at: 0, loss: 4 },
        { at: 20, loss: 1.5 },
      ],
    });
    registry.measure(version, 'chapters.yaml', { 'chapters.acc,none': 0.75 });
    const output = await temporaryFolder();
    await exportFolder(registry, version, output);
    expect((await readdir(output)).sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'swarm-version.cbor',
      'swarm.json',
    ]);
    // The files of the registry are private, and the exported files are not.
    await expectNewFiles(output);
    const card = await readFile(join(output, 'README.md'), 'utf8');
    const [, front, body] = card.split(/^---$/m);
    expect(parse(front!)).toEqual({
      library_name: 'peft',
      pipeline_tag: 'text-generation',
      base_model: 'org/base',
      base_model_relation: 'adapter',
      tags: ['lora', 'lora-swarm', 'base_model:adapter:org/base'],
      'model-index': [
        {
          name: 'demo',
          results: [
            {
              task: { type: 'text-generation' },
              dataset: { type: 'held-out_data', name: 'held-out data' },
              metrics: [{ type: 'heldOutLoss', name: 'heldOutLoss', value: 1.5 }],
            },
            {
              task: { type: 'text-generation' },
              dataset: { type: 'chapters.yaml', name: 'chapters.yaml' },
              metrics: [{ type: 'chapters.acc_none', name: 'chapters.acc,none', value: 0.75 }],
            },
          ],
        },
      ],
    });
    expect(body).toContain(BASE);
    expect(body).toContain('p\\|&lt;b>:v1');
    expect(body).toContain('| 20 | 1.5000 |');
    expect(await json(output, 'swarm.json')).toMatchObject({ version: 'demo:v1', digest: version.digest });
    // The files are copies: a change of them does not change the registry.
    await writeFile(join(output, 'adapter_model.safetensors'), 'x');
    await registry.folder(version);
  });
});

it('an export, a merge and a comparison end when the signal aborts', async () => {
  const { registry } = await openTestRegistry();
  const [first, second] = [await addSmall(registry, 'demo', 1), await addSmall(registry, 'demo', 2)];
  const output = join(await temporaryFolder(), 'output');
  const signal = AbortSignal.abort(new Error('enough'));
  const sources = [{ version: first, weight: 1 }];
  await expect(exportFolder(registry, first, output, { signal })).rejects.toBe(signal.reason);
  await expect(exportOci(registry, first, output, { signal })).rejects.toBe(signal.reason);
  await expect(mergeVersions(registry, { name: 'sum', sources, signal })).rejects.toBe(signal.reason);
  await expect(diffVersions(registry, first, second, { signal })).rejects.toBe(signal.reason);
  await expect(readdir(output)).rejects.toMatchObject({ code: 'ENOENT' });
  expect(registry.names()).toEqual(['demo']);
});

describe('an exported merged model', () => {
  it('needs a base that is known on this machine', async () => {
    const { registry } = await openTestRegistry();
    const version = await addSmall(registry, 'demo', 1);
    const output = join(await temporaryFolder(), 'merged');
    await expect(exportMerged(registry, version, { output })).rejects.toMatchObject({
      code: 'BASE_UNKNOWN',
      values: { base: BASE },
    });
  });
});

describe('an OCI image layout', () => {
  async function exported() {
    const { registry } = await openTestRegistry();
    const version = await addSmall(registry, 'demo', 1, { metrics: { heldOutLoss: 1 } });
    const layout = await temporaryFolder();
    const digest = await exportOci(registry, version, layout);
    return { version, layout, digest };
  }

  it('has the media types of ModelPack, and gives the same version on another machine', async () => {
    const { version, layout, digest } = await exported();
    await expectNewFiles(layout);
    expect(await json(layout, 'oci-layout')).toEqual({ imageLayoutVersion: '1.0.0' });
    const index = await json(layout, 'index.json');
    expect(index.manifests).toMatchObject([
      { digest, annotations: { 'org.opencontainers.image.ref.name': 'v1' } },
    ]);
    const blob = (descriptor: { digest: string }) =>
      json(layout, 'blobs/sha256', descriptor.digest.slice('sha256:'.length));
    const image = await blob(index.manifests[0]);
    expect(image.artifactType).toBe('application/vnd.cncf.model.manifest.v1+json');
    expect(image.config.mediaType).toBe('application/vnd.cncf.model.config.v1+json');
    const layers = image.layers.map((layer: { mediaType: string; annotations: Record<string, string> }) => [
      layer.annotations['org.cncf.model.filepath'],
      layer.mediaType,
    ]);
    expect(layers).toEqual([
      ['adapter_config.json', 'application/vnd.cncf.model.weight.config.v1.raw'],
      ['adapter_model.safetensors', 'application/vnd.cncf.model.weight.v1.raw'],
      ['README.md', 'application/vnd.cncf.model.doc.v1.raw'],
      ['swarm-version.cbor', 'application/vnd.cncf.model.doc.v1.raw'],
    ]);
    expect((await blob(image.config)).modelfs).toEqual({
      type: 'layers',
      diffIds: image.layers.map((layer: { digest: string }) => layer.digest),
    });

    const { registry: other } = await openTestRegistry();
    const imported = await importOci(other, { layout });
    expect(imported).toMatchObject({ created: true, version: { label: 'demo:v1', digest: version.digest } });
    await other.folder(imported.version);
    expect((await importOci(other, { layout })).created).toBe(false);
    const renamed = (await importOci(other, { layout, name: 'copy' })).version;
    expect(renamed).toMatchObject({ label: 'copy:v1', manifest: { parents: [{ digest: version.digest }] } });
  });

  it('does not move "latest" of an adapter of another author without --name', async () => {
    const { version, layout } = await exported();
    const home = join(await temporaryFolder(), 'registry');
    const registry = await Registry.open(
      { home },
      { clock: new ManualClock(), signer: async () => signerOf(2) },
    );
    onTestFinished(() => registry.close());
    const own = await addSmall(registry, 'demo', 2);
    await expect(importOci(registry, { layout })).rejects.toThrow(withCode('IMPORT_NAME'));
    expect(registry.resolve('demo').digest).toBe(own.digest);
    const chosen = await importOci(registry, { layout, name: 'demo' });
    expect(chosen.version).toMatchObject({ label: 'demo:v2', digest: version.digest });
  });

  it('is refused if a blob changes after it was checked', async () => {
    const { layout } = await exported();
    const { registry } = await openTestRegistry();
    vi.spyOn(registry.blobs, 'importFile').mockResolvedValue({ digest: 'd'.repeat(64), size: 1 });
    await expect(importOci(registry, { layout })).rejects.toThrow(withCode('IMPORT_DAMAGED'));
    expect(registry.names()).toEqual([]);
  });

  it('is refused if a blob is damaged, missing, or a link', async () => {
    for (const harm of ['damage', 'remove', 'link'] as const) {
      const { version, layout } = await exported();
      const { registry } = await openTestRegistry();
      const path = join(layout, 'blobs/sha256', version.manifest.files[1]!.digest);
      const bytes = await readFile(path);
      await rm(path);
      if (harm === 'damage') await writeFile(path, bytes.fill(0));
      if (harm === 'link') await symlink('/etc/hostname', path);
      await expect(importOci(registry, { layout }), harm).rejects.toThrow(withCode('IMPORT_DAMAGED'));
      expect(registry.names()).toEqual([]);
    }
  });

  // Windows has no pipes and devices among its files, and asks for a privilege for links.
  it.skipIf(process.platform === 'win32')('is refused if its JSON is a pipe or a link', async () => {
    for (const make of [
      (path: string) => execFileSync('mkfifo', [path]),
      (path: string) => symlink('/dev/zero', path),
      (path: string) => mkdir(path),
    ]) {
      const { layout } = await exported();
      const { registry } = await openTestRegistry();
      await rm(join(layout, 'index.json'));
      await make(join(layout, 'index.json'));
      await expect(importOci(registry, { layout })).rejects.toThrow(withCode('OCI_INVALID'));
    }
  });

  it('is refused if its JSON is not that of a layout', async () => {
    const { registry } = await openTestRegistry();
    const { layout } = await exported();
    await expect(importOci(registry, { layout, image: 'v9' })).rejects.toThrow(withCode('OCI_INVALID'));
    for (const text of ['', '{}', '{"schemaVersion":2,"manifests":[]}', `[${'['.repeat(1000)}`]) {
      await writeFile(join(layout, 'index.json'), text);
      await expect(importOci(registry, { layout }), text).rejects.toThrow(withCode('OCI_INVALID'));
    }
    await writeFile(join(layout, 'index.json'), ' '.repeat(5 * 2 ** 20));
    await expect(importOci(registry, { layout })).rejects.toThrow(withCode('OCI_INVALID'));
    await expect(importOci(registry, { layout: await temporaryFolder() })).rejects.toThrow(
      withCode('OCI_INVALID'),
    );
  });
});
