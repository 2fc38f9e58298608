/** Draws losses as an SVG image, without a script. */
import type { LossCurve, LossPoint } from './loss-curve.ts';

const [WIDTH, HEIGHT] = [640, 240];
/** Space for the numbers at the axes, in the units of WIDTH and HEIGHT. */
const [LEFT, BOTTOM, TOP] = [56, 28, 12];
/** Maximum number of points in a drawn line. The picture is too small to show more. */
const MAX_POINTS = 400;

/** Returns a chart of a training run's losses as an image. @param unit unit of the horizontal axis, such as `round` */
export function curvePicture({ training, heldOut }: LossCurve, unit = 'step'): string {
  const all = [...training, ...heldOut].filter(({ loss }) => Number.isFinite(loss));
  if (all.length === 0) return '';
  const range = (of: (point: LossPoint) => number): [number, number] => {
    const [low, high] = all.reduce(
      ([a, b], point) => [Math.min(a, of(point)), Math.max(b, of(point))],
      [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
    );
    return [low, high > low ? high : low + 1];
  };
  const [firstStep, lastStep] = range(({ step }) => step);
  const [lowest, highest] = range(({ loss }) => loss);
  const x = (step: number) => LEFT + ((step - firstStep) / (lastStep - firstStep)) * (WIDTH - LEFT - 8);
  const y = (loss: number) => TOP + ((highest - loss) / (highest - lowest)) * (HEIGHT - TOP - BOTTOM);
  const at = ({ step, loss }: LossPoint) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`;
  const line = (points: readonly LossPoint[], kind: string) =>
    points.length === 0 ? '' : `<polyline class="${kind}" points="${thinned(points).map(at).join(' ')}"/>`;
  const dots = heldOut.map((point) => {
    const [cx, cy] = at(point).split(',');
    return `<circle cx="${cx}" cy="${cy}" r="3"><title>${unit} ${point.step}: ${point.loss.toFixed(4)}</title></circle>`;
  });
  const label = (text: string, px: number, py: number, anchor: string) =>
    `<text x="${px}" y="${py}" text-anchor="${anchor}">${text}</text>`;
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Loss in nats per token, from ${unit} ${firstStep} to ${unit} ${lastStep}">`,
    `<path class="axis" d="M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - 8}"/>`,
    label(highest.toFixed(3), LEFT - 6, TOP + 10, 'end'),
    label(lowest.toFixed(3), LEFT - 6, HEIGHT - BOTTOM, 'end'),
    label(String(firstStep), LEFT, HEIGHT - 8, 'start'),
    label(`${unit} ${lastStep}`, WIDTH - 8, HEIGHT - 8, 'end'),
    line(training, 'training'),
    line(heldOut, 'held-out'),
    ...dots,
    '</svg>',
  ].join('');
}

/** Averages neighbouring points, so that at most MAX_POINTS remain. */
function thinned(points: readonly LossPoint[]): readonly LossPoint[] {
  const size = Math.ceil(points.length / MAX_POINTS);
  if (size === 1) return points;
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const some = points.slice(i * size, (i + 1) * size);
    const mean = (of: (point: LossPoint) => number) =>
      some.reduce((sum, point) => sum + of(point), 0) / some.length;
    return { step: mean(({ step }) => step), loss: mean(({ loss }) => loss) };
  });
}
