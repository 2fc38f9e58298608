import { isSwarmError, messageOf } from '../../common/errors.ts';
import { decodeAdapter, encodeAdapter, MAX_ADAPTER_HEADER_BYTES } from '../../lora/adapter/codec.ts';
import { decodeHeader } from '../../lora/models/weights/safetensors.ts';
import { applyDelta, type UpdateLayout } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { ClaimedUpdate } from '../../protocol/evidence.ts';
import { UPDATE_BYTES } from '../../protocol/limits.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts, SignedCheckpoint } from '../job-facts.ts';
import { type Merged, mergeUpdates } from '../merge/merge-updates.ts';
import { readBlob } from '../read-blob.ts';
import { largestAdapter } from './adapter-size.ts';

/** The residual before a merge: computed here, or claimed by the source. */
type Residual =
  | { readonly kind: 'computed'; readonly bytes: Uint8Array | null }
  /** `digest` is null if the source does not name the residual. A coordinator deletes the residuals of old rounds. */
  | { readonly kind: 'claimed'; readonly digest: string | null };

/** A blob that the source does not have. */
class Missing extends Error {}

/**
 * Computes merges again. Keeps the newest adapter and residual in memory, because the next merge starts from them. The
 * residual comes from the source only if the previous merge was not computed again.
 */
export class Recomputation {
  readonly #facts: JobFacts;
  #layout: UpdateLayout | null = null;
  #adapter: { digest: string; bytes: Uint8Array } | null = null;
  #residual: Residual = { kind: 'claimed', digest: null };

  constructor(facts: JobFacts) {
    this.#facts = facts;
  }

  /** Returns whether this adapter is the newest one whose bytes have been checked. */
  holds(digest: string): boolean {
    return this.#adapter?.digest === digest;
  }

  /** Records that the residual is now zero, as after the first checkpoint of a job and after a roll-back. */
  restart(): void {
    this.#residual = { kind: 'computed', bytes: null };
  }

  /** Records the residual that the source names after a checkpoint whose merge was not computed again. */
  claim(digest: string | null): void {
    this.#residual = { kind: 'claimed', digest };
  }

