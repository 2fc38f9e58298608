import { join } from 'node:path';
import type { AbortOptions } from '../../common/abort-reason.ts';
import { writeDurably } from '../../common/files/durable.ts';
import { copyBytes } from '../../common/files/file-system.ts';
import { makeFolder } from '../../common/files/folders.ts';
import { ADAPTER_WEIGHTS_FILE } from '../../lora/adapter/peft.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import { CARD_FILE, versionCard } from './card.ts';
import { ENVELOPE_FILE, withFiles } from './export-folder.ts';
import {
  ARTIFACT_TYPE,
  blobPath,
  CONFIG_TYPE,
  type Descriptor,
  DOC_TYPE,
  FILE_PATH,
  INDEX_TYPE,
  MANIFEST_TYPE,
  REF_NAME,
  WEIGHT_CONFIG_TYPE,
  WEIGHT_TYPE,
} from './oci-layout.ts';

/**
 * Writes a version as an OCI image layout with the media types of ModelPack. Tools such as oras and skopeo can push the
 * layout to a registry of container images. Every file is a layer. The signed manifest is a layer too, so that an
 * import keeps the identity of the version.
 * @param output folder to write into; it is created if it is missing
 * @returns the digest of the image manifest, "sha256:…"
 * @throws SwarmError VERSION_DAMAGED, STORE_FULL, WRITE_FAILED, FOLDER_UNUSABLE; the signal's reason
 */
export async function exportOci(
  registry: Registry,
  version: AdapterVersion,
  output: string,
  { signal }: AbortOptions = {},
): Promise<string> {
  signal?.throwIfAborted();
  await makeFolder(join(output, 'blobs', 'sha256'));
  const put = async (bytes: Uint8Array, mediaType: string, path?: string): Promise<Descriptor> => {
    const digest = sha256(bytes);
    await writeDurably(join(output, blobPath(digest)), bytes);
    return descriptor({ mediaType, digest, size: bytes.byteLength, path });
  };
  const text = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  return withFiles(registry, version, async (folder) => {
    const layers: Descriptor[] = [];
    for (const { path, size, digest } of version.manifest.files) {
      signal?.throwIfAborted();
      await copyBytes(join(folder, path), join(output, blobPath(digest)));
      const mediaType = path === ADAPTER_WEIGHTS_FILE ? WEIGHT_TYPE : WEIGHT_CONFIG_TYPE;
      layers.push(descriptor({ mediaType, digest, size, path }));
    }
    const card = new TextEncoder().encode(versionCard(registry, version));
    layers.push(await put(card, DOC_TYPE, CARD_FILE));
    layers.push(await put(registry.envelope(version), DOC_TYPE, ENVELOPE_FILE));
    const config = await put(text(configOf(version, layers)), CONFIG_TYPE);
    const { name, number, manifest } = version;
    const image = {
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: ARTIFACT_TYPE,
      config,
      layers,
      annotations: {
        'org.opencontainers.image.title': name,
        'org.opencontainers.image.version': `v${number}`,
        'org.opencontainers.image.created': new Date(manifest.createdAt).toISOString(),
      },
    };
    const described = await put(text(image), MANIFEST_TYPE);
    const entry = { ...described, artifactType: ARTIFACT_TYPE, annotations: { [REF_NAME]: `v${number}` } };
    const index = { schemaVersion: 2, mediaType: INDEX_TYPE, manifests: [entry] };
    await writeDurably(join(output, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    // The index comes last, because a layout without an index is visibly incomplete.
    await writeDurably(join(output, 'index.json'), JSON.stringify(index));
    return described.digest;
  });
}

function descriptor(blob: {
  mediaType: string;
  digest: string;
  size: number;
  path?: string | undefined;
}): Descriptor {
  const { mediaType, digest, size, path } = blob;
  const annotations = path === undefined ? {} : { annotations: { [FILE_PATH]: path } };
  return { mediaType, digest: `sha256:${digest}`, size, ...annotations };
}

/** Returns the ModelPack configuration of a version. */
function configOf({ name, number, manifest }: AdapterVersion, layers: readonly Descriptor[]): object {
  const { createdAt, base } = manifest;
  return {
    descriptor: {
      createdAt: new Date(createdAt).toISOString(),
      name,
      version: `v${number}`,
      title: `LoRA adapter ${name}`,
      description: `LoRA adapter for the base ${base.name ?? ''} ${base.digest}`,
    },
    config: { format: 'safetensors' },
    modelfs: { type: 'layers', diffIds: layers.map(({ digest }) => digest) },
  };
}
