import { countOf } from '../common/text.ts';
import type { Manifest } from '../protocol/job/manifest.ts';
import { firstSettings, type RunningSettings, settingKeys } from '../protocol/job/settings.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { flatSettings } from './adapter-settings.ts';

/**
 * Maximum number of values of a setting in its text, besides the first one. An operator may change a setting in each round,
 * and the manifest of a version limits the text.
 */
const SHOWN_NEWEST = 19;

/** A change of a job's settings, with all values that apply from a round on. */
export interface SettingsFrom {
  readonly fromRound: number;
  readonly values: RunningSettings;
}

/** Settings of a job, as its manifest has them, and their changes while the job ran. */
export interface JobHistory {
  readonly manifest: Manifest;
  /** Oldest first. @default none */
  readonly changes?: readonly SettingsFrom[];
}

/**
 * Returns the settings with which a job trained up to a round, without those of LoRA. A setting that changed meanwhile has a
 * text with its values: "0.001, from round 6: 0.0005". If there are too many, the text has the first and the newest ones.
 */
export function jobSettings(
  { manifest, changes = [] }: JobHistory,
  round: number,
): VersionManifest['settings'] {
  const { training, rounds, acceptance, seed } = manifest;
  const first = firstSettings(manifest);
  const changed = (Object.keys(settingKeys) as (keyof RunningSettings)[]).map((field) => {
    const values = [{ from: 1, value: first[field] }];
    for (const change of changes.filter(({ fromRound }) => fromRound <= round)) {
      const { fromRound: from, values: after } = change;
      // Of several changes from the same round on, the newest one applies.
      while (values.length > 0 && values.at(-1)!.from >= from) values.pop();
      if (values.at(-1)?.value !== after[field]) values.push({ from, value: after[field] });
    }
    const newest = values.slice(1).slice(-SHOWN_NEWEST);
    const leftOut = values.length - 1 - newest.length;
    const texts = [
      String(values[0]!.value),
      ...(leftOut === 0 ? [] : [countOf(leftOut, 'other value')]),
      ...newest.map(({ from, value }) => `from round ${from}: ${value}`),
    ];
    return [settingKeys[field], values.length === 1 ? values[0]!.value : texts.join(', ')] as const;
  });
  return { ...flatSettings({ training, rounds, acceptance, seed }), ...Object.fromEntries(changed) };
}
