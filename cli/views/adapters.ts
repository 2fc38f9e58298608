import { figureName, formatBytes, formatLoss, rounded, table } from '../../common/text.ts';
import type { AdapterVersion, Measurement, TagChange } from '../../index.ts';
import { allMetrics, sameHeldOut } from '../../registry/version.ts';

/** A version with the measurements that were recorded after it was added. */
interface Listed {
  readonly version: AdapterVersion;
  readonly measurements: readonly Measurement[];
}

/** Returns the fields of a version for --json. */
export function versionJson({ number, ...version }: AdapterVersion) {
  return { ...version, version: number };
}

/**
 * Returns a table of versions, as lines, and a note if losses in it cannot be compared.
 * @param columns maximum length of a line of the table
 */
export function versionTable(versions: readonly Listed[], columns?: number): string[] {
  const lines = table(
    [
      ['version', 'tags', 'held-out loss', 'base', 'rank', 'size', 'added', 'digest'],
      ...versions.map((listed) => {
        const { label, tags, manifest, digest, addedAt, removedAt } = listed.version;
        return [
          label,
          removedAt === null ? tags.join(' ') || '-' : '(removed)',
          formatLoss(allMetrics(listed.version, listed.measurements).heldOutLoss),
          baseText(manifest.base),
          String(manifest.settings['lora.rank'] ?? '-'),
          formatBytes(manifest.files.reduce((sum, { size }) => sum + size, 0)),
          day(addedAt),
          digest.slice(0, 12),
        ];
      }),
    ],
    { columns },
  );
  const names = Object.entries(Object.groupBy(versions, ({ version }) => version.name)).flatMap(
    ([name, all = []]) => (sameHeldOut(all.map(({ version }) => version)) === false ? [name] : []),
  );
  if (names.length === 0) return lines;
  return [
    ...lines,
    `the versions of ${names.join(', ')} have held-out losses that were measured on different rows`,
  ];
}

/** Returns the name of a base, or the beginning of its digest. An older version took the digest as the name of some bases. */
function baseText({ name, digest }: AdapterVersion['manifest']['base']): string {
  return name === null || name === digest ? digest.slice(0, 12) : name;
}

/** Returns lines that show everything about one version. */
export function versionLines(
  version: AdapterVersion,
  measurements: readonly Measurement[],
  folder: string,
): string[] {
  const { label, digest, author, tags, manifest, addedAt } = version;
  const { base, files, parents, job, data, settings } = manifest;
  const metrics = Object.entries(allMetrics(version, measurements));
  const named =
    base.name === null ? '' : `  ${base.name}${base.revision === null ? '' : `@${base.revision}`}`;
  return [
    `version    ${label}  ${digest}`,
    `tags       ${tags.join(', ') || 'none'}`,
    `base       ${base.digest}${named}`,
    `tokenizer  ${base.tokenizer ?? 'unknown'}`,
    ...files.map(({ path, size, digest }) => `file       ${digest}  ${path}  ${formatBytes(size)}`),
    `folder     ${folder}`,
    `added      ${new Date(addedAt).toISOString()}`,
    `signed by  ${author}`,
    ...parents.map(
      ({ digest, label, method, weight }) =>
        `parent     ${digest.slice(0, 12)}  ${label}  ${method}, weight ${weight}`,
    ),
    ...(job === null ? [] : [`job        ${job.digest}  ${job.name}, round ${job.round}`]),
    ...data.map(({ name, digest }) => `data       ${digest}  ${name}`),
    ...Object.entries(settings)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `setting    ${name} = ${value}`),
    ...metrics.map(([name, value]) => `metric     ${figureName(name)} = ${rounded(value)}`),
  ];
}

/** Returns a table of the log of tags, oldest first. @param columns maximum length of a line */
export function tagLogLines(changes: readonly TagChange[], columns?: number): string[] {
  const at = (number: number | null): string => (number === null ? 'none' : `v${number}`);
  return table(
    [
      ['when', 'tag', 'change', 'from', 'to', 'reason', 'by'],
      ...changes.map(({ at: when, tag, kind, from, to, reason, author }) => [
        new Date(when).toISOString(),
        tag,
        kind,
        at(from),
        at(to),
        reason,
        author.slice(-6),
      ]),
    ],
    { columns },
  );
}

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
