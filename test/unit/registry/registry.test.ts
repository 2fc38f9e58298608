import { readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { adapterError } from '../../../lora/adapter/errors.ts';
import { addFolder } from '../../../registry/add-folder.ts';
import { checkpointCard } from '../../../registry/export/checkpoint-card.ts';
import { requireSameBase } from '../../../registry/known-base.ts';
import { Registry } from '../../../registry/registry.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { addSmall, BASE, openTestRegistry, smallPeftFolder } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { toyJob } from '../../utils/virtual/toy-job.ts';

describe('a registry', () => {
  it('numbers versions by name, and finds them by name, number, tag and digest', async () => {
    const { registry } = await openTestRegistry();
    const first = await addSmall(registry, 'demo', 1);
    const second = await addSmall(registry, 'demo', 2, { tags: ['best'] });
    const other = await addSmall(registry, 'other', 1);
    expect([first.label, second.label, other.label]).toEqual(['demo:v1', 'demo:v2', 'other:v1']);
    expect(registry.names()).toEqual(['demo', 'other']);
    expect(registry.versions('demo').map(({ tags }) => tags)).toEqual([[], ['best', 'latest']]);
    for (const reference of ['demo', 'demo:latest', 'demo:best', 'demo:v2', `demo@${second.digest}`])
      expect(registry.resolve(reference).label, reference).toBe('demo:v2');
    expect(registry.resolve(`demo@${first.digest.slice(0, 8)}`).number).toBe(1);
    expect(first.manifest.settings).toMatchObject({ 'lora.rank': 1, 'lora.targets': '["q_proj"]' });
    expect(first.author).toBe(signerOf(1).peerId);
  });

  it('gives the same content the same version, and moves only the tags that were asked for', async () => {
    const { registry } = await openTestRegistry();
    const folder = await smallPeftFolder(1);
    const first = await addFolder(registry, { name: 'demo', folder });
    await addSmall(registry, 'demo', 2);
    const again = await addFolder(registry, { name: 'demo', folder, metrics: { loss: 3 } });
    expect([first.created, again.created]).toEqual([true, false]);
    expect(again.version).toMatchObject({ number: 1, digest: first.version.digest, tags: [] });
    expect(registry.versions('demo')).toHaveLength(2);
    const tagged = await addFolder(registry, { name: 'demo', folder, tags: ['latest', 'best'] });
    expect(tagged.version).toMatchObject({ number: 1, tags: ['best', 'latest'] });
  });

  it('has no new version with the word that means a base without an adapter', async () => {
    const { registry } = await openTestRegistry();
    await expect(addSmall(registry, 'base', 1)).rejects.toMatchObject({
      code: 'VERSION_NAME',
      values: { name: 'base' },
      next: expect.stringContaining('--name'),
    });
    expect(registry.names()).toEqual([]);
  });

  it('takes the base from the folder of an exported checkpoint, and its losses as claims of the card', async () => {
    const { registry } = await openTestRegistry();
    const folder = await smallPeftFolder(1);
    const { manifest } = toyJob(signerOf(1), {});
    const checkpoint = { round: 4, digest: BASE, heldOutLoss: 3.25 };
    const card = checkpointCard({ job: BASE, manifest, checkpoint, baseLoss: 4, curve: [], figures: null });
    await writeFile(join(folder, 'README.md'), card);
    const { version } = await addFolder(registry, { name: 'demo', folder });
    expect(version.manifest).toMatchObject({
      base: { name: 'tiny', digest: BASE },
    });
    expect(version.manifest.metrics).toEqual({ claimedHeldOutLoss: 3.25, claimedHeldOutLossBefore: 4 });
    await writeFile(join(folder, 'README.md'), '---\ntags: [other]\n---\n# a card of another program\n');
    expect((await addFolder(registry, { name: 'other', folder })).version.manifest.metrics).toEqual({});
  });

  it.skipIf(process.platform !== 'linux')('adds an adapter whose model card cannot be read', async () => {
    const { registry } = await openTestRegistry();
    const folder = await smallPeftFolder(1);
    // Root can read each file of a folder, but reading the first byte of this one fails for all users.
    await symlink('/proc/self/mem', join(folder, 'README.md'));
    expect((await addFolder(registry, { name: 'demo', folder })).version.manifest.metrics).toEqual({});
  });

  it('keeps the chat template of an adapter', async () => {
    const { registry } = await openTestRegistry();
    const folder = await smallPeftFolder(1);
    await writeFile(join(folder, 'chat_template.jinja'), '{{ messages }}');
    const { version } = await addFolder(registry, { name: 'demo', folder });
    const view = await registry.folder(version);
    expect(await readFile(join(view, 'chat_template.jinja'), 'utf8')).toBe('{{ messages }}');
  });

  it('replaces a path of this machine by the name of the base, and keeps a name of the hub', async () => {
    const { registry } = await openTestRegistry();
    const named = async (base: string): Promise<unknown> => {
      const folder = await smallPeftFolder(1);
      const path = join(folder, 'adapter_config.json');
      const config = JSON.parse(await readFile(path, 'utf8'));
      await writeFile(path, JSON.stringify({ ...config, base_model_name_or_path: base }));
      const known = { name: 'nano', revision: null, digest: BASE, tokenizer: null };
      const { version } = await addFolder(registry, {
        name: 'demo',
        folder,
        base: { base: known, folder: null },
      });
      const view = await registry.folder(version);
      const copy = JSON.parse(await readFile(join(view, 'adapter_config.json'), 'utf8'));
      expect(copy).toMatchObject({ r: config.r, target_modules: config.target_modules });
      return [copy.base_model_name_or_path, copy.revision];
    };
    expect(await named('/home/ada/models/nano')).toEqual(['nano', null]);
    expect(await named('C:\\models\\nano')).toEqual(['nano', null]);
    const commit = 'c'.repeat(40);
    const cached = `/home/ada/.cache/huggingface/hub/models--org--base/snapshots/${commit}`;
    expect(await named(cached)).toEqual(['org/base', commit]);
    expect(await named('org/base')).toEqual(['org/base', null]);
  });

  it('keeps its versions and the files of its adapters when it is opened again', async () => {
    const { registry, home } = await openTestRegistry();
    const folder = await smallPeftFolder(1);
    const { version } = await addFolder(registry, { name: 'demo', folder, metrics: { loss: 1.5 } });
    const bytes = await readFile(join(folder, 'adapter_model.safetensors'));
    await rm(folder, { recursive: true });
    const { registry: again } = await openTestRegistry(home);
    expect(again.resolve('demo')).toEqual(version);
    const view = await again.folder(version);
    expect(await readFile(join(view, 'adapter_model.safetensors'))).toEqual(bytes);
    expect(await again.folder(version)).toBe(view);
  });

  it('refuses references that name nothing', async () => {
    const { registry } = await openTestRegistry();
    await addSmall(registry, 'demo', 1);
    expect(() => registry.resolve('other')).toThrow(withCode('VERSION_UNKNOWN'));
    expect(() => registry.resolve('demo:v2')).toThrow(withCode('VERSION_UNKNOWN'));
    expect(() => registry.resolve('demo:best')).toThrow(withCode('TAG_UNKNOWN'));
    expect(() => registry.resolve(`demo@${'0'.repeat(64)}`)).toThrow(withCode('VERSION_UNKNOWN'));
    for (const wrong of ['', '/tmp/x', 'Demo', 'demo:', 'demo@abc', 'demo:v0', '../demo', 'demo:V1 '])
      expect(() => registry.resolve(wrong), wrong).toThrow(withCode('REFERENCE_INVALID'));
  });

  it('says that a file was damaged, and repairs its folder from intact blobs', async () => {
    const { registry } = await openTestRegistry();
    const version = await addSmall(registry, 'demo', 1);
    const view = await registry.folder(version);
    await rm(join(view, 'adapter_config.json'));
    expect(await registry.folder(version)).toBe(view);
    expect(JSON.parse(await readFile(join(view, 'adapter_config.json'), 'utf8'))).toMatchObject({ r: 1 });
    const { digest } = version.manifest.files[1]!;
    await writeFile(registry.blobs.path(digest), 'x');
    await rm(view, { recursive: true });
    await expect(registry.folder(version)).rejects.toMatchObject({
      code: 'VERSION_DAMAGED',
      values: { version: 'demo:v1', file: 'adapter_model.safetensors' },
    });
  });

  it('stores later measurements beside a version', async () => {
    const { registry } = await openTestRegistry();
    const version = await addSmall(registry, 'demo', 1);
    registry.measure(version, 'chapters.yaml', { 'chapters.acc,none': 0.5 });
    expect(registry.measurements(version)).toMatchObject([
      { source: 'chapters.yaml', metrics: { 'chapters.acc,none': 0.5 } },
    ]);
    expect(() => registry.measure(version, 'x', { loss: Number.NaN })).toThrow();
  });

  it('signs with the key of its machine, and refuses a manifest that was changed', async () => {
    const { registry } = await openTestRegistry();
    const version = await addSmall(registry, 'demo', 1);
    const envelope = Uint8Array.from(registry.envelope(version));
    envelope[envelope.length - 1]! ^= 1;
    await expect(registry.record({ envelope, reason: 'test' })).rejects.toMatchObject({
      code: expect.stringMatching(/^(SIGNATURE|MESSAGE)_/),
    });
    const stranger = await Registry.open(
      { home: registry.home },
      { clock: new ManualClock(), signer: async () => signerOf(2) },
    );
    expect(stranger.resolve('demo').author).toBe(signerOf(1).peerId);
    stranger.close();
  });
});

describe('the base of a version', () => {
  it('must be named if another program wrote the adapter', async () => {
    const { registry } = await openTestRegistry();
    const folder = await smallPeftFolder(1, null);
    await expect(addFolder(registry, { name: 'demo', folder })).rejects.toThrow(withCode('BASE_UNKNOWN'));
    const base = { name: 'org/base', revision: null, digest: BASE, tokenizer: null };
    const { version } = await addFolder(registry, { name: 'demo', folder, base: { base, folder: null } });
    expect(version.manifest.base).toEqual(base);
  });

  it('must be the one that the file names', async () => {
    const { registry } = await openTestRegistry();
    const folder = await smallPeftFolder(1);
    const other = 'feed'.repeat(16);
    const base = { base: { name: 'other', revision: null, digest: other, tokenizer: null }, folder: null };
    const refused = await addFolder(registry, { name: 'demo', folder, base }).catch(
      (error: unknown) => error,
    );
    expect(refused).toMatchObject({ code: 'ADAPTER_BASE', values: { expected: BASE, found: other } });
    expect((refused as Error).message).toMatch(new RegExp(`${BASE}.*${other}`));
  });

  it('is compared by digest, and the error names both', async () => {
    const { registry } = await openTestRegistry();
    const version = await addSmall(registry, 'demo', 1);
    requireSameBase(version, { digest: BASE, where: '/models/a' });
    const other = 'feed'.repeat(16);
    const run = () => requireSameBase(version, { digest: other, where: '/models/b' });
    expect(run).toThrow(withCode('ADAPTER_BASE'));
    expect(run).toThrow(new RegExp(`${BASE}.*${other}`));
    expect(adapterError.table.ADAPTER_BASE).toBeDefined();
  });
});
