/** An OCI image layout with a ModelPack artifact (github.com/opencontainers/image-spec, github.com/modelpack/model-spec). */
import { z } from 'zod';
import { ADAPTER_BYTES } from '../../protocol/limits.ts';

export const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const ARTIFACT_TYPE = 'application/vnd.cncf.model.manifest.v1+json';
export const CONFIG_TYPE = 'application/vnd.cncf.model.config.v1+json';
export const WEIGHT_TYPE = 'application/vnd.cncf.model.weight.v1.raw';
export const WEIGHT_CONFIG_TYPE = 'application/vnd.cncf.model.weight.config.v1.raw';
export const DOC_TYPE = 'application/vnd.cncf.model.doc.v1.raw';
/** Annotation with the file name of a layer. */
export const FILE_PATH = 'org.cncf.model.filepath';
/** Annotation with the tag of an image. */
export const REF_NAME = 'org.opencontainers.image.ref.name';

/**
 * Maximum size of an index or manifest, in bytes. The image specification recommends this limit to container
 * registries.
 */
export const OCI_JSON_BYTES = 4 * 2 ** 20;
/** Maximum number of images in an index, and of layers in a manifest, that an import accepts. */
const ENTRIES = 1024;

const annotations = z.record(z.string().max(256), z.string().max(4096)).optional();
const descriptorSchema = z.object({
  mediaType: z.string().max(256),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/, 'must be a SHA-256 digest'),
  size: z.int().nonnegative().max(ADAPTER_BYTES),
  annotations,
});
/** A reference to a blob of an OCI image layout. */
export type Descriptor = z.infer<typeof descriptorSchema>;

/** `oci-layout`, `index.json` and an image manifest. Readers ignore unknown fields, as the specification demands. */
export const layoutSchema = z.object({ imageLayoutVersion: z.string().regex(/^1\./, 'must be 1.x') });
export const indexSchema = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(descriptorSchema).min(1).max(ENTRIES),
});
export const imageSchema = z.object({
  schemaVersion: z.literal(2),
  artifactType: z.string().max(256).optional(),
  layers: z.array(descriptorSchema).min(1).max(ENTRIES),
});

/** Returns the path of a blob inside an OCI image layout. */
export function blobPath(digest: string): string {
  return `blobs/sha256/${digest}`;
}
