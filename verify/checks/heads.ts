import { messageOf } from '../../common/errors.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import type { Head } from '../../protocol/messages.ts';
import { settingsAt, verifyHeadSettings } from '../../protocol/settings-chain.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts, SignedCheckpoint } from '../job-facts.ts';

/** Checks heads. Remembers the newest one, because heads of later checkpoints must be newer. */
export class HeadChecks {
  readonly #facts: JobFacts;
  #newest: Head | null = null;

  constructor(facts: JobFacts) {
    this.#facts = facts;
  }

  /**
   * Checks the heads that announce a checkpoint: their signatures, their order, and that they agree with the checkpoint.
   * @param ordinal number of checkpoints before this one; null if it is unknown
   * @returns the verified heads
   */
  check(
    envelopes: readonly Uint8Array[],
    signed: SignedCheckpoint,
    ordinal: number | null,
    findings: Findings,
  ): Head[] {
    return envelopes.flatMap((envelope) => {
      const head = this.checkAlone(envelope, findings);
      if (head === null) return [];
      this.#compare(head, signed, ordinal, findings);
      return [head];
    });
  }

  /**
   * Checks the signature, the order and the settings of a head whose checkpoint the source may lack.
   * @returns the verified head; null if the coordinator did not sign it
   */
  checkAlone(envelope: Uint8Array, findings: Findings): Head | null {
    const { coordinator, job } = this.#facts;
    findings.done('heads');
    try {
      const { author, message: head } = verifyMessage('head', envelope);
      if (author !== coordinator || head.job !== job) {
        const values = { author, job: head.job };
        findings.problem('VERIFY_SIGNATURE', `a head is signed by ${author} for job ${head.job}`, values);
        return null;
      }
      this.#checkOrder(head, findings);
      this.#compareSettings(head, findings);
      return head;
    } catch (error) {
      findings.problem('VERIFY_SIGNATURE', `a head is unreadable: ${messageOf(error)}`);
      return null;
    }
  }

  #checkOrder(head: Head, findings: Findings): void {
    const { term, sequence } = head;
    const before = this.#newest;
    this.#newest = head;
    if (before === null || isNewer(head, before)) return;
    const text = `head ${term}/${sequence} comes after head ${before.term}/${before.sequence}`;
    findings.problem('VERIFY_SOURCE', text, { term, sequence });
  }

  #compare(head: Head, signed: SignedCheckpoint, ordinal: number | null, findings: Findings): void {
    const { term, sequence } = head;
    const wrong = differences(head, signed, ordinal);
    if (wrong.length === 0) return;
    const text = `head ${term}/${sequence} and the checkpoint differ in: ${wrong.join(', ')}`;
    const { digest, round } = head.checkpoint;
    // A head of another checkpoint proves nothing if it is of another round or term. A coordinator that was
    // restored from a backup may make a round again, in a later term.
    const isOther =
      digest !== signed.digest && (round !== signed.checkpoint.round || term !== signed.checkpoint.term);
    findings.problem(isOther ? 'VERIFY_SOURCE' : 'VERIFY_HEAD', text, { term, sequence, fields: wrong });
  }

  #compareSettings(head: Head, findings: Findings): void {
    const { settings } = this.#facts;
    if (settings === null) return;
    const named = settings.find(({ digest }) => digest === head.settings?.record) ?? null;
    const applying = settingsAt(settings, head.round);
    // The operator can still change the settings of a round before the round opens. A head that was signed before such a
    // change has the settings of the earlier change that it names or, if it names none, the settings in the manifest.
    const isEarlier =
      head.phase !== 'training' &&
      (named !== null || head.settings === undefined) &&
      (named?.record.sequence ?? 0) < (applying?.record.sequence ?? 0);
    const change = isEarlier ? named : applying;
    if (change === null && head.settings === undefined) return;
    if (change === null || (head.settings !== undefined && named === null)) {
      findings.problem('VERIFY_SOURCE', `the head of round ${head.round} names an unknown change`);
      return;
    }
    try {
      verifyHeadSettings(head, change);
    } catch (error) {
      findings.problem('VERIFY_SETTINGS', messageOf(error));
    }
  }
}

/** Returns the names of the fields in which a head contradicts the checkpoint that it announces. */
function differences(head: Head, { digest, checkpoint }: SignedCheckpoint, ordinal: number | null): string[] {
  const { checkpoint: announced, included } = head;
  const { adapter, delta, parent, contributors, metrics, round } = checkpoint;
  const isDelta =
    announced.delta === null
      ? delta === null
      : announced.delta.digest === delta?.digest && announced.delta.parent === parent;
  const isIncluded =
    included.length === contributors.length &&
    included.every(({ peer, update }, i) => {
      const contributor = contributors[i]!;
      return contributor.peer === peer && contributor.update === update;
    });
  const agree: [string, boolean][] = [
    ['checkpoint.digest', announced.digest === digest],
    ['checkpoint.round', announced.round === round],
    [
      'checkpoint.ordinal',
      ordinal === null ? announced.ordinal <= announced.round : announced.ordinal === ordinal,
    ],
    ['checkpoint.adapter', announced.adapter.digest === adapter.digest],
    ['checkpoint.delta', isDelta],
    ['checkpoint.heldOutLoss', announced.heldOutLoss === metrics.heldOutLoss],
    ['included', isIncluded],
    ['term', head.term >= checkpoint.term],
    ['round', head.round >= round],
  ];
  return agree.filter(([, same]) => !same).map(([field]) => field);
}
