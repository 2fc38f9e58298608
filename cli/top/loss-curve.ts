import { formatLoss } from '../../common/text.ts';

const BARS = '▁▂▃▄▅▆▇█';

/**
 * Draws losses as a line of bars between the first and the newest loss: "3.2010 █▆▅▃▂▁ 2.9130". If the losses do not fit
 * into the columns, each bar is the mean of several losses in a row.
 */
export function lossCurve(losses: readonly number[], columns: number): string {
  if (losses.length === 0) return 'not measured yet';
  const [first, newest] = [formatLoss(losses[0]), formatLoss(losses.at(-1))];
  const width = Math.min(losses.length, Math.max(1, columns - first.length - newest.length - 2));
  const means = Array.from({ length: width }, (_, i) => {
    const part = losses.slice(
      Math.floor((i * losses.length) / width),
      Math.max(Math.floor(((i + 1) * losses.length) / width), Math.floor((i * losses.length) / width) + 1),
    );
    return part.reduce((sum, loss) => sum + loss, 0) / part.length;
  });
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const bars = means.map((mean) => BARS[high === low ? 0 : Math.round(((mean - low) / (high - low)) * 7)]);
  return `${first} ${bars.join('')} ${newest}`;
}
