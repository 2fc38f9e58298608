/**
 * Event files of TensorBoard. A file is a sequence of records, and each record is a protocol buffer of type `Event`.
 * @see tensorboard/compat/proto/event.proto and summary.proto for the messages; TensorFlow's record_writer.h for records
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { makeFolder } from '../../common/files/folders.ts';
import type { Point, Tracker } from './points.ts';

/** Numbers of the fields of `Event`, `Summary`, `Summary.Value` and `SessionLog`. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 };
const SUMMARY_VALUE = 1;
const VALUE = { tag: 1, simpleValue: 2 };
const SESSION_STATUS = 1;
const SESSION_START = 1;

/** Figures of one step of a curve. */
export interface Scalars {
  readonly step: number;
  /** Time of the step, in ms since the epoch. */
  readonly at: number;
  /** Values by their tags. */
  readonly values: Readonly<Record<string, number>>;
}

/**
 * Writes the figures of a job as scalars. TensorBoard shows the folder of the file as a run. The name of the file depends
 * on the job alone, so a second call writes the same file again, and TensorBoard shows no point twice.
 * @param folder the folder of the run
 * @param job when the job was created, in ms since the epoch, and its name
 */
export async function openTensorboard(
  folder: string,
  job: { name: string; createdAt: number },
): Promise<Tracker> {
  await makeFolder(folder, {});
  const file = await open(join(folder, eventFileName(job.createdAt)), 'w');
  await file.appendFile(versionRecord(job.createdAt));
  return {
    after: 0,
    add: (points) => file.appendFile(Buffer.concat(points.map(pointRecord))),
    close: () => file.close(),
  };
}

function pointRecord({ round, at, values }: Point): Uint8Array {
  return scalarRecord({ step: round, at, values });
}

/** Returns the name of an event file. TensorBoard reads the files of a folder in the order of their names. @param at in ms since the epoch */
export function eventFileName(at: number): string {
  return `events.out.tfevents.${Math.floor(at / 1000)}.lora-swarm`;
}

/** Returns a record: length, checksum of the length, data, checksum of the data. Numbers are little-endian. */
function record(data: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(8 + 4 + data.length + 4);
  bytes.writeBigUInt64LE(BigInt(data.length), 0);
  bytes.writeUInt32LE(maskedCrc(bytes.subarray(0, 8)), 8);
  bytes.set(data, 12);
  bytes.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return bytes;
}

/** Returns the record with which each event file begins. @param at time at which the file was begun, in ms since the epoch */
export function versionRecord(at: number): Uint8Array {
  const event = eventAt(Math.floor(at / 1000) * 1000)
    .tag(EVENT.fileVersion, WireType.LengthDelimited)
    .string('brain.Event:2');
  return record(event.finish());
}

/** Returns a record after which TensorBoard drops the points of this step and of later steps that it read before. */
export function startRecord(at: number, step: number): Uint8Array {
  const event = eventAt(at, step)
    .tag(EVENT.sessionLog, WireType.LengthDelimited)
    .fork()
    .tag(SESSION_STATUS, WireType.Varint)
    .int32(SESSION_START);
  return record(event.join().finish());
}

export function scalarRecord({ step, at, values }: Scalars): Uint8Array {
  const event = eventAt(at, step).tag(EVENT.summary, WireType.LengthDelimited).fork();
  for (const [tag, value] of Object.entries(values)) {
    event
      .tag(SUMMARY_VALUE, WireType.LengthDelimited)
      .fork()
      .tag(VALUE.tag, WireType.LengthDelimited)
      .string(tag)
      .tag(VALUE.simpleValue, WireType.Bit32)
      .float(value)
      .join();
  }
  return record(event.join().finish());
}

function eventAt(at: number, step = 0): BinaryWriter {
  const event = new BinaryWriter().tag(EVENT.wallTime, WireType.Bit64).double(at / 1000);
  return step === 0 ? event : event.tag(EVENT.step, WireType.Varint).int64(step);
}

/** CRC-32C (Castagnoli), which `zlib.crc32` does not compute. @see RFC 3720, appendix B.4 */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Returns the masked CRC-32C of the TFRecord format. The mask is needed because a record may contain other records, and
 * a CRC of data that already contains plain CRCs is a weak check.
 */
function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
