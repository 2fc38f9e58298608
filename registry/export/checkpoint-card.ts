import { countOf, formatCount } from '../../common/text.ts';
import type { VersionManifest } from '../../protocol/version-manifest.ts';
import { flatSettings } from '../adapter-settings.ts';
import { type JobHistory, jobSettings } from '../job-settings.ts';
import { rollBacksOf, versionCurve } from '../version-curve.ts';
import {
  baseItem,
  curveLines,
  description,
  type ExportForm,
  frontMatter,
  type Results,
  resultRows,
  rollBackLines,
  table,
} from './card-parts.ts';

/** Number of hexadecimal digits of a digest that a list shows. */
const SHOWN_DIGITS = 16;

/** The held-out loss of a checkpoint. */
export interface CurvePoint {
  readonly round: number;
  readonly heldOutLoss: number | null;
  /** Round whose adapter this roll-back restored; null if the checkpoint is not a roll-back. @default null */
  readonly restores?: number | null;
}

/** Facts that the model card of a checkpoint shows. */
export interface CheckpointCard extends JobHistory {
  /** Digest of the job. */
  readonly job: string;
  readonly checkpoint: CurvePoint & { readonly digest: string };
  /** Held-out loss of the initial adapter; null if it is unknown. */
  readonly baseLoss: number | null;
  /** The checkpoints up to this one, oldest first; empty if only this one is known. */
  readonly curve: readonly CurvePoint[];
  /** The newest roll-backs up to this checkpoint, oldest first. @default the roll-backs in `curve` */
  readonly rollBacks?: VersionManifest['rollBacks'];
  /** Number of checkpoints up to this one, with the initial one. @default the number of points of the curve */
  readonly checkpointCount?: number;
  /** Figures of the checkpoint on the tasks of the job; null if it was not evaluated. */
  readonly figures: Readonly<Record<string, number>> | null;
  /** Form of the weights in the folder. @default 'adapter' */
  readonly form?: ExportForm;
  /** Prompts with their continuations by the base alone, and by the checkpoint. @default none */
  readonly samples?: readonly { readonly prompt: string; readonly before: string; readonly after: string }[];
}

/** Returns the model card of a checkpoint: its base, data, scores, loss curve and settings. */
export function checkpointCard({
  job,
  manifest,
  changes,
  checkpoint,
  baseLoss,
  curve,
  rollBacks = rollBacksOf(curve),
  checkpointCount = curve.length,
  figures,
  form = 'adapter',
  samples = [],
}: CheckpointCard): string {
  const { name, base, data, lora } = manifest;
  const settings = { ...flatSettings({ lora }), ...jobSettings({ manifest, changes }, checkpoint.round) };
  const scores = scoresOf(checkpoint, baseLoss, figures);
  const lines = [
    ...frontMatter(name, base.name, scores, form),
    `# ${name}`,
    '',
    `${description(form, { name: base.name, revision: base.revision ?? null })}, trained by a swarm: the checkpoint of round ${checkpoint.round} of a job of lora-swarm.`,
    '',
    baseItem(base),
    `- job digest: \`${job}\``,
    `- checkpoint digest: \`${checkpoint.digest}\``,
    `- training data: ${data.rows} rows of ${data.sequenceLength} tokens, ${formatCount(data.tokens)} tokens in all, in ${countOf(data.shards.length, 'shard')} (${data.shards.map(({ digest }) => `\`${digest.slice(0, SHOWN_DIGITS)}…\``).join(', ')})`,
    `- held-out data: \`${data.heldOut.digest}\``,
    '',
    ...table('Results', ['data', 'metric', 'value'], resultRows(scores)),
    ...curveLines(
      versionCurve(curve.map(({ round, heldOutLoss }) => ({ at: round, loss: heldOutLoss }))),
      'round',
      checkpointCount,
    ),
    ...rollBackLines(rollBacks),
    ...table(
      'Samples',
      ['prompt', 'continued by the base', 'continued by the adapter'],
      samples.map(({ prompt, before, after }) => [prompt, before, after]),
    ),
    ...table(
      'Settings',
      ['setting', 'value'],
      Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

function scoresOf(
  { heldOutLoss }: CurvePoint,
  baseLoss: number | null,
  figures: CheckpointCard['figures'],
): Results[] {
  const losses = [
    ...(heldOutLoss === null ? [] : [['heldOutLoss', heldOutLoss] as const]),
    ...(baseLoss === null ? [] : [['heldOutLossBefore', baseLoss] as const]),
  ];
  return [
    ...(losses.length === 0 ? [] : [{ dataset: 'held-out data', metrics: Object.fromEntries(losses) }]),
    ...(figures === null ? [] : [{ dataset: 'tasks of the job', metrics: figures }]),
  ];
}
