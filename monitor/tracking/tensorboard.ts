/**
 * Event files of TensorBoard. A file is a sequence of records, and each record is a protocol buffer of type `Event`.
 * @see tensorboard/compat/proto/event.proto and summary.proto for the messages; TensorFlow's record_writer.h for records
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { makeFolder } from '../../common/files/folders.ts';
import type { Point, Tracker } from './points.ts';

/** Numbers of the fields of `Event`, `Summary` and `Summary.Value`. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5 };
const SUMMARY_VALUE = 1;
const VALUE = { tag: 1, simpleValue: 2 };

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
  const seconds = Math.floor(job.createdAt / 1000);
  const file = await open(join(folder, `events.out.tfevents.${seconds}.lora-swarm`), 'w');
  await file.appendFile(record(versionEvent(seconds)));
  return {
    after: 0,
    add: (points) => file.appendFile(Buffer.concat(points.map((point) => record(scalarEvent(point))))),
    close: () => file.close(),
  };
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

function versionEvent(wallTime: number): Uint8Array {
  return new BinaryWriter()
    .tag(EVENT.wallTime, WireType.Bit64)
    .double(wallTime)
    .tag(EVENT.fileVersion, WireType.LengthDelimited)
    .string('brain.Event:2')
    .finish();
}

function scalarEvent({ round, at, values }: Point): Uint8Array {
  const event = new BinaryWriter()
    .tag(EVENT.wallTime, WireType.Bit64)
    .double(at / 1000)
    .tag(EVENT.step, WireType.Varint)
    .int64(round)
    .tag(EVENT.summary, WireType.LengthDelimited)
    .fork();
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
  return event.join().finish();
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
