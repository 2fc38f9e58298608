import type { MachineSpeed } from '../../lora/train/speed.ts';
import { formatBytes, formatCount, safeText, table } from '../../monitor/text.ts';
import type { Diagnosis, EngineReport } from '../doctor/diagnose.ts';

/** Reasons are a provider's own words. */
const REASON = { maxCharacters: 600 };

/** A diagnosis for people. */
export function doctorLines({ machine, threads, measured, engines, base, problems }: Diagnosis): string[] {
  const { instructions } = machine;
  const known = instructions === null ? '' : `; ${instructions.join(', ') || 'no vector instructions'}`;
  const missing = engines.filter(({ speed }) => speed === null);
  return [
    `machine    ${machine.platform}, Node.js ${machine.node}`,
    `processor  ${safeText(machine.processor)}, ${machine.threads} threads${known}`,
    `memory     ${formatBytes(machine.memory)}, ${formatBytes(machine.availableMemory)} available`,
    '',
    `measured with ${threads} ${threads === 1 ? 'thread' : 'threads'}: products of ${measured.tokens} × ${measured.width} by ` +
      `${measured.width} × ${3 * measured.width}`,
    ...table([
      ['engine', 'products', 'memory', 'an operation', ...(base === null ? [] : ['training'])],
      ...engines.map((report) => engineRow(report, base !== null)),
    ]),
    ...(missing.length === 0 ? [] : ['']),
    ...missing.flatMap(({ engine, reason, needs }) => [
      `${engine}: ${safeText(reason ?? '', REASON)}`,
      ...(needs === null ? [] : [`  ${safeText(needs, REASON)}`]),
    ]),
    ...(base === null
      ? ['', 'add --model MODEL for the tokens per second to expect of a base']
      : [
          '',
          `base       ${safeText(base.model)}, ${formatCount(base.parameters)} parameters; training with ` +
            `${base.rows} rows of ${base.sequenceLength} tokens takes ${formatBytes(base.memory)} on the processor${base.checkpointing ? ', with gradient checkpointing, as it does not fit without' : ''}`,
          `auto       takes ${base.chosen.engine}: ${base.chosen.reason}`,
        ]),
    ...problems.map((problem) => `problem    ${problem}`),
  ];
}

function engineRow(report: EngineReport, withBase: boolean): string[] {
  const { engine, speed, software } = report;
  if (speed === null) return [engine, software ? 'no GPU' : 'does not run here', '', ''];
  return [
    engine,
    productSpeeds(speed),
    `${(speed.bytes / 1e9).toFixed(0)} GB/s`,
    `${(speed.secondsPerOperation * 1e6).toPrecision(2)} µs`,
    ...(withBase ? [trainingSpeeds(report)] : []),
  ];
}

function productSpeeds({ flops, float16Flops }: MachineSpeed): string {
  const inFloat16 = float16Flops === undefined ? '' : `, ${formatCount(float16Flops / 1e9)} in float16`;
  return `${formatCount(flops / 1e9)} GFLOP/s${inFloat16}`;
}

function trainingSpeeds({
  tokensPerSecond,
  tokensPerSecondInFloat16: inFloat16,
  tokensPerSecondIn8Bits: in8Bits,
}: EngineReport): string {
  const faster = [
    ...(inFloat16 === null ? [] : [`about ${formatCount(inFloat16)} with --precision float16`]),
    ...(in8Bits === null ? [] : [`about ${formatCount(in8Bits)} with --base-bits 8`]),
  ];
  const more = faster.length === 0 ? '' : ` (${faster.join(', ')})`;
  return `about ${formatCount(tokensPerSecond ?? 0)} tokens/s${more}`;
}