  /** Returns the adapter of a checkpoint that has been checked; null if the source does not have the adapter. */
  async adapterOf({ adapter }: Checkpoint, findings: Findings): Promise<Uint8Array | null> {
    if (this.#adapter?.digest === adapter.digest) return this.#adapter.bytes;
    return readBlob(this.#facts, { ...adapter, maxBytes: largestAdapter(this.#facts.manifest) }, findings);
  }

  /** Computes the merge of a checkpoint again. If the source lacks blobs for that, checks at least the adapter. */
  async check(
    { checkpoint }: SignedCheckpoint,
    parent: Checkpoint,
    { updates, claimed }: { updates: readonly (ClaimedUpdate | null)[]; claimed: string | null },
    findings: Findings,
  ): Promise<void> {
    const residual = this.#residual;
    this.claim(claimed);
    const before = await this.adapterOf(parent, findings);
    if (before === null) {
      const { reasons } = this.#facts.record.partial ?? {};
      findings.skip('merge', reasons?.updates ?? 'the source does not have the adapter of the parent');
      await this.checkStored(checkpoint, findings);
      return;
    }
    const merged = await this.#merge(checkpoint, parent, { before, residual, updates }, findings);
    if (merged === null) return this.#checkDelta(checkpoint, before, findings);
    if (residual.kind === 'claimed') {
      findings.skip(
        'merge',
        'the residual before this merge is taken from the source, and no signature covers it',
      );
    }
    if (residual.kind === 'claimed' && !gives(merged, checkpoint)) {
      const text = 'the merge with the residual of the source does not give the delta and the adapter';
      findings.problem('VERIFY_SOURCE', text, { residual: residual.digest });
      return this.#checkDelta(checkpoint, before, findings);
    }
    this.#compare(checkpoint, merged, claimed, findings);
    if (!findings.recomputed) return;
    this.#residual = { kind: 'computed', bytes: merged.residual };
    this.#adapter = { digest: sha256(merged.adapter), bytes: merged.adapter };
  }

  /** Checks the bytes of a checkpoint's adapter, if the source has them. */
  async checkStored({ adapter }: Pick<Checkpoint, 'adapter'>, findings: Findings): Promise<void> {
    const { manifest, record } = this.#facts;
    const wanted = { ...adapter, maxBytes: largestAdapter(manifest) };
    const bytes =
      this.#adapter?.digest === adapter.digest
        ? this.#adapter.bytes
        : await readBlob(this.#facts, wanted, findings);
    if (bytes === null) {
      const reason = record.partial?.reasons.adapters ?? 'the source does not have the adapter';
      return findings.skip('adapter', reason);
    }
    findings.done('adapter');
    try {
      decodeAdapter(bytes, this.layoutOf(bytes));
      this.#adapter = { digest: adapter.digest, bytes };
    } catch (error) {
      findings.problem('VERIFY_MERGE', `the adapter cannot be read: ${messageOf(error)}`, { ...adapter });
    }
  }

  async #merge(
    checkpoint: Checkpoint,
    parent: Checkpoint,
    start: { before: Uint8Array; residual: Residual; updates: readonly (ClaimedUpdate | null)[] },
    findings: Findings,
  ): Promise<Merged | null> {
    const { manifest, record } = this.#facts;
    const { residual, updates, before } = start;
    if (record.partial && updates.includes(null)) {
      findings.skip('merge', record.partial.reasons.updates);
      return null;
    }
    if (residual.kind === 'claimed' && residual.digest === null) {
      findings.skip(
        'merge',
        'the source does not have the residual before this merge; it keeps residuals for 8 rounds',
      );
      return null;
    }
    if (updates.includes(null)) {
      findings.skip(
        'merge',
        'the source lacks a signed update or its payload; it keeps payloads for 8 rounds',
      );
      return null;
    }
    const computed = residual.kind === 'computed' ? residual.bytes : null;
    const own = computed === null ? null : sha256(computed);
    const given = new Map([[parent.adapter.digest, before], ...(own ? [[own, computed!] as const] : [])]);
    const read = async (digest: string, maxBytes: number): Promise<Uint8Array> => {
      const bytes =
        given.get(digest) ?? (await readBlob(this.#facts, { digest, size: null, maxBytes }, findings));
      if (bytes === null) throw new Missing(digest);
      return bytes;
    };
    const sources = checkpoint.contributors.map(({ peer, round, update: digest, tokens }, i) => {
      const { preset, payload } = updates[i]!.update;
      const unused = { maxTokens: tokens, belief: 1, person: peer, isNewcomer: false };
      return { peer, round, digest, tokens, preset, size: payload.size, ...unused };
    });
    try {
      const input = {
        layout: this.layoutOf(before),
        baseDigest: manifest.base.digest,
        round: checkpoint.round,
        sources,
        weights: checkpoint.contributors.map(({ weight }) => weight),
        rate: checkpoint.metrics.outerRate,
        denominatorFloor: manifest.rounds.denominatorFloor,
        adapter: parent.adapter,
        residual: residual.kind === 'computed' ? own : residual.digest,
      };
      let merged = await mergeUpdates(input, read);
      if (input.residual !== null && !gives(merged, checkpoint)) {
        // Try zeros instead of the residual, because a coordinator that lost the residual merges with zeros.
        const fromZeros = await mergeUpdates({ ...input, residual: null }, read);
        if (gives(fromZeros, checkpoint)) {
          findings.skip(
            'merge',
            'the coordinator computed the merge with zeros instead of the residual, probably because it has lost the residual',
          );
          merged = fromZeros;
        }
      }
      findings.done('merge');
      return merged;
    } catch (error) {
      this.#facts.signal.throwIfAborted();
      if (error instanceof Missing) {
        findings.skip(
          'merge',
          'the source does not have a payload or the residual; a coordinator keeps both only for the newest rounds',
        );
        return null;
      }
      if (!isSwarmError(error)) throw error;
      findings.done('merge');
      // This problem proves nothing against the coordinator. The preset of a payload comes from the signed
      // update, and the source chooses this update.
      findings.problem('VERIFY_SOURCE', `the updates cannot be merged: ${error.message}`, {
        cause: error.code,
      });
      return null;
    }
  }

  #compare(checkpoint: Checkpoint, merged: Merged, claimed: string | null, findings: Findings): void {
    const adapter = sha256(merged.adapter);
    const delta = sha256(merged.delta);
    const off = (what: string, published: unknown, computed: unknown): void => {
      const text = `the merge gives the ${what} ${computed}, but the checkpoint says ${published}`;
      findings.problem('VERIFY_MERGE', text, { what, published, computed });
    };
    const { metrics } = checkpoint;
    if (delta !== checkpoint.delta?.digest) off('delta', checkpoint.delta?.digest ?? null, delta);
    if (adapter !== checkpoint.adapter.digest) off('adapter', checkpoint.adapter.digest, adapter);
    else if (merged.drift !== metrics.drift) off('drift', metrics.drift, merged.drift);
    findings.recomputed = gives(merged, checkpoint);
    const residual = sha256(merged.residual);
    if (findings.recomputed && claimed !== null && claimed !== residual) {
      const text = `the merge gives the residual ${residual}, but the source names ${claimed}`;
      findings.problem('VERIFY_SOURCE', text, { published: claimed, computed: residual });
    }
  }

  /** Checks that the delta of a checkpoint turns the adapter of its parent into the adapter of the checkpoint. */
  async #checkDelta(checkpoint: Checkpoint, before: Uint8Array, findings: Findings): Promise<void> {
    const { delta, adapter } = checkpoint;
    const wanted = delta && { ...delta, maxBytes: UPDATE_BYTES };
    const bytes = wanted && (await readBlob(this.#facts, wanted, findings));
    if (bytes === null) return this.checkStored(checkpoint, findings);
    findings.done('adapter');
    try {
      const layout = this.layoutOf(before);
      const tensors = applyDelta(layout, decodeAdapter(before, layout), bytes);
      const after = encodeAdapter(layout, tensors, this.#facts.manifest.base.digest);
      const digest = sha256(after);
      if (digest === adapter.digest) this.#adapter = { digest, bytes: after };
      else {
        const text = `the delta gives the adapter ${digest}, but the checkpoint says ${adapter.digest}`;
        findings.problem('VERIFY_MERGE', text, { published: adapter.digest, computed: digest });
      }
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      findings.problem('VERIFY_MERGE', `the delta cannot be applied: ${error.message}`, {
        cause: error.code,
      });
    }
  }

  /** Returns the layout of the job's adapters, from the first adapter that is read. All adapters must have this layout. */
  layoutOf(bytes: Uint8Array): UpdateLayout {
    this.#layout ??= [...decodeHeader(bytes, 'adapter_model.safetensors', MAX_ADAPTER_HEADER_BYTES).entries]
      .map(([name, { shape }]) => ({ name, shape }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    return this.#layout;
  }
}

/** Returns whether a merge gives the adapter and the delta of a checkpoint. */
function gives({ adapter, delta }: Merged, checkpoint: Checkpoint): boolean {
  return sha256(adapter) === checkpoint.adapter.digest && sha256(delta) === checkpoint.delta?.digest;
}
