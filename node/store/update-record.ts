import type { Preset } from '../../lora/update/format.ts';
import type { Outcome } from '../../protocol/api/node.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import type { Row } from '../../storage/database.ts';

/** A stored update. Each round of a job has at most one. */
export interface UpdateRecord {
  readonly job: string;
  readonly round: number;
  /** Digest of the payload. The payload is kept as a blob until the update is settled. */
  readonly update: string;
  readonly bytes: number;
  readonly preset: Preset;
  /** The signed message, as it was first sent; null once the update is settled. */
  readonly envelope: Uint8Array<ArrayBuffer> | null;
  /** Outcome of the update; null until the update is settled. */
  readonly outcome: Outcome | null;
  readonly code: ReceiptCode | null;
  readonly detail: string;
  readonly at: number;
}

/** Returns the stored update in a row of the table `updates`. */
export function updateRecord(row: Row): UpdateRecord {
  const envelope = row.envelope as Uint8Array<ArrayBuffer>;
  return {
    job: String(row.job),
    round: Number(row.round),
    update: String(row.digest),
    bytes: Number(row.bytes),
    preset: row.preset as Preset,
    envelope: envelope.byteLength > 0 ? envelope : null,
    outcome: text(row.outcome) as Outcome | null,
    code: text(row.code) as ReceiptCode | null,
    detail: String(row.detail),
    at: Number(row.at),
  };
}

/** Returns the text in a column; null if the column is empty. */
export function text(value: Row[string] | undefined): string | null {
  return typeof value === 'string' ? value : null;
}
