import { bundleSource } from '../../../coordinator/record/job-record.ts';
import type {
  Checkpoint,
  Figures,
  Head,
  MessageKind,
  Receipt,
  SettingsRecord,
} from '../../../protocol/messages.ts';
import { type Signer, signMessage, verifyMessage } from '../../../protocol/signing.ts';
import type { BundleSource } from '../../../verify/bundle/encode.ts';
import type { CheckpointRecord, JobRecord, UpdateProof } from '../../../verify/record.ts';
import { ToySwarm } from '../coordinator/toy-swarm.ts';
import { COORDINATOR, type WorldOptions } from '../coordinator/world.ts';

/** The record of a job in memory, with its blobs. */
export interface KeptJob {
  readonly manifest: Uint8Array;
  readonly settings: readonly Uint8Array[];
  readonly records: readonly CheckpointRecord[];
  readonly blobs: ReadonlyMap<string, Uint8Array>;
}

/** Runs a job of three rounds with three honest nodes, and returns its coordinator and its record. */
export async function playedJob(
  options: WorldOptions = {},
): Promise<{ swarm: ToySwarm; kept: KeptJob; source: BundleSource }> {
  const swarm = new ToySwarm(['honest', 'honest', 'honest'], { namesCoordinator: true, ...options });
  await swarm.play(await swarm.start(), 3);
  return { swarm, source: sourceOf(swarm), kept: keptOf(swarm) };
}

function sourceOf({ world }: ToySwarm): BundleSource {
  return bundleSource(world.run, { withBlobs: true });
}

/** Returns the record of a job that was played. */
export function keptOf(swarm: ToySwarm): KeptJob {
  const { manifest, settings, checkpoints } = sourceOf(swarm);
  const blobs = new Map(swarm.world.disk.files);
  return { manifest, settings, records: [...checkpoints()], blobs };
}

/** Returns the record of a job in the form that the verification reads. */
export function recordOf({ manifest, settings, records, blobs }: KeptJob): JobRecord {
  return {
    manifest,
    settings,
    async *checkpoints() {
      yield* records;
    },
    blob: async ({ digest }) => blobs.get(digest) ?? null,
  };
}

/** Changes of the newest checkpoint of a job. The coordinator's key signs all messages again. */
export interface Forgery {
  checkpoint?: (checkpoint: Checkpoint) => Partial<Checkpoint>;
  /** Changes the head, after it has been made to fit the changed checkpoint. */
  head?: (head: Head) => Partial<Head>;
  figures?: (figures: Figures) => Partial<Figures>;
  receipt?: (receipt: Receipt) => Partial<Receipt>;
  proofs?: (proofs: readonly (UpdateProof | null)[]) => (UpdateProof | null)[];
  settings?: SettingsRecord[];
}

/** Returns a job whose newest checkpoint is forged by the coordinator itself. */
export function forged(kept: KeptJob, forgery: Forgery): KeptJob {
  const last = kept.records.at(-1)!;
  const body = verifyMessage('checkpoint', last.checkpoint).message;
  const checkpoint = { ...body, ...forgery.checkpoint?.(body) };
  const envelope = signMessage('checkpoint', checkpoint, COORDINATOR);
  const { digest } = verifyMessage('checkpoint', envelope);
  const head = verifyMessage('head', last.heads[0]!).message;
  const { adapter, delta, parent, contributors, metrics, round } = checkpoint;
  const fitting: Head = {
    ...head,
    checkpoint: {
      ...head.checkpoint,
      digest,
      round,
      adapter,
      delta: delta && { parent: parent!, ...delta },
      heldOutLoss: metrics.heldOutLoss,
    },
    included: contributors.map(({ peer, update }) => ({ peer, update })),
  };
  const figures = verifyMessage('figures', last.figures!).message;
  const proofs = forgery.proofs?.(last.proofs) ?? last.proofs.slice(0, contributors.length);
  const record: CheckpointRecord = {
    ...last,
    checkpoint: envelope,
    heads: [signMessage('head', { ...fitting, ...forgery.head?.(fitting) }, COORDINATOR)],
    figures: signMessage('figures', { ...figures, ...forgery.figures?.(figures) }, COORDINATOR),
    proofs: proofs.map((proof) => {
      if (!proof?.receipt || !forgery.receipt) return proof;
      const receipt = verifyMessage('receipt', proof.receipt).message;
      const changed = { ...receipt, ...forgery.receipt(receipt) };
      return { ...proof, receipt: signMessage('receipt', changed, COORDINATOR) };
    }),
  };
  const settings = forgery.settings?.map((change) => signMessage('settings', change, COORDINATOR));
  return {
    ...kept,
    records: [...kept.records.slice(0, -1), record],
    ...(settings && { settings }),
  };
}

/** Returns the job with the signatures of another coordinator. Its manifest must not name a coordinator. */
export function signedAgain(kept: KeptJob, signer: Signer): KeptJob {
  const again = <K extends MessageKind>(kind: K, bytes: Uint8Array): Uint8Array =>
    signMessage(kind, verifyMessage(kind, bytes).message, signer);
  return {
    ...kept,
    manifest: again('manifest', kept.manifest),
    records: kept.records.map(({ checkpoint, proofs, figures, heads, ...others }) => ({
      ...others,
      checkpoint: again('checkpoint', checkpoint),
      heads: heads.map((head) => again('head', head)),
      figures: figures && again('figures', figures),
      proofs: proofs.map(
        (proof) => proof && { ...proof, receipt: proof.receipt && again('receipt', proof.receipt) },
      ),
    })),
  };
}

/** Returns a job whose source lacks blobs. */
export function without(kept: KeptJob, digests: readonly (string | null | undefined)[]): KeptJob {
  return { ...kept, blobs: new Map([...kept.blobs].filter(([digest]) => !digests.includes(digest))) };
}

/** Returns bytes with one bit changed. */
export function flipped(bytes: Uint8Array, at = bytes.length - 1): Uint8Array {
  return bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
}
