import { encodeCbor } from '../../protocol/cbor.ts';
import { BLOB_FRAME_BYTES } from '../../protocol/limits.ts';
import type { BlobReader } from '../../storage/blob-readers.ts';
import type { RateLimit } from '../bandwidth.ts';
import type { BandwidthClaimant } from '../byte-queue.ts';
import type { FrameStream } from '../frames.ts';
import type { AnswerBlock, AnswerBuffer } from './answer-buffer.ts';
import type { BlobAnswer, BlobRequest } from './wire.ts';

/**
 * Maximum number of bytes that are sent at once if the bandwidth is limited. It is one frame, because each frame that
 * arrives counts as progress for the fetcher.
 */
const PIECE_BYTES = BLOB_FRAME_BYTES;

/** The stream of an answer, and its buffer. */
export interface AnswerStream {
  frames: FrameStream;
  /** Returns the stream's buffer, which the first call allocates. Answers without bytes need no buffer. */
  buffer: () => AnswerBuffer;
}

/**
 * Sends a range of an open blob, or a status that says why the range cannot be sent. Returns the status that was sent.
 */
export async function answerFrom(
  reader: BlobReader | null,
  request: BlobRequest,
  {
    signal,
    progressed,
    upload,
    from,
    ...answer
  }: AnswerStream & {
    signal: AbortSignal;
    progressed: () => void;
    upload: RateLimit | undefined;
    from: BandwidthClaimant;
  },
): Promise<BlobAnswer['status']> {
  if (reader === null) return sendHeader(answer, { status: 'missing', total: 0 }, signal);
  const total = reader.size;
  const { offset, length } = request;
  if (offset + length > total) return sendHeader(answer, { status: 'range', total }, signal);
  let at = offset;
  for (const blocks of readTogether(answer.buffer(), { status: 'ok', total }, length)) {
    const targets = blocks.flatMap((block) => block.targets);
    await reader.readInto(at, targets);
    for (const target of targets) at += target.length;
    for (const { bytes } of blocks) {
      const length = (upload?.rate ?? null) === null ? bytes.length : PIECE_BYTES;
      for (let start = 0; start < bytes.length; start += length) {
        const piece = bytes.subarray(start, start + length);
        await upload?.take(piece.length, signal, from);
        await answer.frames.writeFramed(piece, signal);
        progressed();
      }
    }
  }
  return 'ok';
}

/**
 * Lays out an answer in groups of blocks. The blocks of a group are read from the disk together. If the buffer keeps
 * its memory for the next answer, all blocks are one group, because a single read is the cheapest. Otherwise each
 * block is a group, and is read only when the peer has taken the previous block, so a peer that does not read its
 * range takes little memory.
 */
function* readTogether(buffer: AnswerBuffer, header: BlobAnswer, length: number): Generator<AnswerBlock[]> {
  const blocks = buffer.lay(encodeCbor(header), length);
  if (buffer.keeps) yield [...blocks];
  else for (const block of blocks) yield [block];
}

/** Sends an answer without bytes. Returns its status. */
export async function sendHeader(
  { frames }: AnswerStream,
  answer: BlobAnswer,
  signal: AbortSignal,
): Promise<BlobAnswer['status']> {
  await frames.write([encodeCbor(answer)], signal);
  return answer.status;
}
