import { readdir } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { pullFromHub, pushToHub } from '../../../registry/hub.ts';
import { HubServer } from '../../utils/registry/hub-server.ts';
import { acceptUploads } from '../../utils/registry/hub-uploads.ts';
import { addSmall, BASE, openTestRegistry } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';

const TOKEN = 'secret';

async function hubWorld() {
  const hub = await HubServer.start();
  const uploads = acceptUploads(hub, TOKEN);
  const { registry } = await openTestRegistry();
  const account = { endpoint: hub.endpoint, accessToken: TOKEN, repository: 'ada/demo' };
  return { hub, uploads, registry, account };
}

describe('a version on a hub', () => {
  it('is uploaded with its card in one commit, and is the same version on another machine', async () => {
    const { hub, uploads, registry, account } = await hubWorld();
    const version = await addSmall(registry, 'demo', 1, { metrics: { heldOutLoss: 1 } });
    const pushed = await pushToHub(registry, version, { ...account, isPrivate: true });
    const { files, commit } = hub.models.get('ada/demo')!;
    expect(pushed).toEqual({ commit, url: `${hub.endpoint}/ada/demo/commit/${commit}` });
    expect(uploads.created).toMatchObject([{ name: 'demo', organization: 'ada', visibility: 'private' }]);
    expect(uploads.commits).toEqual([expect.stringContaining('demo:v1')]);
    expect([...files.keys()].sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'swarm-version.cbor',
      'swarm.json',
    ]);
    expect(files.get('README.md')!.toString()).toContain('library_name: peft');
    // The second upload finds the repository that the first one created.
    await pushToHub(registry, version, account);
    expect(uploads.created).toHaveLength(1);

    const { registry: other } = await openTestRegistry();
    const pulled = await pullFromHub(other, { ...account, accessToken: null });
    expect(pulled).toMatchObject({ created: true, version: { label: 'demo:v1', digest: version.digest } });
    await other.folder(pulled.version);
    expect(other.tagLog('demo')[0]!.reason).toContain('ada/demo');
    expect((await readdir(other.home)).filter((name) => name.startsWith('transfer-'))).toEqual([]);
  });

  it('is refused if a file differs from the signed manifest', async () => {
    const { hub, registry, account } = await hubWorld();
    await pushToHub(registry, await addSmall(registry, 'demo', 1), account);
    const { files } = hub.models.get('ada/demo')!;
    files.set('adapter_config.json', Buffer.from('{"peft_type":"LORA"}'));
    const { registry: other } = await openTestRegistry();
    await expect(pullFromHub(other, account)).rejects.toThrow(withCode('IMPORT_DAMAGED'));
    expect(other.names()).toEqual([]);
  });

  it('needs its base if another program uploaded it', async () => {
    const { hub, registry, account } = await hubWorld();
    await pushToHub(registry, await addSmall(registry, 'demo', 1), account);
    hub.models.get('ada/demo')!.files.delete('swarm-version.cbor');
    const { registry: other } = await openTestRegistry();
    // No base has to be named, because this program writes the digest of the base into the metadata of the weights.
    const { version } = await pullFromHub(other, { ...account, name: 'mine' });
    expect(version).toMatchObject({ label: 'mine:v1', manifest: { base: { digest: BASE } } });
  });

  it('does not take the name of an adapter that comes from elsewhere, unless the caller gives the name', async () => {
    const { hub, registry, account } = await hubWorld();
    await pushToHub(registry, await addSmall(registry, 'demo', 1), account);
    hub.models.get('ada/demo')!.files.delete('swarm-version.cbor');
    const { registry: other } = await openTestRegistry();
    const mine = await addSmall(other, 'demo', 2);
    await expect(pullFromHub(other, account)).rejects.toThrow(withCode('IMPORT_NAME'));
    expect(other.resolve('demo').digest).toBe(mine.digest);
    const { version } = await pullFromHub(other, { ...account, name: 'demo' });
    expect(version.label).toBe('demo:v2');
    // The newest version is from this repository now.
    expect(await pullFromHub(other, account)).toMatchObject({
      created: false,
      version: { label: 'demo:v2' },
    });
  });

  it('needs a token that the hub accepts, and the name of a repository', async () => {
    const { registry, account } = await hubWorld();
    const version = await addSmall(registry, 'demo', 1);
    const push = (options: object) => pushToHub(registry, version, { ...account, ...options });
    await expect(push({ accessToken: null })).rejects.toThrow(withCode('HUB_TOKEN_MISSING'));
    await expect(push({ accessToken: 'wrong' })).rejects.toThrow(withCode('HUB_UNAUTHORIZED'));
    await expect(push({ repository: '../demo' })).rejects.toThrow(withCode('USAGE'));
    await expect(pullFromHub(registry, { ...account, repository: 'ada/none' })).rejects.toThrow(
      withCode('HUB_NOT_FOUND'),
    );
  });
});
