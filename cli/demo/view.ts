import {
  countOf,
  formatBytes,
  formatChange,
  formatCount,
  formatDuration,
  formatLoss,
  lossPicture,
  safeText,
} from '../../common/text.ts';
import type { JobEvent } from '../../index.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { lostBecause } from '../views/events.ts';
import type { DemoEvent, DemoSummary } from './events.ts';

/** Turns the demo's events into lines of text. */
export class DemoView {
  readonly #names = new Map<string, string>();
  readonly #losses: { label: string; loss: number }[] = [];
  /** Texts about the updates of the open round, such as "otter 19 kB at 4,734 tokens/s". */
  #sent: string[] = [];

  lines(event: DemoEvent): string[] {
    switch (event.event) {
      case 'start':
        return [
          `one coordinator and ${countOf(event.nodes, 'node')} on this machine teach a small language model the voice of Moby-Dick`,
          '',
          `base       ${event.base}`,
          `text       ${event.chapters.train} chapters to train on, ${event.chapters.heldOut} for the gate, ${event.chapters.test} for the test at the end`,
          `files      ${event.folder}`,
        ];
      case 'coordinator-ready':
        return [`ready      coordinator ${event.peer} at ${event.addresses[0] ?? 'no address'}`];
      case 'job-created':
        this.#losses.push({ label: '0', loss: event.baseLoss });
        return [
          `job        ${event.name}, ${formatCount(event.parameters)} adapter parameters`,
          `base loss  ${formatLoss(event.baseLoss)} on the gate's held-out chapters`,
          '',
        ];
      case 'job-event':
        return this.#jobEvent(event);
      case 'node-lost':
        return [
          `! the process of node ${event.node} ended; the swarm continues. Its last lines:`,
          ...event.lines.map((l) => `  ${l}`),
        ];
      case 'sample':
        return sampleLines(event);
      case 'progress':
      case 'testing':
        return [];
      case 'summary':
        return this.#end(event);
    }
  }

  /** Returns the progress line of the open round. */
  progress(event: Extract<DemoEvent, { event: 'progress' }>): string {
    const nodes = event.nodes.map(
      (n) =>
        `${n.name} ${n.state === 'training' ? `${n.step}/${n.steps}` : n.state} ${formatCount(n.tokensPerSecond)} tok/s`,
    );
    return `round ${event.round}  ${event.phase}  ${nodes.join(', ')}`;
  }

  #jobEvent(event: JobEvent): string[] {
    switch (event.type) {
      case 'peer-joined':
        this.#names.set(event.peer, safeText(event.name, { maxCharacters: 24 }));
        return [`+ ${this.#name(event.peer)} ${shortPeer(event.peer)} joined over libp2p`];
      case 'peer-lost':
        return [`- ${this.#name(event.peer)} ${lostBecause(event.reason)}`];
      case 'round-opened':
        this.#sent = [];
        return [
          `round ${event.round}    training on ${countOf(event.peers, 'node')}, update preset "${event.preset}"`,
        ];
      case 'update':
        if (event.code === 'late') {
          return [`           ${this.#name(event.peer)}: update was late and counts in the next merge`];
        }
        if (event.code !== 'accepted') {
          return [
            `           ${this.#name(event.peer)}: update refused: ${event.code} ${safeText(event.detail)}`,
          ];
        }
        this.#sent.push(
          `${this.#name(event.peer)} ${formatBytes(event.bytes)} at ${formatCount(event.tokens / Math.max(event.seconds, 1e-3))} tokens/s`,
        );
        return [];
      case 'update-undone':
        return [
          `           ${this.#name(event.peer)}: update not merged: ${event.code} ${safeText(event.detail)}`,
        ];
      case 'round-closed':
        return [`           collected  ${this.#sent.join(', ')}`];
      case 'checkpoint':
        return this.#checkpoint(event);
      case 'rolled-back':
        this.#losses.push({ label: String(event.round), loss: event.heldOutLoss! });
        return [`           rolled back to round ${event.to}: ${safeText(event.reason)}`];
      case 'null-round':
        return [`           null round: ${safeText(event.reason)}`];
      default:
        return [];
    }
  }

  #checkpoint(event: Extract<JobEvent, { type: 'checkpoint' }>): string[] {
    if (event.round === 0 || event.heldOutLoss === null) return [];
    const change = event.heldOutLoss - this.#losses.at(-1)!.loss;
    this.#losses.push({ label: String(event.round), loss: event.heldOutLoss });
    return [
      `           committed  held-out loss ${formatLoss(event.heldOutLoss)} (${formatChange(change)}), ` +
        `${countOf(event.updates, 'update')}, ${formatCount(event.tokensPerSecond)} tokens/s, ${formatDuration(event.seconds)}`,
    ];
  }

  #end(summary: DemoSummary): string[] {
    const { baseLoss, finalLoss } = summary;
    return [
      '',
      "held-out loss by round, on the gate's chapters",
      ...lossPicture(this.#losses),
      '',
      `loss on chapters not used so far: ${formatLoss(baseLoss)} before, ${formatLoss(finalLoss)} after (${formatChange((finalLoss / baseLoss - 1) * 100, 1)} %)`,
      `${countOf(summary.peers, 'node')}, ${countOf(summary.rounds, 'round')} in ${formatDuration(summary.wallSeconds)}; each node sent ` +
        `${summary.bytesPerParameterPerRound.toFixed(3)} bytes per adapter parameter per round (float32: 4)`,
      `adapter    ${summary.adapter}`,
    ];
  }

  #name(peer: string): string {
    return this.#names.get(peer) ?? shortPeer(peer);
  }
}

function sampleLines({ prompt, before, after }: Extract<DemoEvent, { event: 'sample' }>): string[] {
  const show = (text: string): string => safeText(text, { maxCharacters: 600 });
  return ['', `before     "${prompt}${show(before)}"`, '', `after      "${prompt}${show(after)}"`];
}
