/** One run of the learning benchmark: a whole swarm in one process, with the real codec and the real merge. */

import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import { permutation, permutationKey } from '../../lora/data/permutation.ts';
import type { Row } from '../../lora/data/row.ts';
import type { AdamWState } from '../../lora/train/optimizer/adamw.ts';
import { freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { ErrorFeedback, outerStep, type Preset } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { mergeUpdates } from '../../verify/merge/merge-updates.ts';

export interface Variant {
  /** 'exact': uncompressed float32 updates, averaged. 'single': one machine that trains on all tokens in sequence. */
  readonly kind: Preset | 'exact' | 'single';
  /** Decay of the error feedback. */
  readonly decay: number;
  /**
   * The merge divides the weighted sum of a coordinate by the weight of the nodes that sent a value for it, but at
   * least by this fraction of the weight of all nodes. With 1, it always divides by the weight of all nodes.
   */
  readonly floor: number;
}

export interface Swarm {
  readonly nodes: number;
  readonly rounds: number;
  /** Number of optimiser steps of each node per round. */
  readonly steps: number;
  /** Number of rows per step. */
  readonly batchSize: number;
}

export interface LearningDeps {
  readonly trainer: Trainer;
  /** Trainers of the first nodes. All other nodes use `trainer`. @default none */
  readonly nodeTrainers?: readonly Trainer[];
  readonly rows: readonly Row[];
  readonly heldOut: readonly Row[];
  /** Called with the initial adapter and with the adapter of each round. @default does nothing */
  readonly onRound?: (adapter: Float32Array[]) => Promise<void>;
}

export interface Learned {
  /** Held-out loss after the last round, in nats per token. */
  loss: number;
  /** Encoded bytes per adapter parameter that a node sends in a round; 4 for float32. */
  bytesPerParameter: number;
}

/** Runs one variant. Equal seeds give all variants the same rows and initial adapter, so results are compared by seed. */
export async function learn(
  variant: Variant,
  swarm: Swarm,
  seed: number,
  deps: LearningDeps,
): Promise<Learned> {
  const { trainer } = deps;
  const nodes = Array.from(
    { length: swarm.nodes },
    (): Node => ({
      optimizer: freshOptimizer(trainer.layout),
      feedback: new ErrorFeedback({ layout: trainer.layout, decay: variant.decay }),
    }),
  );
  let adapter = initialMatrices(trainer.layout, seed);
  let residual: Uint8Array | null = null;
  let sentBytes = 0;
  await deps.onRound?.(adapter);
  for (let round = 1; round <= swarm.rounds; round++) {
    const shares = sharesOf(round, swarm, seed, deps.rows);
    if (variant.kind === 'single') {
      const all = shares.flat();
      const { after } = await trainNode(nodes[0]!, adapter, all, swarm.steps * swarm.nodes, trainer);
      adapter = after;
      await deps.onRound?.(adapter);
      continue;
    }
    const sent: { payload: Uint8Array; tokens: number }[] = [];
    const deltas: Float32Array[][] = [];
    for (const [i, node] of nodes.entries()) {
      const own = deps.nodeTrainers?.[i] ?? trainer;
      const { after, tokens } = await trainNode(node, adapter, shares[i]!, swarm.steps, own);
      const delta = adapter.map((values, t) => values.map((value, j) => value - after[t]![j]!));
      if (variant.kind === 'exact') {
        deltas.push(delta);
        continue;
      }
      node.feedback.add(delta);
      sent.push({ payload: node.feedback.compress(variant.kind), tokens });
    }
    if (variant.kind === 'exact') {
      adapter = outerStep(adapter, mean(deltas), 1);
      await deps.onRound?.(adapter);
      continue;
    }
    sentBytes += sent.reduce((sum, { payload }) => sum + payload.length, 0);
    ({ adapter, residual } = await merge(
      sent,
      { variant, preset: variant.kind, round, adapter, residual },
      trainer,
    ));
    await deps.onRound?.(adapter);
  }
  trainer.setParameters(adapter);
  const losses = await trainer.evaluate(deps.heldOut);
  const parameters = adapter.reduce((sum, { length }) => sum + length, 0);
  return {
    loss:
      losses.reduce((sum, row) => sum + row.lossSum, 0) / losses.reduce((sum, row) => sum + row.tokens, 0),
    bytesPerParameter: sentBytes > 0 ? sentBytes / (swarm.nodes * swarm.rounds * parameters) : 4,
  };
}

interface Node {
  optimizer: AdamWState;
  readonly feedback: ErrorFeedback;
}

/** Returns the rows of each node in a round. Chooses them as a coordinator does, so no two nodes get the same row. */
function sharesOf(
  round: number,
  { nodes, steps, batchSize }: Swarm,
  seed: number,
  rows: readonly Row[],
): Row[][] {
  const permute = permutation(
    rows.length,
    permutationKey({ job: String(seed), round, parent: '', epoch: 0 }),
  );
  const count = steps * batchSize;
  return Array.from({ length: nodes }, (_, node) =>
    Array.from({ length: count }, (_, i) => rows[permute((node * count + i) % rows.length)]!),
  );
}

async function trainNode(node: Node, adapter: Float32Array[], rows: Row[], steps: number, trainer: Trainer) {
  trainer.setParameters(adapter);
  trainer.setOptimizerState(node.optimizer);
  const { tokens } = await trainer.train({ rows, steps });
  node.optimizer = trainer.optimizerState();
  return { after: trainer.parameters(), tokens };
}

function mean(deltas: readonly Float32Array[][]): Float32Array[] {
  return deltas[0]!.map((values, t) =>
    values.map((_, j) => deltas.reduce((sum, delta) => sum + delta[t]![j]!, 0) / deltas.length),
  );
}

interface MergeContext {
  variant: Variant;
  preset: Preset;
  round: number;
  adapter: Float32Array[];
  residual: Uint8Array | null;
}

/** Runs the coordinator's merge on blobs in memory. */
async function merge(
  sent: readonly { payload: Uint8Array; tokens: number }[],
  { variant, preset, round, adapter, residual }: MergeContext,
  { layout }: Trainer,
): Promise<{ adapter: Float32Array[]; residual: Uint8Array }> {
  const blobs = new Map<string, Uint8Array>();
  const keep = (bytes: Uint8Array) => {
    const digest = sha256(bytes);
    blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  };
  const merged = await mergeUpdates(
    {
      layout,
      baseDigest: '0'.repeat(64),
      round,
      sources: sent.map(({ payload, tokens }, i) => ({
        peer: String(i).padStart(3, '0'),
        round,
        ...keep(payload),
        preset,
        tokens,
        maxTokens: tokens,
        belief: 1,
        person: String(i),
        isNewcomer: true,
      })),
      rate: 1,
      denominatorFloor: variant.floor,
      adapter: keep(encodeAdapter(layout, adapter, '0'.repeat(64))),
      residual: residual === null ? null : keep(residual).digest,
    },
    async (digest) => blobs.get(digest)!,
  );
  return { adapter: decodeAdapter(merged.adapter, layout), residual: merged.residual };
}
